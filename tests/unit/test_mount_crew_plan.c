/* Which thread of the crew serves which of the kernel's queues. */
#include "fs/mount/crew_plan.h"
#include "support.h"

#include <errno.h>

static cpu_set_t first(unsigned count)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    for (unsigned i = 0; i < count; i++)
        CPU_SET(i, &set);
    return set;
}

static struct crew_plan make(const char *possible, unsigned cpus)
{
    struct crew_plan p = {0};
    cpu_set_t allowed = first(cpus);
    assert_int_equal(crew_plan_make(possible, (long)cpus, &allowed, &p), 0);
    assert_int_equal(p.homes, cpus);
    return p;
}

static unsigned serving(const struct crew_plan *p, unsigned queue)
{
    unsigned n = 0;
    for (unsigned t = 0; t < crew_plan_threads(p); t++)
        n += crew_plan_serves(p, t, queue);
    return n;
}

static void test_threads_of_a_processor(void **state)
{
    static const struct {
        const char *possible;
        unsigned cpus, per_home;
    } machines[] = {{"0\n", 1, 8},   {"0-1\n", 2, 8},   {"0-3", 4, 4},
                    {"0-7\n", 8, 2}, {"0-63\n", 64, 2}, {"0-127", 128, 2}};
    for (size_t i = 0; i < COUNT(machines); i++) {
        struct crew_plan p = make(machines[i].possible, machines[i].cpus);
        assert_int_equal(p.queues, machines[i].cpus);
        assert_int_equal(p.per_home, machines[i].per_home);
        for (unsigned q = 0; q < p.queues; q++)
            assert_int_equal(serving(&p, q), p.per_home);
        for (unsigned t = 0; t < crew_plan_threads(&p); t++)
            assert_true(crew_plan_serves(&p, t, crew_plan_home(&p, t)));
    }
    (void)state;
}

/* Requests of processors that come later have somebody too, one thread each and not all the same. */
static void test_processors_that_are_not_there(void **state)
{
    struct crew_plan p = make("0-1,4-9", 2);
    unsigned of_first = 0;
    assert_int_equal(p.queues, 8);
    for (unsigned q = 2; q < p.queues; q++) {
        assert_int_equal(serving(&p, q), 1);
        of_first += crew_plan_serves(&p, 2, q);
    }
    assert_int_equal(of_first, 1);
    (void)state;
}

static void test_what_cannot_be_served(void **state)
{
    static const char *const none[] = {"", "\n", "x", "3-1", "0-1x", "0-65536", "0,,1"};
    struct crew_plan p = {.per_home = 77};
    cpu_set_t two = first(2), nobody = first(0);
    for (size_t i = 0; i < COUNT(none); i++)
        assert_int_equal(crew_plan_make(none[i], 2, &two, &p), -EPROTO);
    assert_int_equal(crew_plan_make("0-3", 4, &two, &p), -EOPNOTSUPP); /* the others may not be used */
    assert_int_equal(crew_plan_make("0-1", 2, &nobody, &p), -EOPNOTSUPP);
    assert_int_equal(crew_plan_make("0-255", 256, &two, &p), -EOPNOTSUPP); /* too many */
    assert_int_equal(p.per_home, 77);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads_of_a_processor),
        cmocka_unit_test(test_processors_that_are_not_there),
        cmocka_unit_test(test_what_cannot_be_served),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
