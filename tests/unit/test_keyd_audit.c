/* The audit log: what is written verifies, every kind of tampering is found and named, an end at any point
 * and a full disk lose nothing. */
#include "support.h"

#include "audit.h"
#include "latchfs/auditlog.h"
#include "latchfs/err.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#define RECORDS 12u /* audit-begin and eleven acts */

/* ---- a log in memory, made as keyd makes it ---- */

struct log {
    char *lines[64]; /* with newline */
    size_t count;
    uint8_t first[LFS_KEY_BYTES];
    struct audit_head head; /* of the last record as written */
};

static char *make_line(uint8_t key[static LFS_KEY_BYTES], uint64_t seq, const char *middle,
                       uint8_t hash[static 32])
{
    char hex[65], *line = malloc(AUDIT_LINE_MAX);
    uint8_t mac[32];
    assert_non_null(line);
    int n = snprintf(line, AUDIT_LINE_MAX,
                     "{\"seq\":%llu,\"time\":\"2026-01-02T03:04:05.678Z\",%s,\"prev\":\"%s\"",
                     (unsigned long long)seq, middle, sodium_bin2hex(hex, sizeof hex, hash, 32));
    audit_line_mac(key, line, (size_t)n, mac);
    n += snprintf(line + n, AUDIT_LINE_MAX - (size_t)n, ",\"mac\":\"%s\"}",
                  sodium_bin2hex(hex, sizeof hex, mac, 32));
    audit_line_hash(line, (size_t)n, hash);
    audit_key_next(key);
    strcpy(line + n, "\n");
    return line;
}

static struct log make_log(size_t count)
{
    struct log l = {.count = count};
    uint8_t key[LFS_KEY_BYTES], hash[32] = {0};
    memset(l.first, 7, sizeof l.first);
    memcpy(key, l.first, sizeof key);
    for (size_t i = 0; i < count; i++) {
        char middle[100];
        if (i == 0)
            snprintf(middle, sizeof middle, "\"act\":\"audit-begin\",\"chain\":\"%032d\"", 0);
        else
            snprintf(middle, sizeof middle, "\"act\":\"lease\",\"result\":\"ok\",\"detail\":\"%zu\"", i);
        l.lines[i] = make_line(key, i + 1, middle, hash);
    }
    l.head.seq = count;
    memcpy(l.head.hash, hash, sizeof hash);
    return l;
}

static void drop_log(struct log *l)
{
    for (size_t i = 0; i < l->count; i++)
        free(l->lines[i]);
}

static void put_in(struct log *l, size_t at, const char *line)
{
    memmove(&l->lines[at + 1], &l->lines[at], (l->count++ - at) * sizeof *l->lines);
    l->lines[at] = strdup(line);
}

static char *take_out(struct log *l, size_t at)
{
    char *line = l->lines[at];
    memmove(&l->lines[at], &l->lines[at + 1], (--l->count - at) * sizeof *l->lines);
    return line;
}

static struct audit_verdict check(const struct log *l, bool key, bool head, size_t cut)
{
    size_t len = 0;
    char *text = malloc(64 * AUDIT_LINE_MAX);
    struct audit_verdict v;
    for (size_t i = 0; i < l->count; i++) {
        memcpy(text + len, l->lines[i], strlen(l->lines[i]));
        len += strlen(l->lines[i]);
    }
    char *exact = exact_copy(text, len - cut);
    free(text);
    struct audit_check in = {
        .text = exact, .len = len - cut, .first_key = key ? l->first : NULL, .head = head ? &l->head : NULL};
    assert_int_equal(audit_check(&in, &v), 0);
    free(exact);
    return v;
}

/* One finding and no other. */
static void finds(const struct log *l, bool key, bool head, struct audit_finding want)
{
    struct audit_verdict v = check(l, key, head, 0);
    if (v.count != 1 || v.findings[0].kind != want.kind || v.findings[0].line != want.line ||
        v.findings[0].from != want.from || v.findings[0].to != want.to || v.findings[0].noted != want.noted) {
        for (size_t i = 0; i < v.count; i++)
            print_message("kind %d line %d from %d to %d noted %d\n", v.findings[i].kind,
                          (int)v.findings[i].line, (int)v.findings[i].from, (int)v.findings[i].to,
                          v.findings[i].noted);
        fail_msg("wanted only kind %d line %d from %d to %d (key %d)", want.kind, (int)want.line,
                 (int)want.from, (int)want.to, key);
    }
    assert_int_equal(v.good, want.kind == AUDIT_LOST);
    audit_verdict_clear(&v);
}

