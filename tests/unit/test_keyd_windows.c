/* Time windows of keyd.ini, in local time: days, midnight, the change of the clock. */
#include "support.h"

#include "latchfs/err.h"
#include "policy.h"

#include <time.h>

/* Central European rules, so that the test needs no files of time zones. */
#define ZONE "CET-1CEST,M3.5.0,M10.5.0/3"

static int set_zone(void **state)
{
    setenv("TZ", ZONE, 1);
    tzset();
    return 0;
}

/* Local time; 2026-11-23 is a Monday. */
static time_t at(int month, int day, int hour, int minute, int second)
{
    struct tm t = {.tm_year = 126,
                   .tm_mon = month - 1,
                   .tm_mday = day,
                   .tm_hour = hour,
                   .tm_min = minute,
                   .tm_sec = second,
                   .tm_isdst = -1};
    return mktime(&t);
}

static struct policy of(const char *window, unsigned lease_s)
{
    struct policy p;
    char text[300], why[POLICY_WHY_MAX];
    policy_defaults(&p);
    int n = snprintf(text, sizeof text, "[volume *]\nwindow = %s\nlease_seconds = %u\n", window, lease_s);
    if (policy_parse(text, (size_t)n, &p, why))
        fail_msg("%s: %s", window, why);
    return p;
}

static const uint8_t volume[16], pd[16];

/* Length of the lease given then; -1: refused. */
static long lease_at(const struct policy *p, time_t now)
{
    struct policy_ask a = {.uid = 9, .volume_id = volume, .pd_id = pd, .now = now};
    struct policy_lease l;
    char why[POLICY_WHY_MAX];
    int r = policy_lease(p, &a, &l, why, sizeof why);
    assert_true(r == 0 || r == LFS_ERR_DENIED);
    assert_int_equal(policy_admin(p, &a, why, sizeof why), r);
    return r ? -1 : (long)l.lease_s;
}

static void working_days(void **state)
{
    struct policy p = of("mon-fri 08:00-18:00", 0);
    assert_int_equal(lease_at(&p, at(11, 23, 7, 59, 59)), -1);
    assert_int_equal(lease_at(&p, at(11, 23, 8, 0, 0)), 10 * 3600);
    assert_int_equal(lease_at(&p, at(11, 27, 17, 59, 59)), 1);
    assert_int_equal(lease_at(&p, at(11, 27, 18, 0, 0)), -1);
    assert_int_equal(lease_at(&p, at(11, 28, 12, 0, 0)), -1);
    assert_int_equal(lease_at(&p, at(11, 29, 12, 0, 0)), -1);
    assert_int_equal(lease_at(&p, at(7, 1, 8, 0, 0)), 10 * 3600); /* of summer's clock */
}

static void shorter_of_lease_and_window(void **state)
{
    struct policy p = of("08:00-18:00", 3600);
    assert_int_equal(lease_at(&p, at(11, 23, 12, 0, 0)), 3600);
    assert_int_equal(lease_at(&p, at(11, 23, 17, 30, 0)), 1800);
}

/* It belongs to the day on which it begins. */
static void over_midnight(void **state)
{
    struct policy p = of("fri 22:00-06:00", 0);
    assert_int_equal(lease_at(&p, at(11, 27, 5, 0, 0)), -1);
    assert_int_equal(lease_at(&p, at(11, 27, 22, 0, 0)), 8 * 3600);
    assert_int_equal(lease_at(&p, at(11, 28, 5, 59, 0)), 60);
    assert_int_equal(lease_at(&p, at(11, 28, 6, 0, 0)), -1);
    assert_int_equal(lease_at(&p, at(11, 28, 22, 0, 0)), -1);
}

