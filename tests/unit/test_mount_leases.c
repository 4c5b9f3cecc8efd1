#include "fs/mount/leases.h"
#include "support.h"

#define NEVER INT64_MAX

static const uint8_t root[ID_BYTES] = {1}, other[ID_BYTES] = {2};

static void test_table(void **state)
{
    struct leases t = {0};
    assert_null(leases_find(&t, root));
    assert_non_null(leases_add(&t, root));
    assert_non_null(leases_add(&t, other));
    assert_ptr_equal(leases_add(&t, root), leases_find(&t, root));
    assert_int_equal(t.count, 2);
    assert_memory_equal(t.items[0].pd_id, root, ID_BYTES);
    assert_false(t.items[1].held);
    leases_clear(&t);
    assert_int_equal(t.count, 0);
}

static void test_renewed_at_a_third_over_at_the_end(void **state)
{
    struct lease l = {0};
    lease_begin(&l, 30, 0, 1000);
    assert_true(l.held);
    assert_false(lease_wants_renewal(&l, 10999));
    assert_true(lease_wants_renewal(&l, 11000));
    lease_extend(&l, 11000);
    assert_false(lease_wants_renewal(&l, 20999));
    assert_false(lease_is_over(&l, 40999));
    assert_true(lease_is_over(&l, 41000));
    lease_end(&l, false);
    assert_false(lease_is_over(&l, NEVER - 1));
    assert_false(lease_wants_renewal(&l, NEVER - 1));
}

static void test_refused_runs_out(void **state)
{
    struct lease l = {0};
    lease_begin(&l, 30, 0, 0);
    lease_refuse(&l);
    assert_false(lease_wants_renewal(&l, 29999));
    assert_true(lease_is_over(&l, 30000));
}

static void test_without_end(void **state)
{
    struct lease l = {0};
    lease_begin(&l, 0, 0, 0);
    assert_false(lease_is_over(&l, NEVER - 1));
    assert_false(lease_wants_renewal(&l, NEVER - 1));
}

static void test_idle(void **state)
{
    struct lease l = {0};
    lease_begin(&l, 0, 60, 0);
    assert_int_equal(l.idle_at, 60000);
    assert_false(lease_is_idle(&l, 20000, false, 60000)); /* used at 40 s */
    assert_int_equal(l.idle_at, 100000);
    assert_false(lease_is_idle(&l, 95000, true, 100000)); /* opened long ago, and still open */
    assert_true(l.idle_at > 100000 && l.idle_at <= 160000);
    assert_false(lease_is_idle(&l, 90000, false, 120000)); /* closed since: idle counts from 100 s */
    assert_int_equal(l.idle_at, 160000);
    assert_true(lease_is_idle(&l, 130000, false, 160000));
}

/* What the kernel answered by itself since the last watch began was not heard of. */
static void test_use_may_be_later_than_heard(void **state)
{
    struct lease l = {0};
    lease_begin(&l, 0, 60, 0);
    assert_int_equal(lease_used_ago(&l, 60000), 60000 - 15001);
    assert_int_equal(lease_used_ago(&l, 1000), 0);
    assert_int_equal(lease_used_ago(&l, -5000), -5000);
    assert_false(lease_is_idle(&l, lease_used_ago(&l, 60000), false, 60000));
    assert_int_equal(l.idle_at, 75001);
}

/* A clock that was set back says nothing about use. */
static void test_use_in_the_future_does_not_count(void **state)
{
    struct lease l = {0};
    lease_begin(&l, 0, 60, 0);
    assert_true(lease_is_idle(&l, -5000, false, 60000));
}

static void test_use_before_it_was_held_does_not_count(void **state)
{
    struct lease l = {0};
    lease_begin(&l, 0, 60, 1000000);
    assert_false(lease_is_idle(&l, 900000, false, 1059999));
    assert_true(lease_is_idle(&l, 900000, false, 1060000));
}

/* Leasing anew what is held already is no use of it. */
static void test_lease_again_keeps_idleness(void **state)
{
    struct lease l = {0};
    lease_begin(&l, 0, 60, 0);
    lease_begin(&l, 0, 60, 50000);
    assert_true(lease_is_idle(&l, 60000, false, 60000));
    lease_end(&l, true);
    assert_true(l.barred && !l.held);
    lease_begin(&l, 0, 60, 70000);
    assert_false(l.barred);
    assert_false(lease_is_idle(&l, 70000, false, 129999));
}

static void test_next(void **state)
{
    struct leases t = {0};
    assert_true(leases_next(&t, true) == NEVER);
    lease_begin(leases_add(&t, root), 300, 0, 0);
    assert_int_equal(leases_next(&t, true), 100000);
    assert_int_equal(leases_next(&t, false), 300000);
    lease_begin(leases_add(&t, other), 0, 7, 0);
    assert_int_equal(leases_next(&t, true), 7000 / 4 + 1);
    for (int64_t now = 0; (now = leases_next(&t, true)) < 7000;) {
        assert_true(lease_wants_watch(leases_find(&t, other), now));
        assert_false(lease_wants_watch(leases_find(&t, root), now));
        lease_watched(leases_find(&t, other), now);
        lease_watched(leases_find(&t, root), now);
    }
    assert_int_equal(leases_next(&t, true), 7000);
    lease_end(leases_find(&t, other), false);
    assert_int_equal(leases_next(&t, true), 100000);
    lease_end(leases_find(&t, root), false);
    assert_true(leases_next(&t, true) == NEVER);
    leases_clear(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_renewed_at_a_third_over_at_the_end),
        cmocka_unit_test(test_refused_runs_out),
        cmocka_unit_test(test_without_end),
        cmocka_unit_test(test_idle),
        cmocka_unit_test(test_use_may_be_later_than_heard),
        cmocka_unit_test(test_use_in_the_future_does_not_count),
        cmocka_unit_test(test_use_before_it_was_held_does_not_count),
        cmocka_unit_test(test_lease_again_keeps_idleness),
        cmocka_unit_test(test_next),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