static void whole_is_good(void **state)
{
    struct log l = make_log(RECORDS);
    for (int i = 0; i < 4; i++) {
        struct audit_verdict v = check(&l, i & 1, i & 2, 0);
        assert_true(v.good);
        assert_int_equal(v.count, 0);
        assert_int_equal(v.records, RECORDS);
        assert_int_equal(v.last_seq, RECORDS);
        audit_verdict_clear(&v);
    }
    drop_log(&l);
}

/* Each byte of each line, changed in its middle so that it stays a record. */
static void changed_is_named(void **state)
{
    for (int key = 0; key < 2; key++)
        for (size_t i = 1; i < RECORDS; i++) {
            struct log l = make_log(RECORDS);
            char *at = strstr(l.lines[i], "lease");
            memcpy(at, "loose", 5);
            /* Without a key and a head, nothing vouches for the last one. */
            finds(&l, key, true,
                  (struct audit_finding){.kind = key || i + 1 < RECORDS ? AUDIT_CHANGED : AUDIT_CHANGED,
                                         .line = i + 1,
                                         .from = i + 1});
            drop_log(&l);
        }
}

static void every_bit_counts(void **state)
{
    struct log l = make_log(3);
    size_t n = strlen(l.lines[1]) - 1;
    for (size_t at = 0; at < n; at++)
        for (int bit = 0; bit < 8; bit++) {
            l.lines[1][at] = (char)(l.lines[1][at] ^ (1 << bit));
            if (l.lines[1][at] != '\n' && l.lines[1][at]) {
                struct audit_verdict v = check(&l, true, true, 0), w = check(&l, false, true, 0);
                if (v.good || w.good)
                    fail_msg("byte %zu, bit %d", at, bit);
                audit_verdict_clear(&v);
                audit_verdict_clear(&w);
            }
            l.lines[1][at] = (char)(l.lines[1][at] ^ (1 << bit));
        }
    drop_log(&l);
}

static void missing_is_named(void **state)
{
    for (int key = 0; key < 2; key++) {
        struct log l = make_log(RECORDS);
        free(take_out(&l, 4));
        finds(&l, key, true, (struct audit_finding){.kind = AUDIT_MISSING, .line = 5, .from = 5, .to = 5});
        free(take_out(&l, 4));
        free(take_out(&l, 4));
        finds(&l, key, true, (struct audit_finding){.kind = AUDIT_MISSING, .line = 5, .from = 5, .to = 7});
        drop_log(&l);
        l = make_log(RECORDS);
        free(take_out(&l, 0));
        free(take_out(&l, 0));
        finds(&l, key, true, (struct audit_finding){.kind = AUDIT_MISSING, .line = 1, .from = 1, .to = 2});
        drop_log(&l);
    }
}

static void cut_off_is_named(void **state)
{
    for (int key = 0; key < 2; key++) {
        struct log l = make_log(RECORDS);
        free(take_out(&l, RECORDS - 1));
        free(take_out(&l, RECORDS - 2));
        finds(&l, key, true,
              (struct audit_finding){
                  .kind = AUDIT_CUT, .line = RECORDS - 1, .from = RECORDS - 1, .to = RECORDS});
        drop_log(&l);
    }
}

static void half_is_named(void **state)
{
    struct log l = make_log(RECORDS);
    struct audit_verdict v = check(&l, true, false, 9);
    assert_int_equal(v.count, 1);
    assert_int_equal(v.findings[0].kind, AUDIT_HALF);
    assert_int_equal(v.findings[0].line, RECORDS);
    audit_verdict_clear(&v);
    drop_log(&l);
}