static void over_the_end_of_the_week(void **state)
{
    struct policy p = of("sat 22:00-06:00, sat-sun 12:00-13:00", 0);
    assert_int_equal(lease_at(&p, at(11, 29, 1, 0, 0)), 5 * 3600);
    assert_int_equal(lease_at(&p, at(11, 29, 12, 30, 0)), 1800);
    assert_int_equal(lease_at(&p, at(11, 30, 1, 0, 0)), -1);
    p = of("fri-mon 01:00-02:00", 0);
    assert_int_equal(lease_at(&p, at(11, 23, 1, 0, 0)), 3600);
    assert_int_equal(lease_at(&p, at(11, 24, 1, 0, 0)), -1);
    assert_int_equal(lease_at(&p, at(11, 27, 1, 0, 0)), 3600);
}

static void several_join(void **state)
{
    struct policy p =
        of("mon 08:00-12:00, mon 12:00-14:00, mon 13:00-13:30, mon 20:00-24:00, tue 00:00-01:00", 0);
    assert_int_equal(lease_at(&p, at(11, 23, 11, 0, 0)), 3 * 3600);
    assert_int_equal(lease_at(&p, at(11, 23, 13, 15, 0)), 45 * 60);
    assert_int_equal(lease_at(&p, at(11, 23, 23, 0, 0)), 2 * 3600);
    assert_int_equal(lease_at(&p, at(11, 23, 15, 0, 0)), -1);
}

static void always_has_no_end(void **state)
{
    struct policy p = of("00:00-24:00", 0);
    assert_int_equal(lease_at(&p, at(11, 23, 11, 0, 0)), 0);
    p = of("00:00-12:00, 12:00-00:00", 777);
    assert_int_equal(lease_at(&p, at(11, 23, 11, 0, 0)), 777);
    p = of("mon-sat 00:00-24:00", 0);
    assert_int_equal(lease_at(&p, at(11, 23, 0, 0, 0)), 6 * 24 * 3600);
}

/* On 29 March 2026 02:00 is followed by 03:00, on 25 October 03:00 by 02:00. */
static void clock_changes(void **state)
{
    struct policy p = of("00:00-06:00", 0);
    assert_int_equal(lease_at(&p, at(3, 29, 0, 0, 0)), 5 * 3600);
    assert_int_equal(lease_at(&p, at(10, 25, 0, 0, 0)), 7 * 3600);
    p = of("01:00-02:30", 0); /* the clock shows no 02:30: it ends then at the latest */
    assert_in_range(lease_at(&p, at(3, 29, 1, 0, 0)), 1, 5400);
    p = of("02:00-02:30", 0);
    for (time_t t = at(10, 25, 1, 0, 0); t < at(10, 25, 5, 0, 0); t += 60) {
        struct tm local;
        localtime_r(&t, &local);
        bool open = local.tm_hour == 2 && local.tm_min < 30;
        assert_int_equal(lease_at(&p, t) > 0, open);
        if (open)
            assert_int_equal(lease_at(&p, t), (30 - local.tm_min) * 60);
    }
}

/* No minute of a year is open by one rule and shut by another way to say it. */
static void same_by_brute_force(void **state)
{
    struct policy p = of("mon-wed 21:30-03:15, sat 09:00-10:00", 0);
    for (time_t t = at(1, 1, 0, 0, 0); t < at(12, 31, 0, 0, 0); t += 7 * 60) {
        struct tm l;
        localtime_r(&t, &l);
        int minute = l.tm_hour * 60 + l.tm_min, d = l.tm_wday;
        bool open = (d >= 1 && d <= 3 && minute >= 21 * 60 + 30) ||
                    (d >= 2 && d <= 4 && minute < 3 * 60 + 15) || (d == 6 && minute >= 540 && minute < 600);
        if ((lease_at(&p, t) > 0) != open)
            fail_msg("%s", asctime(&l));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(working_days),  cmocka_unit_test(shorter_of_lease_and_window),
        cmocka_unit_test(over_midnight), cmocka_unit_test(over_the_end_of_the_week),
        cmocka_unit_test(several_join),  cmocka_unit_test(always_has_no_end),
        cmocka_unit_test(clock_changes), cmocka_unit_test(same_by_brute_force),
    };
    return cmocka_run_group_tests(tests, set_zone, NULL);
}
