/* Reads that wait for no disk, of a file that the page cache was made to forget. */
#include "fs/store/file.h"
#include "seal_fixture.h"

#include <sys/mman.h>
#include <unistd.h>

#define CHUNKS 300u
#define SIZE ((size_t)CHUNKS * PAGE_BYTES + 100)

static struct node *n;
static uint8_t want[SIZE], got[SIZE];

/* How much of it the page cache has, in pages. */
static size_t resident(int fd, size_t len)
{
    size_t pages = (len + PAGE_BYTES - 1) / PAGE_BYTES, n_there = 0;
    static unsigned char there[SIZE / PAGE_BYTES * 2];
    assert_true(pages <= sizeof there);
    void *at = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
    assert_true(at != MAP_FAILED && mincore(at, len, there) == 0);
    for (size_t i = 0; i < pages; i++)
        n_there += there[i] & 1;
    munmap(at, len);
    return n_there;
}

/* Reading all of it ends reads that are under way, whose pages cannot be dropped. */
static bool drop(int fd)
{
    static uint8_t all[SIZE * 2];
    ssize_t len = pread(fd, all, sizeof all, 0);
    assert_true(len > 0);
    assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    return resident(fd, (size_t)len) == 0;
}

static bool knows_reads_that_do_not_wait(int fd)
{
    uint8_t byte;
    struct iovec iov = {&byte, 1};
    return preadv2(fd, &iov, 1, 0, RWF_NOWAIT) >= 0 || errno == EAGAIN;
}

/* The file in place and on disk, and none of it in memory; the kernel may hold on to a page for a moment.
 * False: this filesystem has no disk to wait for. */
static bool forgotten(void)
{
    int fd = backing(n, O_RDONLY);
    assert_int_equal(fsync(fd), 0);
    bool cold = false;
    for (unsigned i = 0; i < 100 && !cold && knows_reads_that_do_not_wait(fd); i++) {
        cold = drop(fd);
        if (!cold)
            usleep(10000);
    }
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

/* How often, of TRIES, a read of the kernel's that does not wait gets nothing: a quick disk may have answered
 * before the call that asked it returns. */
#define TRIES 60u
static unsigned waits_of_a_plain_read(void)
{
    uint8_t byte;
    struct iovec iov = {&byte, 1};
    unsigned waits = 0;
    for (unsigned i = 0; i < TRIES; i++) {
        assert_true(forgotten());
        int fd = backing(n, O_RDONLY);
        waits += preadv2(fd, &iov, 1, (off_t)layout_data_offset(CHUNKS - 1), RWF_NOWAIT) < 0;
        close(fd);
    }
    return waits;
}

static size_t length_at(uint64_t off, size_t len)
{
    return off + len > SIZE ? SIZE - off : len;
}

/* With all forgotten but what `bring` brings, a read that does not wait gets nothing, as a plain one would.
 */
static void expect_not_waited_for(void (*bring)(void), uint64_t off, size_t len)
{
    for (unsigned i = 0; i < TRIES; i++) {
        if (!forgotten())
            skip();
        if (bring)
            bring();
        ssize_t r = file_read_now(n, got, len, off);
        if (r == -EAGAIN)
            return;
        assert_int_equal(r, length_at(off, len));
        expect(off, (size_t)r);
    }
    if (waits_of_a_plain_read() > TRIES / 10)
        fail_msg("it waited for the disk");
    skip();
}

static void read_both_ways(uint64_t off, size_t len)
{
    size_t have = length_at(off, len);
    expect_not_waited_for(NULL, off, len);
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

#define CHUNK 200u

static void bring_page(uint64_t at)
{
    int fd = backing(n, O_RDONLY);
    uint8_t page[PAGE_BYTES];
    posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    assert_int_equal(pread(fd, page, sizeof page, (off_t)at), sizeof page);
    close(fd);
}

static void bring_record(void)
{
    bring_page(layout_tag_page(CHUNK));
}

static void bring_data(void)
{
    bring_page(layout_data_offset(CHUNK));
}

static void test_half_of_it_is_not_enough(void **state)
{
    expect_not_waited_for(bring_record, CHUNK * PAGE_BYTES, PAGE_BYTES);
    expect_not_waited_for(bring_data, CHUNK * PAGE_BYTES, PAGE_BYTES);
}

static int setup_closed(void **state)
{
    int r = setup(state);
    file_close(n);
    return r;
}

static int teardown_closed(void **state)
{
    return file_open(n, true) ? -1 : teardown(state);
}

static void unload_and_bring(void)
{
    file_forget_idle(n);
    bring_record();
    bring_data();
}

/* All of it is there but the header of a file that is to be loaded. */
static void test_the_header_is_not_waited_for(void **state)
{
    expect_not_waited_for(unload_and_bring, CHUNK * PAGE_BYTES, PAGE_BYTES);
    assert_int_equal(file_read(n, got, PAGE_BYTES, CHUNK * PAGE_BYTES), PAGE_BYTES);
    expect(CHUNK * PAGE_BYTES, PAGE_BYTES);
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
        cmocka_unit_test_setup_teardown(test_the_header_is_not_waited_for, setup_closed, teardown_closed),
        cmocka_unit_test_setup_teardown(test_what_is_pending_needs_no_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_short_file_is_for_the_one_who_waits, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