static void order_is_named(void **state)
{
    static const struct {
        size_t from, to, line, seq;
    } moves[] = {{4, 8, 9, 5}, {8, 4, 5, 9}, {1, 2, 2, 3}, {0, 11, 12, 1}};
    for (int key = 0; key < 2; key++)
        for (size_t i = 0; i < COUNT(moves); i++) {
            struct log l = make_log(RECORDS);
            char *line = take_out(&l, moves[i].from);
            put_in(&l, moves[i].to, line);
            free(line);
            if (i == 2) { /* two neighbours changed places: either is the moved one */
                struct audit_verdict v = check(&l, key, true, 0);
                assert_int_equal(v.count, 1);
                assert_int_equal(v.findings[0].kind, AUDIT_MOVED);
                assert_in_range(v.findings[0].line, 2, 3);
                audit_verdict_clear(&v);
            } else
                finds(
                    &l, key, true,
                    (struct audit_finding){.kind = AUDIT_MOVED, .line = moves[i].line, .from = moves[i].seq});
            drop_log(&l);
        }
}

static void inserted_is_named(void **state)
{
    for (int key = 0; key < 2; key++) {
        struct log l = make_log(RECORDS);
        put_in(&l, 4, "anything\n");
        finds(&l, key, true, (struct audit_finding){.kind = AUDIT_INSERTED, .line = 5});
        drop_log(&l);
        l = make_log(RECORDS);
        put_in(&l, 9, l.lines[2]);
        finds(&l, key, true, (struct audit_finding){.kind = AUDIT_COPY, .line = 10, .from = 3});
        drop_log(&l);
        l = make_log(RECORDS); /* well formed and fitting, but made without the key */
        uint8_t wrong[LFS_KEY_BYTES] = {1}, hash[32];
        audit_line_hash(l.lines[3], strlen(l.lines[3]) - 1, hash);
        char *forged = make_line(wrong, 5, "\"act\":\"lock\"", hash);
        put_in(&l, 4, forged);
        finds(&l, key, true, (struct audit_finding){.kind = AUDIT_INSERTED, .line = 5, .from = 5});
        free(forged);
        drop_log(&l);
    }
}

/* All of the rest made anew without the key: hashes fit, MACs and the head do not. */
static void rewritten_is_named(void **state)
{
    struct log l = make_log(RECORDS);
    uint8_t wrong[LFS_KEY_BYTES] = {1}, hash[32];
    audit_line_hash(l.lines[8], strlen(l.lines[8]) - 1, hash);
    for (size_t i = 9; i < RECORDS; i++) {
        free(l.lines[i]);
        l.lines[i] = make_line(wrong, i + 1, "\"act\":\"lock\"", hash);
    }
    struct audit_verdict v = check(&l, true, false, 0);
    assert_int_equal(v.count, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(v.findings[i].kind, AUDIT_CHANGED);
        assert_int_equal(v.findings[i].from, 10 + i);
    }
    audit_verdict_clear(&v);
    v = check(&l, false, false, 0);
    assert_true(v.good); /* what a key or a head is for */
    audit_verdict_clear(&v);
    v = check(&l, false, true, 0);
    assert_false(v.good);
    audit_verdict_clear(&v);
    drop_log(&l);
}

static void other_log_is_named(void **state)
{
    struct log l = make_log(RECORDS);
    l.head.chain[0] = 1;
    finds(&l, false, true, (struct audit_finding){.kind = AUDIT_OTHER, .line = 1, .from = 1});
    l.head.chain[0] = 0;
    l.head.seq = 6;
    finds(&l, true, true, (struct audit_finding){.kind = AUDIT_OTHER, .line = 6, .from = 6});
    l.first[0] ^= 1;
    finds(&l, true, false, (struct audit_finding){.kind = AUDIT_WRONG_KEY, .line = 1});
    drop_log(&l);
}

