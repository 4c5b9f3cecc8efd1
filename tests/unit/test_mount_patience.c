/* When a thread looks again for what it asked a disk for, and when it sleeps instead. */
#include "fs/mount/patience.h"
#include "support.h"

#define US 1000u

static struct spinning all;
static struct patience one, other;
static uint64_t now;

static int set_up(void **state)
{
    all = (struct spinning){0};
    now = 1000000000u;
    patience_init(&one, &all);
    patience_init(&other, &all);
    patience_clear(&one); /* it does not look at the machine's load from now on */
    patience_clear(&other);
    return 0;
}

static bool look(struct patience *p)
{
    now += US;
    return patience_look_again(p, now);
}

/* A request that slept for so long. */
static void slept(struct patience *p, unsigned us)
{
    assert_false(look(p));
    now += us * US;
    patience_end(p, now);
}

static void found(struct patience *p)
{
    assert_true(look(p));
    patience_end(p, now += 20 * US);
}

static void test_pays_first(void **state)
{
    assert_false(patience_waits(&one));
    slept(&one, 60);
    assert_false(patience_waits(&one));
    for (unsigned i = 0; i < 50; i++)
        found(&one);
    assert_false(all.taken);
}

static void test_slow_disk(void **state)
{
    slept(&one, 4000);
    slept(&one, 4000);
    assert_int_equal(one.spinner.credit, 0);
}

static void test_has_an_end(void **state)
{
    slept(&one, 60);
    uint64_t begin = now;
    while (look(&one))
        assert_true(now - begin < 200 * US);
    assert_false(all.taken);
    assert_false(look(&one)); /* this request sleeps */
    patience_end(&one, now + 300 * US);
    assert_true(one.spinner.credit < 0);
    assert_false(look(&one));
}

static void found_or_slept(struct patience *p)
{
    look(p);
    patience_end(p, now += 60 * US);
}

/* What does not pay is tried more and more rarely. */
static void test_becomes_slow(void **state)
{
    unsigned spun = 0;
    for (unsigned i = 0; i < 100; i++)
        found_or_slept(&one);
    for (unsigned i = 0; i < 100; i++) {
        spun += look(&one);
        while (look(&one))
            ;
        patience_end(&one, now += 4000 * US);
    }
    assert_in_range(spun, 1, 10);
}

/* A disk is fast, but looking never finds that out. */
static void test_never_pays(void **state)
{
    unsigned spun = 0;
    for (unsigned i = 0; i < 1000; i++) {
        spun += look(&one);
        while (look(&one))
            ;
        patience_end(&one, one.since + 60 * US);
    }
    assert_in_range(spun, 1, 30);
}

static void test_one_at_a_time(void **state)
{
    slept(&one, 60);
    slept(&other, 60);
    assert_true(look(&one));
    assert_false(look(&other));
    patience_end(&one, now);
    assert_false(look(&other)); /* it sleeps already */
    patience_end(&other, now);
    found(&other);
}

static void test_crowd(void **state)
{
    slept(&one, 60);
    atomic_store(&all.crowded_until, now + 1000 * US);
    assert_false(look(&one));
    patience_end(&one, now);
    now += 1000 * US;
    assert_true(look(&one));
    one.spinner.kept = true; /* somebody else had the processor */
    assert_false(look(&one));
    patience_end(&one, now);
    assert_true(all.crowded_until > now);
    slept(&one, 60);
    slept(&one, 60);
    slept(&one, 60);
    assert_false(look(&one));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_pays_first, set_up), cmocka_unit_test_setup(test_slow_disk, set_up),
        cmocka_unit_test_setup(test_has_an_end, set_up), cmocka_unit_test_setup(test_becomes_slow, set_up),
        cmocka_unit_test_setup(test_never_pays, set_up), cmocka_unit_test_setup(test_one_at_a_time, set_up),
        cmocka_unit_test_setup(test_crowd, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
