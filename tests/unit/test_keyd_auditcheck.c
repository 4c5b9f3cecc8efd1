/* The check of a whole log: what is written verifies, every kind of tampering is found and named. */
#include "support.h"

#include "latchfs/auditlog.h"

#include <sodium.h>

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
            finds(&l, key, true, (struct audit_finding){.kind = AUDIT_CHANGED, .line = i + 1, .from = i + 1});
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_is_good),      cmocka_unit_test(changed_is_named),
        cmocka_unit_test(every_bit_counts),   cmocka_unit_test(missing_is_named),
        cmocka_unit_test(cut_off_is_named),   cmocka_unit_test(half_is_named),
        cmocka_unit_test(order_is_named),     cmocka_unit_test(inserted_is_named),
        cmocka_unit_test(rewritten_is_named), cmocka_unit_test(other_log_is_named),
        cmocka_unit_test(noted_gaps),         cmocka_unit_test(parses_strictly),
        cmocka_unit_test(random_damage),
    };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