/* A record that says what is missing, as keyd makes it at its start. */
static void noted_gaps(void **state)
{
    for (int i = 0; i < 4; i++) {
        const char *act = i & 1 ? "audit-lost" : "alarm";
        struct log l = {.count = 3};
        uint8_t key[LFS_KEY_BYTES], hash[32] = {0};
        char middle[100];
        memset(l.first, 7, sizeof l.first);
        memcpy(key, l.first, sizeof key);
        l.lines[0] = make_line(key, 1, "\"act\":\"audit-begin\"", hash);
        free(make_line(key, 2, "\"act\":\"lease\"", hash));
        free(make_line(key, 3, "\"act\":\"lease\"", hash));
        snprintf(middle, sizeof middle, "\"act\":\"%s\",\"from\":2,\"to\":3,\"result\":\"ok\"", act);
        l.lines[1] = make_line(key, 4, middle, hash);
        l.lines[2] = make_line(key, 5, "\"act\":\"stop\"", hash);
        finds(&l, i & 2, false,
              (struct audit_finding){.kind = i & 1 ? AUDIT_LOST : AUDIT_MISSING,
                                     .line = 2,
                                     .from = 2,
                                     .to = 3,
                                     .noted = !(i & 1)});
        drop_log(&l);
    }
}

static void parses_strictly(void **state)
{
    struct log l = make_log(2);
    struct audit_line out;
    char *line = l.lines[1];
    size_t n = strlen(line) - 1;
    assert_true(audit_line_parse(line, n, &out));
    for (size_t cut = 0; cut < n; cut++) {
        char *exact = exact_copy(line, cut);
        assert_false(audit_line_parse(exact, cut, &out));
        free(exact);
    }
    static const char *const bad[] = {"{\"seq\":02", "{\"seq\":0,", "{\"seq\":-2",
                                      "{\"seq\": 2", "{\"sqe\":2,", "x\"seq\":2,"};
    for (size_t i = 0; i < COUNT(bad); i++) {
        char *copy = strdup(line);
        memcpy(copy, bad[i], strlen(bad[i]));
        assert_false(audit_line_parse(copy, n, &out));
        free(copy);
    }
    line[n - 10] = 'A'; /* hex is lower case */
    assert_false(audit_line_parse(line, n, &out));
    drop_log(&l);
}

/* Random damage of every kind at once: never a crash, and never "good" unless nothing was done. */
static void random_damage(void **state)
{
    struct rng rng = {11};
    for (int round = 0; round < 3000; round++) {
        struct log l = make_log(8);
        char before[8 * 400] = "", after[16 * 400] = "";
        for (size_t i = 0; i < l.count; i++)
            strcat(before, l.lines[i]);
        for (uint64_t n = 1 + rng_below(&rng, 3); n && l.count > 1; n--) {
            size_t a = rng_below(&rng, l.count), b = rng_below(&rng, l.count);
            char *line;
            switch (rng_below(&rng, 4)) {
            case 0:
                free(take_out(&l, a));
                break;
            case 1:
                put_in(&l, b, l.lines[a]);
                break;
            case 2:
                line = take_out(&l, a);
                put_in(&l, b < l.count ? b : l.count, line);
                free(line);
                break;
            default:
                l.lines[a][rng_below(&rng, strlen(l.lines[a]) - 1)] ^= 1;
            }
        }
        for (size_t i = 0; i < l.count; i++)
            strcat(after, l.lines[i]);
        for (int key = 0; key < 2; key++) {
            struct audit_verdict v = check(&l, key, true, 0);
            if (v.good != (strcmp(before, after) == 0))
                fail_msg("round %d (key %d): good %d", round, key, v.good);
            audit_verdict_clear(&v);
        }
        drop_log(&l);
    }
}

/* ---- the real thing in a directory ---- */

struct place {
    char path[64];
    int dir;
    struct secret *key;
};

static struct place make_place(void)
{
    struct place p = {.path = "/tmp/latchfs-audit-XXXXXX"};
    assert_non_null(mkdtemp(p.path));
    p.dir = open(p.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(p.dir >= 0);
    return p;
}

static void drop_place(struct place *p)
{
    static const char *const names[] = {"audit.log",     "audit.state",     "audit.key", "audit.first",
                                        "audit.log.old", "audit.log.old.2", "moved",     "saved"};
    for (size_t i = 0; i < COUNT(names); i++)
        unlinkat(p->dir, names[i], 0);
    close(p->dir);
    assert_int_equal(rmdir(p->path), 0);
    secret_free(p->key);
}

static struct audit *open_it(const struct place *p)
{
    struct audit *a = NULL;
    assert_int_equal(audit_open(p->dir, "", &a), 0);
    return a;
}

static void write_some(struct audit *a, unsigned n, bool sync)
{
    while (n--)
        assert_int_equal(audit_write(a, &(struct audit_act){.act = "lease"}, sync), 0);
}

static char *slurp(const struct place *p, const char *name, size_t *len)
{
    int fd = openat(p->dir, name, O_RDONLY | O_CLOEXEC);
    struct stat st;
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    char *text = malloc((size_t)st.st_size + 1);
    assert_int_equal(read(fd, text, (size_t)st.st_size), st.st_size);
    text[st.st_size] = '\0';
    close(fd);
    *len = (size_t)st.st_size;
    return text;
}

static void store(const struct place *p, const char *name, const char *data, size_t len)
{
    int fd = openat(p->dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), len);
    close(fd);
}

