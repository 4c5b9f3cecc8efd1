/* The requests a worker has put off. */
#include "fs/mount/later.h"
#include "support.h"

#include <string.h>

static void put(struct later *l, unsigned number)
{
    assert_true(later_put(l, &number, sizeof number));
}

static void expect(struct later *l, unsigned number)
{
    void *request;
    size_t len;
    unsigned got;
    assert_true(later_take(l, &request, &len));
    assert_int_equal(len, sizeof got);
    memcpy(&got, request, sizeof got);
    assert_int_equal(got, number);
}

static void test_oldest_first_past_the_end(void **state)
{
    struct later l = {0};
    for (unsigned i = 0; i < LATER_MAX - 1;
         i++) { /* twice as many puts as there is room, one left each time */
        put(&l, i);
        put(&l, i + 1000);
        expect(&l, i % 2 ? i / 2 + 1000 : i / 2);
    }
    assert_int_equal(l.count, LATER_MAX - 1);
}

static void test_no_more_than_there_is_room(void **state)
{
    struct later l = {0};
    void *request;
    char long_one[LATER_BYTES + 1] = {0};
    size_t len;
    assert_false(later_put(&l, long_one, sizeof long_one));
    assert_false(later_take(&l, &request, &len));
    for (unsigned i = 0; i < LATER_MAX; i++)
        put(&l, i);
    assert_false(later_put(&l, long_one, 1));
    for (unsigned i = 0; i < LATER_MAX; i++)
        expect(&l, i);
    assert_false(later_take(&l, &request, &len));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oldest_first_past_the_end),
        cmocka_unit_test(test_no_more_than_there_is_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
