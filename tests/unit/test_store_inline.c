/* Short files: what comes with the header serves the read after it, once, and only what the header is about.
 */
#include "seal_fixture.h"

#define TEXT "a short text"
#define OTHER "another, longer text"

static struct node *n;

/* Loaded anew: this thread has just read the header, and the content with it. */
static int setup(void **state)
{
    int r = volume_setup(state);
    node_unref(make_file(volume_root(v), "short", TEXT), 1);
    reopen_volume();
    n = must_walk("short");
    return r;
}

static int teardown(void **state)
{
    node_unref(n, 1);
    return volume_teardown(state);
}

static void flip_first_byte(void)
{
    uint8_t byte;
    int fd = backing(n, O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, HEADER_BYTES), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, HEADER_BYTES), 1);
    close(fd);
}

static void test_it_serves_once(void **state)
{
    char got[64];
    assert_int_equal(file_open(n, false), 0);
    flip_first_byte();
    assert_true(holds(n, TEXT));
    assert_int_equal(file_read(n, got, sizeof got, 0), LFS_ERR_AUTH);
    file_close(n);
}

static void test_it_gives_way_to_what_is_written(void **state)
{
    assert_int_equal(file_open(n, true), 0);
    assert_int_equal(file_write(n, OTHER, strlen(OTHER), 0), strlen(OTHER));
    assert_true(holds(n, OTHER));
    assert_int_equal(volume_checkpoint(v), 0);
    assert_true(holds(n, OTHER));
    file_close(n);
}

static void test_of_another_file_it_is_not_taken(void **state)
{
    struct node *other = make_file(volume_root(v), "other", OTHER);
    assert_int_equal(file_open(n, false), 0);
    assert_true(holds(other, OTHER));
    assert_true(holds(n, TEXT));
    file_close(n);
    node_unref(other, 1);
}

static void test_damage_that_was_mended_is_read_again(void **state)
{
    flip_first_byte();
    assert_int_equal(file_open(n, false), 0);
    flip_first_byte();
    assert_true(holds(n, TEXT));
    file_close(n);
}

static void test_damage_is_told(void **state)
{
    char got[64];
    flip_first_byte();
    assert_int_equal(file_read(n, got, sizeof got, 0), LFS_ERR_AUTH);
    assert_int_equal(file_read(n, got, sizeof got, 0), LFS_ERR_AUTH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_it_serves_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_it_gives_way_to_what_is_written, setup, teardown),
        cmocka_unit_test_setup_teardown(test_of_another_file_it_is_not_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damage_that_was_mended_is_read_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damage_is_told, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