static struct audit_verdict verify(const struct place *p)
{
    size_t len;
    struct audit_verdict v;
    char *text = slurp(p, "audit.log", &len);
    struct audit_check in = {.text = text, .len = len, .first_key = p->key ? secret_const(p->key) : NULL};
    assert_int_equal(audit_check(&in, &v), 0);
    free(text);
    return v;
}

static void is_good(const struct place *p, uint64_t records)
{
    struct audit_verdict v = verify(p);
    for (size_t i = 0; i < v.count && !v.good; i++)
        print_message("kind %d line %d from %d\n", v.findings[i].kind, (int)v.findings[i].line,
                      (int)v.findings[i].from);
    assert_true(v.good);
    assert_int_equal(v.records, records);
    audit_verdict_clear(&v);
}

static unsigned count_of(const struct place *p, const char *what)
{
    size_t len;
    unsigned n = 0;
    char *text = slurp(p, "audit.log", &len);
    for (char *at = text; (at = strstr(at, what)); at++)
        n++;
    free(text);
    return n;
}

static void goes_on_after_each_end(void **state)
{
    struct place p = make_place();
    struct audit *a = open_it(&p);
    assert_int_equal(audit_enroll(a, &p.key), 0);
    struct secret *again = NULL;
    assert_int_equal(audit_enroll(a, &again), -ENOENT);
    uint64_t records = 1;
    for (unsigned i = 0; i < 5; i++) {
        write_some(a, 3, i % 2);
        records += 3;
        audit_free(a);
        is_good(&p, records);
        a = open_it(&p);
    }
    audit_free(a);
    is_good(&p, records);
    drop_place(&p);
}

/* An end between the record and the state: the record is taken over. Half a record is cut off and noted. */
static void state_behind_the_log(void **state)
{
    struct place p = make_place();
    struct audit *a = open_it(&p);
    size_t len;
    assert_int_equal(audit_enroll(a, &p.key), 0);
    write_some(a, 3, false);
    char *before = slurp(&p, "audit.state", &len);
    write_some(a, 2, false);
    audit_free(a);
    store(&p, "audit.state", before, len);
    a = open_it(&p);
    audit_free(a);
    is_good(&p, 6);
    free(before);

    char *log = slurp(&p, "audit.log", &len), *last = log + len - 1;
    for (const char *cut = last; cut > last - 60; cut -= 7) { /* the state is behind as well: as a real end */
        a = open_it(&p);
        char *held = slurp(&p, "audit.state", &len);
        size_t state_len = len;
        write_some(a, 1, false);
        audit_free(a);
        char *more = slurp(&p, "audit.log", &len);
        store(&p, "audit.log", more, len - (size_t)(last - cut) - 1);
        store(&p, "audit.state", held, state_len);
        free(more);
        free(held);
        audit_free(open_it(&p));
        struct audit_verdict v = verify(&p);
        assert_true(v.good);
        audit_verdict_clear(&v);
    }
    assert_true(count_of(&p, "half a record") >= 8);
    free(log);
    drop_place(&p);
}

static void alarm_of(void *arg, const char *what)
{
    snprintf(arg, 200, "%s", what);
}

