/* Space for what goes in place later is asked for once, and again where it may be gone. */
#include "latchfs/layout.h"
#include "tree_fixture.h"

#include <sys/syscall.h>
#include <sys/uio.h>

#define CHUNKS 200u

static uint8_t data[CHUNKS * PAGE_BYTES];
static unsigned asked;   /* how often pages were asked for */
static uint64_t bytes;   /* how many bytes of them */
static uint64_t wanted;  /* an offset of the backing file ... */
static bool wanted_here; /* ... and whether one of these calls was about it */

int fallocate(int fd, int mode, off_t off, off_t len)
{
    if (mode == FALLOC_FL_KEEP_SIZE) {
        asked++;
        bytes += (uint64_t)len;
        wanted_here = wanted_here || ((uint64_t)off <= wanted && wanted < (uint64_t)(off + len));
    }
    return (int)syscall(SYS_fallocate, fd, mode, off, len);
}

static bool full; /* nothing can be written in place */

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t off)
{
    if (!full)
        return syscall(SYS_pwritev, fd, iov, n, off, 0);
    errno = ENOSPC;
    return -1;
}

static void write_chunks(struct node *n, unsigned first, unsigned count)
{
    size_t len = (size_t)count * PAGE_BYTES, off = (size_t)first * PAGE_BYTES;
    assert_int_equal(file_write(n, data + off, len, off), len);
}

static struct node *new_file(void)
{
    struct node *n;
    struct stat st;
    randombytes_buf(data, sizeof data);
    assert_int_equal(node_create(volume_root(v), "f", 0644, true, &st, &n), 0);
    return n;
}

static bool asks_for(struct node *n, unsigned chunk)
{
    wanted = layout_data_offset(chunk);
    wanted_here = false;
    write_chunks(n, chunk, 1);
    return wanted_here;
}

/* Two workers write a stream in any order. */
static void test_out_of_order(void **state)
{
    struct node *n = new_file();
    write_chunks(n, 0, 50);
    write_chunks(n, 120, 80);
    write_chunks(n, 50, 70);
    write_chunks(n, 0, 1); /* asks for the rest of page 0, of which only the header was written */
    asked = 0;
    for (unsigned i = 0; i < CHUNKS; i += 7)
        write_chunks(n, i, 1);
    assert_int_equal(asked, 0);
    assert_int_equal(volume_checkpoint(v), 0);
    for (unsigned i = 0; i < CHUNKS; i += 7)
        write_chunks(n, i, 1);
    assert_int_equal(asked, 0);
    node_unref(n, 1);
}

static void test_gaps(void **state)
{
    struct node *n = new_file();
    write_chunks(n, 0, 20);
    assert_int_equal(file_fsync(n, false), 0);
    assert_int_equal(file_truncate(n, sizeof data), 0);
    assert_true(asks_for(n, 100));
    assert_false(asks_for(n, 100));
    assert_false(asks_for(n, 5));
    assert_true(asks_for(n, 60));
    node_unref(n, 1);
}

static void test_punched(void **state)
{
    struct node *n = new_file();
    write_chunks(n, 0, CHUNKS);
    assert_int_equal(file_fsync(n, false), 0);
    assert_int_equal(volume_checkpoint(v), 0);
    assert_int_equal(
        file_fallocate(n, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 10 * PAGE_BYTES, 50 * PAGE_BYTES), 0);
    assert_int_equal(volume_checkpoint(v), 0);
    assert_true(asks_for(n, 30));
    node_unref(n, 1);
}

static void test_cut(void **state)
{
    struct node *n = new_file();
    write_chunks(n, 0, CHUNKS);
    assert_int_equal(file_fsync(n, false), 0);
    assert_int_equal(file_truncate(n, 10 * PAGE_BYTES), 0);
    assert_true(asks_for(n, 100));
    assert_int_equal(volume_checkpoint(v), 0);
    assert_int_equal(file_truncate(n, 10 * PAGE_BYTES), 0);
    assert_int_equal(volume_checkpoint(v), 0);
    assert_true(asks_for(n, 100));
    node_unref(n, 1);
}

static void fail_to_write(struct node *n, unsigned first, unsigned count)
{
    full = true;
    ssize_t r = file_write(n, data, (size_t)count * PAGE_BYTES, (uint64_t)first * PAGE_BYTES);
    full = false;
    assert_int_equal(r, -ENOSPC);
}

/* What could not be written has no space. */
static void test_failed_gap(void **state)
{
    struct node *n = new_file();
    write_chunks(n, 0, 20);
    write_chunks(n, 120, 80);
    fail_to_write(n, 40, 60);
    assert_int_equal(file_fsync(n, false), 0); /* single chunks go through the journal from here on */
    assert_true(asks_for(n, 60));
    node_unref(n, 1);
}

/* What is pending keeps its space when fresh data behind it is taken back. */
static void test_failed_behind_pending(void **state)
{
    struct node *n = new_file();
    write_chunks(n, 0, 20);
    assert_int_equal(file_fsync(n, false), 0);
    assert_true(asks_for(n, 20));
    wanted_here = false;
    fail_to_write(n, 21, 60);
    assert_true(wanted_here);
    node_unref(n, 1);
}

/* The same with a gap, which has no space before and gets none. */
static void test_failed_before_gap(void **state)
{
    struct node *n = new_file();
    write_chunks(n, 0, 20);
    assert_int_equal(file_fsync(n, false), 0);
    assert_int_equal(file_truncate(n, sizeof data), 0);
    assert_true(asks_for(n, 190));
    wanted_here = false;
    bytes = 0;
    fail_to_write(n, 21, 60);
    assert_true(wanted_here);
    assert_true(bytes < 40 * PAGE_BYTES);
    assert_false(asks_for(n, 190));
    node_unref(n, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_out_of_order, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_gaps, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_punched, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_cut, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_failed_gap, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_failed_behind_pending, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_failed_before_gap, volume_setup, volume_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
