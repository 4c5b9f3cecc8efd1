#include "latchfs/err.h"
#include "latchfs/io.h"
#include "support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

struct fixture {
    char path[64];
    int dir;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    strcpy(f->path, "/tmp/latchfs-io-XXXXXX");
    if (!mkdtemp(f->path))
        return -1;
    f->dir = open(f->path, O_RDONLY | O_DIRECTORY);
    *state = f;
    return 0;
}

static size_t count_entries(struct fixture *f, bool removing)
{
    size_t n = 0;
    DIR *d = opendir(f->path);
    for (struct dirent *e; (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        n++;
        if (removing && unlinkat(f->dir, e->d_name, 0))
            unlinkat(f->dir, e->d_name, AT_REMOVEDIR);
    }
    closedir(d);
    return n;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    count_entries(f, true);
    close(f->dir);
    rmdir(f->path);
    free(f);
    return 0;
}

static void test_read_and_write(void **state)
{
    struct fixture *f = *state;
    char buf[16] = {0};
    int fd = openat(f->dir, "a", O_RDWR | O_CREAT, 0600);
    assert_int_equal(io_pwrite(fd, "0123456789", 10, 5), 0);
    assert_int_equal(io_pread(fd, buf, sizeof buf, 7), 8); /* up to the end of the file */
    assert_memory_equal(buf, "23456789", 8);
    assert_int_equal(io_pread(fd, buf, sizeof buf, 100), 0);
    assert_int_equal(io_ftruncate(fd, 6), 0);
    assert_int_equal(io_pread(fd, buf, sizeof buf, 5), 1);
    assert_int_equal(io_fdatasync(fd), 0);
    assert_int_equal(io_fsync(fd), 0);
    close(fd);
    assert_int_equal(io_pread(fd, buf, 1, 0), -EBADF);
    assert_int_equal(io_pwrite(fd, buf, 1, 0), -EBADF);
    assert_int_equal(io_fsync(fd), -EBADF);
}

static void test_vector_with_empty_parts(void **state)
{
    struct fixture *f = *state;
    char a[] = "abc", b[] = "defgh", buf[16];
    struct iovec iov[] = {{a, 3}, {NULL, 0}, {b, 5}, {NULL, 0}};
    int fd = openat(f->dir, "a", O_RDWR | O_CREAT, 0600);
    assert_int_equal(io_pwritev(fd, iov, 4, 1), 0);
    assert_int_equal(io_pread(fd, buf, sizeof buf, 0), 9);
    assert_memory_equal(buf, "\0abcdefgh", 9);
    close(fd);
}

/* The file ends within the first buffer, within the second, and behind both. */
static void test_read_into_several_buffers(void **state)
{
    struct fixture *f = *state;
    char a[4] = "....", b[8] = "........";
    int fd = openat(f->dir, "a", O_RDWR | O_CREAT, 0600);
    assert_int_equal(io_pwrite(fd, "0123456789", 10, 0), 0);
    for (unsigned off = 1; off < 12; off++) {
        struct iovec iov[] = {{a, sizeof a}, {b, sizeof b}};
        unsigned have = off < 10 ? 10 - off : 0, in_a = have < sizeof a ? have : sizeof a;
        memset(a, '.', sizeof a);
        memset(b, '.', sizeof b);
        assert_int_equal(io_preadv(fd, iov, 2, off), have);
        assert_memory_equal(a, &"0123456789...."[off < 10 ? off : 10], sizeof a);
        assert_memory_equal(b, &"456789........"[off < 6 ? off : 6], have - in_a);
    }
    close(fd);
}

static void test_fallocate_keeps_size(void **state)
{
    struct fixture *f = *state;
    struct stat st;
    int fd = openat(f->dir, "a", O_RDWR | O_CREAT, 0600);
    assert_int_equal(io_fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 65536), 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, 0);
    assert_true(st.st_blocks >= 65536 / 512);
    close(fd);
}

static void test_replace_and_read_file(void **state)
{
    struct fixture *f = *state;
    char *data = NULL;
    size_t len = 99;
    struct stat st;
    umask(077);
    assert_int_equal(io_replace_file(f->dir, "x", "first", 5, 0644), 0);
    assert_int_equal(io_replace_file(f->dir, "x", "second!", 7, 0644), 0);
    assert_int_equal(fstatat(f->dir, "x", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0644);
    assert_int_equal(count_entries(f, false), 1); /* no temporary file is left */
    assert_int_equal(io_read_file(f->dir, "x", 7, &data, &len), 0);
    assert_int_equal(len, 7);
    assert_string_equal(data, "second!");
    free(data);
}

static void test_read_file_refuses(void **state)
{
    struct fixture *f = *state;
    char *data = NULL;
    size_t len = 99;
    assert_int_equal(io_read_file(f->dir, "none", 10, &data, &len), -ENOENT);
    assert_int_equal(io_replace_file(f->dir, "x", "12345", 5, 0600), 0);
    assert_int_equal(io_read_file(f->dir, "x", 4, &data, &len), LFS_ERR_CORRUPT);
    assert_int_equal(symlinkat("x", f->dir, "link"), 0);
    assert_int_equal(io_read_file(f->dir, "link", 10, &data, &len), -ELOOP);
    assert_int_equal(mkfifoat(f->dir, "fifo", 0600), 0);
    assert_int_equal(io_read_file(f->dir, "fifo", 10, &data, &len), LFS_ERR_CORRUPT);
    assert_int_equal(mkdirat(f->dir, "dir", 0700), 0);
    assert_int_equal(io_read_file(f->dir, "dir", 10, &data, &len), LFS_ERR_CORRUPT);
    assert_null(data);
    assert_int_equal(len, 99);
}

static void test_replace_leaves_nothing_on_failure(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(mkdirat(f->dir, "x", 0700), 0); /* a directory can't be replaced by a file */
    assert_int_equal(io_replace_file(f->dir, "x", "1", 1, 0600), -EISDIR);
    assert_int_equal(count_entries(f, false), 1);
}

#define WITH_DIR(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_DIR(test_read_and_write),
        WITH_DIR(test_vector_with_empty_parts),
        WITH_DIR(test_read_into_several_buffers),
        WITH_DIR(test_fallocate_keeps_size),
        WITH_DIR(test_replace_and_read_file),
        WITH_DIR(test_read_file_refuses),
        WITH_DIR(test_replace_leaves_nothing_on_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