static void missing_is_an_alarm(void **state)
{
    struct place p = make_place();
    struct audit *a = open_it(&p);
    size_t len;
    char told[200] = "";
    assert_int_equal(audit_enroll(a, &p.key), 0);
    write_some(a, 5, false); /* not synced, but the machine was not started anew */
    audit_free(a);
    char *log = slurp(&p, "audit.log", &len), *at = log;
    for (int i = 0; i < 3; i++)
        at = strchr(at, '\n') + 1;
    store(&p, "audit.log", log, (size_t)(at - log));
    a = open_it(&p);
    audit_watch(a, alarm_of, told);
    assert_string_equal(told, "records 4 to 6 are missing");
    struct audit_counts n;
    audit_counts(a, &n);
    assert_int_equal(n.trouble, 1);
    write_some(a, 1, false);
    audit_free(a);
    struct audit_verdict v = verify(&p);
    assert_int_equal(v.count, 1);
    assert_int_equal(v.findings[0].kind, AUDIT_MISSING);
    assert_int_equal(v.findings[0].from, 4);
    assert_int_equal(v.findings[0].to, 6);
    assert_true(v.findings[0].noted);
    audit_verdict_clear(&v);
    free(log);
    drop_place(&p);
}

/* Slot of the state file: chain 44..60, boot 60..76, check 224..256. */
static void other_boot(const struct place *p)
{
    size_t len;
    char *text = slurp(p, "audit.state", &len);
    assert_int_equal(len, 512);
    for (unsigned i = 0; i < 2; i++) {
        uint8_t *slot = (uint8_t *)text + (size_t)i * 256;
        slot[60] ^= 1;
        if (memcmp(slot, "LATCHAU1", 8) == 0)
            crypto_generichash(slot + 224, 32, slot, 224, NULL, 0);
    }
    store(p, "audit.state", text, len);
    free(text);
}

static void lost_with_the_machine_is_a_note(void **state)
{
    struct place p = make_place();
    struct audit *a = open_it(&p);
    size_t len;
    assert_int_equal(audit_enroll(a, &p.key), 0);
    write_some(a, 1, true);
    char *synced = slurp(&p, "audit.log", &len);
    size_t synced_len = len;
    write_some(a, 3, false);
    audit_free(a);
    other_boot(&p);
    store(&p, "audit.log", synced, synced_len);
    audit_free(open_it(&p));
    assert_int_equal(count_of(&p, "\"act\":\"audit-lost\",\"from\":3,\"to\":5,"), 1);
    is_good(&p, 3);
    free(synced);
    /* A synced one cannot be lost so. */
    char *log = slurp(&p, "audit.log", &len);
    other_boot(&p);
    store(&p, "audit.log", log, (size_t)(strchr(log, '\n') + 1 - log));
    audit_free(open_it(&p));
    assert_int_equal(count_of(&p, "\"act\":\"alarm\",\"from\":2,\"to\":6,"), 1);
    free(log);
    drop_place(&p);
}

static void zeros_of_a_power_cut(void **state)
{
    struct place p = make_place();
    struct audit *a = open_it(&p);
    assert_int_equal(audit_enroll(a, &p.key), 0);
    write_some(a, 2, true);
    audit_free(a);
    int fd = openat(p.dir, "audit.log", O_WRONLY | O_CLOEXEC);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(ftruncate(fd, st.st_size + 9000), 0);
    close(fd);
    audit_free(open_it(&p));
    is_good(&p, 3);
    drop_place(&p);
}

/* ---- power cuts ---- */

struct version { /* of both files, at some time */
    char *log, *state;
    size_t log_len, state_len, synced_len;
};

static struct version snapshot(const struct place *p, size_t synced_len)
{
    struct version v = {.synced_len = synced_len};
    v.log = slurp(p, "audit.log", &v.log_len);
    v.state = slurp(p, "audit.state", &v.state_len);
    return v;
}

/* The disk has the log up to some byte behind what was synced, perhaps with zeros behind, and a state that is
 * not older than the last sync and not newer than the cut. */
