/* keyd.ini. */
#include "support.h"

#include "latchfs/err.h"
#include "policy.h"

static int parse(const char *text, struct policy *p, char why[static POLICY_WHY_MAX])
{
    size_t len = strlen(text);
    char *exact = exact_copy(text, len);
    policy_defaults(p);
    int r = policy_parse(exact, len, p, why);
    free(exact);
    return r;
}

static void reads(void **state)
{
    struct policy p;
    char why[POLICY_WHY_MAX];
    assert_int_equal(
        parse("# policy\n\n[keyd]\nidle_exit_seconds = 7\nlog = /var/log/latch audit.log\n"
              "[lease]\n; leases\nlease_seconds=60\ngrace_seconds = 600\nrevoke_wait_seconds = 5\n"
              "[access]\nallow_uids = 1000, 1001 4294967294\n[slots]\nkdf_milliseconds = 250\n"
              "[keyd]\nmax_connections = 9",
              &p, why),
        0);
    assert_int_equal(p.idle_exit_s, 7);
    assert_string_equal(p.log, "/var/log/latch audit.log");
    assert_int_equal(p.lease_s, 60);
    assert_int_equal(p.grace_s, 600);
    assert_int_equal(p.revoke_wait_s, 5);
    assert_int_equal(p.kdf_ms, 250);
    assert_int_equal(p.max_connections, 9);
    assert_int_equal(p.allow_count, 3);
    assert_int_equal(p.allow[1], 1001);
    assert_int_equal(p.allow[2], 4294967294);
}

static void empty_is_the_defaults(void **state)
{
    struct policy p, defaults;
    char why[POLICY_WHY_MAX];
    policy_defaults(&defaults);
    assert_int_equal(parse("", &p, why), 0);
    assert_memory_equal(&p, &defaults, sizeof p);
}

static void refuses_with_the_line(void **state)
{
    static const struct {
        const char *text, *why;
    } cases[] = {
        {"idle_exit_seconds = 1\n", "line 1: a key before any section"},
        {"[keyd]\n[other]\n", "line 2: unknown section"},
        {"[keyd]\nidle_exit = 1\n", "line 2: unknown key"},
        {"[lease]\n\n\nidle_exit_seconds = 1\n", "line 4: unknown key"},
        {"[keyd]\nidle_exit_seconds = 1\n[lease]\n[keyd]\nidle_exit_seconds = 1\n",
         "line 5: this key stands twice"},
        {"[keyd]\nidle_exit_seconds = -1\n", "line 2: idle_exit_seconds takes a number"},
        {"[keyd]\nidle_exit_seconds = 1s\n", "line 2: idle_exit_seconds takes a number"},
        {"[keyd]\nidle_exit_seconds = 99999999999\n", "line 2: idle_exit_seconds takes a number"},
        {"[keyd]\nidle_exit_seconds =\n", "line 2: idle_exit_seconds takes a number"},
        {"[keyd]\nmax_connections = 3\n", "line 2: max_connections takes a number from 4 to 4096"},
        {"[slots]\nkdf_milliseconds = 10\n", "line 2: kdf_milliseconds takes a number from 100 to 10000"},
        {"[keyd]\nlog = relative\n", "line 2: a path begins with /"},
        {"[keyd]\nidle_exit_seconds\n", "line 2: not a section"},
        {"[keyd]\n idle_exit_seconds = 1\n", "line 2: the line begins with a blank"},
        {"[keyd]\nidle_exit_seconds = 1 ; soon\n", "line 2: a comment stands on a line of its own"},
        {"[keyd]\r\n", "line 1: the line has a control character"},
        {"[keyd\n", "line 1: unknown section"},
        {"[keyd] x\n", "line 1: unknown section"},
        {"[]\n", "line 1: unknown section"},
        {"[\n", "line 1: unknown section"},
        {"[access]\nallow_uids = root\n", "line 2: allow_uids takes numbers"},
        {"[access]\nallow_uids = 4294967295\n", "line 2: allow_uids takes numbers"},
        {"[keyd]\nidle_exit_seconds: 1\n", "line 2: not a section"},
        {"[keyd]\nidle_exit_seconds: 1 = 2\n", "line 2: idle_exit_seconds takes a number"},
        {"[keyd]\n= 1\n", "line 2: unknown key"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct policy p, defaults;
        char why[POLICY_WHY_MAX];
        policy_defaults(&defaults);
        assert_int_equal(parse(cases[i].text, &p, why), LFS_ERR_MISUSE);
        if (strncmp(why, cases[i].why, strlen(cases[i].why)) != 0)
            fail_msg("%s: %s", cases[i].text, why);
        assert_memory_equal(&p, &defaults, sizeof p); /* nothing half read */
    }
}

static void refuses_long_lines(void **state)
{
    char text[400] = "[keyd]\nlog = /";
    struct policy p;
    char why[POLICY_WHY_MAX];
    memset(text + strlen(text), 'a', 199 - strlen("log = /"));
    assert_int_equal(parse(text, &p, why), 0);
    strcat(text, "a");
    assert_int_equal(parse(text, &p, why), LFS_ERR_MISUSE);
    assert_string_equal(why, "line 2: the line is longer than 199 bytes");
}

static void noise(void **state)
{
    static const char from[] = "[keyd]\nidle_exit_seconds = 7\n[access]\nallow_uids = 1, 2\n#;\"\\\t\r\0=";
    struct rng rng = {3};
    for (int i = 0; i < 20000; i++) {
        char text[sizeof from], why[POLICY_WHY_MAX];
        struct policy p;
        memcpy(text, from, sizeof from);
        for (uint64_t n = rng_below(&rng, 4); n; n--)
            text[rng_below(&rng, sizeof text)] = from[rng_below(&rng, sizeof from)];
        policy_defaults(&p);
        char *exact = exact_copy(text, sizeof text);
        int r = policy_parse(exact, sizeof text, &p, why);
        assert_true(r == 0 || why[0]);
        free(exact);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads),
        cmocka_unit_test(empty_is_the_defaults),
        cmocka_unit_test(refuses_with_the_line),
        cmocka_unit_test(refuses_long_lines),
        cmocka_unit_test(noise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
