/* A process that is killed and what the next life reads: nothing of what it had written is lost, and what was
 * never written is zeros, not damage. */
#include "fs/store/file.h"
#include "tree_fixture.h"

#define SIZE (600 * PAGE_BYTES)

static uint8_t data[SIZE], want[SIZE], got[SIZE + 1];

/* The life of a process that ends without a word. */
static void live(void (*life)(struct node *n))
{
    assert_int_equal(volume_close(v), 0);
    v = NULL;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        open_volume();
        struct node *n = must_walk("a");
        life(n);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    open_volume();
}

static void put(struct node *n, size_t len, uint64_t off)
{
    assert_int_equal(file_write(n, data + off, len, off), len);
}

static void check(size_t size)
{
    struct node *n = must_walk("a");
    assert_int_equal(file_read(n, got, sizeof got, 0), size);
    assert_memory_equal(got, want, size);
    node_unref(n, 1);
}

static int setup(void **state)
{
    struct node *n;
    struct stat st;
    int r = volume_setup(state);
    randombytes_buf(data, sizeof data);
    assert_int_equal(node_create(volume_root(v), "a", 0644, true, &st, &n), 0);
    put(n, 50 * PAGE_BYTES, 0);
    node_unref(n, 1);
    memset(want, 0, sizeof want);
    return r;
}

static void empty_and_write_behind(struct node *n)
{
    assert_int_equal(file_truncate(n, 0), 0);
    put(n, 20 * PAGE_BYTES, 300 * PAGE_BYTES);
}

static void test_emptied(void **state)
{
    live(empty_and_write_behind);
    memcpy(want + 300 * PAGE_BYTES, data + 300 * PAGE_BYTES, 20 * PAGE_BYTES);
    check(320 * PAGE_BYTES);
}

static void empty_and_grow(struct node *n)
{
    assert_int_equal(file_truncate(n, 0), 0);
    assert_int_equal(file_truncate(n, 9 * PAGE_BYTES), 0);
}

static void test_emptied_and_grown(void **state)
{
    live(empty_and_grow);
    check(9 * PAGE_BYTES);
}

static void grow(struct node *n)
{
    assert_int_equal(file_truncate(n, 200 * PAGE_BYTES), 0);
    put(n, 2 * PAGE_BYTES, 150 * PAGE_BYTES);
}

static void test_grown(void **state)
{
    live(grow);
    memcpy(want, data, 50 * PAGE_BYTES);
    memcpy(want + 150 * PAGE_BYTES, data + 150 * PAGE_BYTES, 2 * PAGE_BYTES);
    check(200 * PAGE_BYTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_emptied, setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_emptied_and_grown, setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_grown, setup, volume_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