static void cut_power(const struct place *p, struct rng *rng, const struct version *v, size_t count)
{
    size_t now = rng_below(rng, count), oldest = now;
    while (oldest > 0 && v[oldest - 1].synced_len == v[now].synced_len)
        oldest--;
    const struct version *st = &v[oldest + rng_below(rng, now - oldest + 1)];
    size_t len = v[now].synced_len + rng_below(rng, v[now].log_len - v[now].synced_len + 1);
    size_t zeros = rng_below(rng, 2) ? rng_below(rng, 5000) : 0;
    char *log = calloc(1, len + zeros + 1);
    memcpy(log, v[now].log, len);
    store(p, "audit.log", log, len + zeros);
    store(p, "audit.state", st->state, st->state_len);
    other_boot(p);
    free(log);
}

static void power_cuts(void **state)
{
    struct rng rng = {7};
    for (int round = 0; round < 60; round++) {
        struct place p = make_place();
        struct version v[12];
        struct audit *a = open_it(&p);
        size_t synced = 0;
        assert_int_equal(audit_enroll(a, &p.key), 0);
        v[0] = snapshot(&p, 0);
        synced = v[0].synced_len = v[0].log_len;
        for (size_t i = 1; i < COUNT(v); i++) {
            bool sync = rng_below(&rng, 4) == 0;
            write_some(a, 1, sync);
            v[i] = snapshot(&p, synced);
            if (sync)
                synced = v[i].synced_len = v[i].log_len;
        }
        audit_free(a);
        cut_power(&p, &rng, v, COUNT(v));
        a = open_it(&p);
        write_some(a, 2, false);
        audit_free(a);
        struct audit_verdict verdict = verify(&p);
        if (!verdict.good)
            fail_msg("round %d: kind %d line %d", round, verdict.findings[0].kind,
                     (int)verdict.findings[0].line);
        assert_int_equal(count_of(&p, "\"act\":\"alarm\""), 0);
        audit_verdict_clear(&verdict);
        for (size_t i = 0; i < COUNT(v); i++) {
            free(v[i].log);
            free(v[i].state);
        }
        drop_place(&p);
    }
}

/* Somebody else writes, cuts, renames or removes the log below a running keyd. */
static void touched_while_open(void **state)
{
    struct place p = make_place();
    struct audit *a = open_it(&p);
    size_t len;
    char told[200] = "";
    assert_int_equal(audit_enroll(a, &p.key), 0);
    audit_watch(a, alarm_of, told);
    write_some(a, 3, false);
    int fd = openat(p.dir, "audit.log", O_WRONLY | O_APPEND | O_CLOEXEC);
    assert_int_equal(write(fd, "a foreign line\n", 15), 15);
    write_some(a, 1, false);
    assert_non_null(strstr(told, "15 bytes that this program did not write stand behind record 4"));
    struct audit_verdict v = verify(&p);
    assert_int_equal(v.count, 1);
    assert_int_equal(v.findings[0].kind, AUDIT_INSERTED);
    assert_int_equal(v.findings[0].line, 5);
    audit_verdict_clear(&v);

    char *log = slurp(&p, "audit.log", &len);
    assert_int_equal(ftruncate(fd, strchr(log, '\n') + 1 - log), 0);
    close(fd);
    write_some(a, 1, false);
    assert_string_equal(told, "records 2 to 6 are missing");
    assert_int_equal(unlinkat(p.dir, "audit.log", 0), 0);
    write_some(a, 1, false);
    assert_string_equal(told, "records 1 to 8 are missing");
    assert_int_equal(renameat(p.dir, "audit.log", p.dir, "moved"), 0);
    write_some(a, 1, false);
    assert_string_equal(told, "records 1 to 10 are missing");
    free(log);
    audit_free(a);
    drop_place(&p);
}

static void old_log_is_put_aside(void **state)
{
    struct place p = make_place();
    static const char old[] = "{\"time\":\"x\",\"act\":\"start\",\"result\":\"ok\"}\n";
    size_t len;
    store(&p, "audit.log", old, sizeof old - 1);
    audit_free(open_it(&p));
    char *kept = slurp(&p, "audit.log.old", &len);
    assert_string_equal(kept, old);
    free(kept);
    assert_int_equal(count_of(&p, "the log before this one is audit.log.old"), 1);
    is_good(&p, 1);
    drop_place(&p);
}

