/* The audit log in a directory: an end at any point, a power cut, or somebody else's hand loses nothing
 * unseen. */
#include "support.h"

#include "audit.h"
#include "latchfs/auditlog.h"
#include "latchfs/err.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

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
        cmocka_unit_test(goes_on_after_each_end),  cmocka_unit_test(state_behind_the_log),
        cmocka_unit_test(missing_is_an_alarm),     cmocka_unit_test(lost_with_the_machine_is_a_note),
        cmocka_unit_test(zeros_of_a_power_cut),    cmocka_unit_test(power_cuts),
        cmocka_unit_test(touched_while_open),      cmocka_unit_test(old_log_is_put_aside),
        cmocka_unit_test(without_its_state),       cmocka_unit_test(old_keys_are_wiped),
        cmocka_unit_test(two_writers_are_refused), cmocka_unit_test(head_says_where_it_is),
    };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
