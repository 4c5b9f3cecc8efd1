/* Reads that wait for no disk, of a file that the page cache was made to forget. */
#include "fs/store/file.h"
#include "seal_fixture.h"

#define CHUNKS 300u
#define SIZE ((size_t)CHUNKS * PAGE_BYTES + 100)

static struct node *n;
static uint8_t want[SIZE], got[SIZE];

/* The file in place and on disk, and none of it in memory. False: this filesystem has no disk to wait for. */
static bool forgotten(void)
{
    uint8_t byte;
    struct iovec iov = {&byte, 1};
    int fd = backing(n, O_RDONLY);
    assert_int_equal(fsync(fd), 0);
    assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    bool cold =
        preadv2(fd, &iov, 1, (off_t)layout_data_offset(CHUNKS - 1), RWF_NOWAIT) < 0 && errno == EAGAIN;
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
    return cold;
}

static int setup(void **state)
{
    int r = volume_setup(state);
    fill(want, SIZE, 7);
    n = big_file("cold", SIZE, 7);
    seal_all();
    assert_int_equal(file_open(n, true), 0);
    return r;
}

static int teardown(void **state)
{
    file_close(n);
    node_unref(n, 1);
    return volume_teardown(state);
}

static void expect(uint64_t off, size_t len)
{
    assert_memory_equal(got, want + off, len);
    memset(got, 0, len);
}

static void read_both_ways(uint64_t off, size_t len)
{
    size_t have = off + len > SIZE ? SIZE - off : len;
    if (!forgotten())
        skip();
    assert_int_equal(file_read_now(n, got, len, off), -EAGAIN);
    assert_int_equal(file_read(n, got, len, off), have);
    expect(off, have);
    assert_int_equal(file_read_now(n, got, len, off), have);
    expect(off, have);
}

static void test_what_is_not_in_memory_is_not_waited_for(void **state)
{
    read_both_ways(0, 1);
    read_both_ways(200 * PAGE_BYTES, PAGE_BYTES);
    read_both_ways(111 * PAGE_BYTES + 5, 2 * PAGE_BYTES); /* of two groups */
    read_both_ways(SIZE - 10, 1000);
}

static void bring(uint64_t at)
{
    int fd = backing(n, O_RDONLY);
    uint8_t page[PAGE_BYTES];
    posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    assert_int_equal(pread(fd, page, sizeof page, (off_t)at), sizeof page);
    close(fd);
}

/* The data is there, its record is not, and the other way round. */
static void test_half_of_it_is_not_enough(void **state)
{
    const uint64_t chunk = 200, at[2] = {layout_tag_page(chunk), layout_data_offset(chunk)};
    for (int i = 0; i < 2; i++) {
        if (!forgotten())
            skip();
        bring(at[i]);
        assert_int_equal(file_read_now(n, got, PAGE_BYTES, chunk * PAGE_BYTES), -EAGAIN);
    }
}

/* All of it is there but the header of a file that is to be loaded. */
static void test_the_header_is_not_waited_for(void **state)
{
    const uint64_t chunk = 200;
    file_close(n);
    file_forget_idle(n);
    bool cold = forgotten();
    bring(layout_tag_page(chunk));
    bring(layout_data_offset(chunk));
    ssize_t r = file_read_now(n, got, PAGE_BYTES, chunk * PAGE_BYTES);
    assert_int_equal(file_open(n, true), 0);
    if (!cold)
        skip();
    assert_int_equal(r, -EAGAIN);
    assert_int_equal(file_read_now(n, got, PAGE_BYTES, chunk * PAGE_BYTES), PAGE_BYTES);
    expect(chunk * PAGE_BYTES, PAGE_BYTES);
}

static void test_what_is_pending_needs_no_disk(void **state)
{
    if (!forgotten())
        skip();
    memset(want + 150 * PAGE_BYTES, 'x', PAGE_BYTES);
    assert_int_equal(file_write(n, want + 150 * PAGE_BYTES, PAGE_BYTES, 150 * PAGE_BYTES), PAGE_BYTES);
    read_both_ways(149 * PAGE_BYTES, 3 * PAGE_BYTES);
    assert_int_equal(volume_checkpoint(v), 0);
    read_both_ways(149 * PAGE_BYTES, 3 * PAGE_BYTES);
}

/* What a waiting read finds damaged is not called so by one that has not seen all of it. */
static void test_a_short_file_is_for_the_one_who_waits(void **state)
{
    int fd = backing(n, O_RDWR);
    assert_int_equal(ftruncate(fd, (off_t)layout_data_offset(250)), 0);
    close(fd);
    assert_int_equal(file_read_now(n, got, PAGE_BYTES, 260 * PAGE_BYTES), -EAGAIN);
    assert_int_equal(file_read(n, got, PAGE_BYTES, 260 * PAGE_BYTES), LFS_ERR_CORRUPT);
    assert_int_equal(file_read_now(n, got, PAGE_BYTES, 200 * PAGE_BYTES), PAGE_BYTES);
    expect(200 * PAGE_BYTES, PAGE_BYTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_is_not_in_memory_is_not_waited_for, setup, teardown),
        cmocka_unit_test_setup_teardown(test_half_of_it_is_not_enough, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_header_is_not_waited_for, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_pending_needs_no_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_short_file_is_for_the_one_who_waits, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
