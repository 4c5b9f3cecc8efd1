/* Checks of a volume: what is whole has no findings, and each kind of damage has its own. */
#include "check_fixture.h"

/* ---- whole volumes ---- */

static void whole_open(void **state)
{
    fill_volume();
    check_open(0);
    expect_none();
    assert_true(last_progress.files > 20 && last_progress.directories >= 4);
    check_open(CHECK_CONTENTS);
    expect_none();
    assert_true(last_progress.bytes > 500 * PAGE_BYTES);
}

static void whole_with_pending(void **state)
{
    fill_volume();
    struct node *n = must_walk("a/b/big");
    for (unsigned i = 0; i < 40; i++)
        assert_int_equal(file_write(n, "overwritten", 11, i * 13 * PAGE_BYTES + 5), 11);
    assert_int_equal(file_truncate(n, 333 * PAGE_BYTES), 0);
    node_unref(n, 1);
    node_unref(make_file(volume_root(v), "new", "new"), 1);
    check_open(CHECK_CONTENTS);
    expect_none();
}

static void whole_closed(void **state)
{
    fill_volume();
    close_volume();
    check_bare();
    expect_none();
    assert_true(last_progress.files > 20);
    check_read_only(CHECK_CONTENTS);
    expect_none();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(whole_open, check_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(whole_with_pending, check_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(whole_closed, check_setup, volume_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