static void without_its_state(void **state)
{
    for (int i = 0; i < 2; i++) {
        struct place p = make_place();
        struct audit *a = open_it(&p);
        char told[200] = "";
        write_some(a, 3, false);
        audit_free(a);
        if (i)
            store(&p, "audit.state", "LATCHAU1 and no more", 20);
        else
            assert_int_equal(unlinkat(p.dir, "audit.state", 0), 0);
        a = open_it(&p);
        audit_watch(a, alarm_of, told);
        assert_non_null(strstr(told, "the chain begins anew"));
        assert_int_equal(audit_enroll(a, &p.key), 0);
        audit_free(a);
        is_good(&p, 2);
        assert_int_equal(count_of(&p, "\"act\":\"alarm\""), 1);
        drop_place(&p);
    }
}

/* The old key is nowhere in the state file once its record is written. */
static void old_keys_are_wiped(void **state)
{
    struct place p = make_place();
    struct audit *a = open_it(&p);
    assert_int_equal(audit_enroll(a, &p.key), 0);
    uint8_t key[LFS_KEY_BYTES];
    memcpy(key, secret_const(p.key), sizeof key);
    for (unsigned i = 1; i < 6; i++) {
        size_t len;
        char *text = slurp(&p, "audit.state", &len);
        assert_null(memmem(text, len, key, sizeof key));
        audit_key_next(key);
        assert_non_null(memmem(text, len, key, sizeof key));
        free(text);
        write_some(a, 1, i % 2);
    }
    audit_free(a);
    assert_int_equal(faccessat(p.dir, "audit.first", F_OK, 0), -1);
    drop_place(&p);
}

static void two_writers_are_refused(void **state)
{
    struct place p = make_place();
    struct audit *a = open_it(&p), *b = NULL;
    assert_int_equal(audit_open(p.dir, "", &b), LFS_ERR_BUSY);
    audit_free(a);
    drop_place(&p);
}

static void head_says_where_it_is(void **state)
{
    struct place p = make_place();
    struct audit *a = open_it(&p);
    char *json = NULL, want[100], hex[65];
    uint8_t hash[32];
    size_t len;
    write_some(a, 2, false);
    assert_int_equal(audit_head_json(a, &json), 0);
    char *log = slurp(&p, "audit.log", &len);
    log[len - 1] = '\0';
    const char *last = strrchr(log, '\n') + 1;
    audit_line_hash(last, strlen(last), hash);
    snprintf(want, sizeof want, "\"seq\":3,\"hash\":\"%s\",", sodium_bin2hex(hex, sizeof hex, hash, 32));
    assert_non_null(strstr(json, want));
    assert_non_null(strstr(json, "\"enrolled\":false"));
    char some[10];
    assert_int_equal(audit_read(a, len - 4, some, sizeof some), 4);
    assert_int_equal(audit_read(a, len, some, sizeof some), 0);
    assert_int_equal(audit_read(a, UINT64_MAX, some, sizeof some), LFS_ERR_MISUSE);
    free(log);
    free(json);
    audit_free(a);
    drop_place(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_is_good),
        cmocka_unit_test(changed_is_named),
        cmocka_unit_test(every_bit_counts),
        cmocka_unit_test(missing_is_named),
        cmocka_unit_test(cut_off_is_named),
        cmocka_unit_test(half_is_named),
        cmocka_unit_test(order_is_named),
        cmocka_unit_test(inserted_is_named),
        cmocka_unit_test(rewritten_is_named),
        cmocka_unit_test(other_log_is_named),
        cmocka_unit_test(noted_gaps),
        cmocka_unit_test(parses_strictly),
        cmocka_unit_test(random_damage),
        cmocka_unit_test(goes_on_after_each_end),
        cmocka_unit_test(state_behind_the_log),
        cmocka_unit_test(missing_is_an_alarm),
        cmocka_unit_test(lost_with_the_machine_is_a_note),
        cmocka_unit_test(zeros_of_a_power_cut),
        cmocka_unit_test(power_cuts),
        cmocka_unit_test(touched_while_open),
        cmocka_unit_test(old_log_is_put_aside),
        cmocka_unit_test(without_its_state),
        cmocka_unit_test(old_keys_are_wiped),
        cmocka_unit_test(two_writers_are_refused),
        cmocka_unit_test(head_says_where_it_is),
    };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
