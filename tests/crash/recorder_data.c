/* The recorder: contents and syncs. */
#include "recorder.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static void wrote(int fd, const struct iovec *iov, int n, off_t at, long done)
{
    uint64_t ino;
    struct iovec some[IOV_MAX];
    int k = 0;
    if (done <= 0 || !rec_of_fd(fd, &ino))
        return;
    for (size_t left = (size_t)done; left && k < n; k++) {
        some[k] = iov[k];
        if (some[k].iov_len > left)
            some[k].iov_len = left;
        left -= some[k].iov_len;
    }
    REC_PUT(TRACE_WRITE, some, k, ino, (uint64_t)at);
}

EXPORT ssize_t pwrite(int fd, const void *buf, size_t len, off_t at)
{
    struct iovec iov = {(void *)(uintptr_t)buf, len};
    rec_begin();
    long r = syscall(SYS_pwrite64, fd, buf, len, at);
    wrote(fd, &iov, 1, at, r);
    return rec_end(r);
}
ALIAS("pwrite") ssize_t pwrite64(int fd, const void *buf, size_t len, off64_t at);

/* The record's own pieces take two of what a call may have. */
EXPORT ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t at)
{
    n = n < IOV_MAX - 2 ? n : IOV_MAX - 2;
    rec_begin();
    long r = syscall(SYS_pwritev, fd, iov, n, at, 0);
    wrote(fd, iov, n, at, r);
    return rec_end(r);
}
ALIAS("pwritev") ssize_t pwritev64(int fd, const struct iovec *iov, int n, off64_t at);

EXPORT ssize_t pwritev2(int fd, const struct iovec *iov, int n, off_t at, int flags)
{
    return pwritev(fd, iov, n, at);
}
ALIAS("pwritev2") ssize_t pwritev64v2(int fd, const struct iovec *iov, int n, off64_t at, int flags);

EXPORT ssize_t writev(int fd, const struct iovec *iov, int n)
{
    rec_begin();
    long r = syscall(SYS_writev, fd, iov, n);
    uint64_t ino;
    if (r > 0 && rec_of_fd(fd, &ino)) {
        off_t at = lseek(fd, 0, SEEK_CUR) - r; /* with O_APPEND too: the offset is behind what was written */
        wrote(fd, iov, n, at, r);
    }
    return rec_end(r);
}

EXPORT ssize_t write(int fd, const void *buf, size_t len)
{
    struct iovec iov = {(void *)(uintptr_t)buf, len};
    if (fd != TRACE_MARK_FD)
        return writev(fd, &iov, 1);
    rec_begin();
    if (rec_active())
        rec_put(TRACE_MARK, NULL, 0, &iov, 1);
    return rec_end((long)len);
}

EXPORT int ftruncate(int fd, off_t len)
{
    uint64_t ino;
    rec_begin();
    long r = syscall(SYS_ftruncate, fd, len);
    if (!r && rec_of_fd(fd, &ino))
        REC_PUT(TRACE_TRUNCATE, NULL, 0, ino, (uint64_t)len);
    return (int)rec_end(r);
}
ALIAS("ftruncate") int ftruncate64(int fd, off64_t len);

EXPORT int fallocate(int fd, int mode, off_t at, off_t len)
{
    uint64_t ino;
    rec_begin();
    long r = syscall(SYS_fallocate, fd, mode, at, len);
    if (!r && rec_of_fd(fd, &ino))
        REC_PUT(TRACE_FALLOCATE, NULL, 0, ino, (uint64_t)mode, (uint64_t)at, (uint64_t)len);
    return (int)rec_end(r);
}
ALIAS("fallocate") int fallocate64(int fd, int mode, off64_t at, off64_t len);

EXPORT int posix_fallocate(int fd, off_t at, off_t len)
{
    return fallocate(fd, 0, at, len) ? errno : 0;
}
ALIAS("posix_fallocate") int posix_fallocate64(int fd, off64_t at, off64_t len);

EXPORT ssize_t copy_file_range(int in, off64_t *in_at, int out, off64_t *out_at, size_t len, unsigned flags)
{
    rec_begin();
    long r = syscall(SYS_copy_file_range, in, in_at, out, out_at, len, flags);
    rec_unmodelled(out, "copy_file_range");
    return rec_end(r);
}

EXPORT void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t at)
{
    if (fd < 0 || !(flags & MAP_SHARED) || !(prot & PROT_WRITE))
        return (void *)syscall(SYS_mmap, addr, len, prot, flags, fd, at);
    rec_begin();
    rec_unmodelled(fd, "mmap");
    return (void *)rec_end(syscall(SYS_mmap, addr, len, prot, flags, fd, at));
}
ALIAS("mmap") void *mmap64(void *addr, size_t len, int prot, int flags, int fd, off64_t at);

/* ---- syncs ---- */

static uint64_t sync_number;

static int do_sync(int fd, enum trace_sync kind)
{
    uint64_t ino;
    struct stat st;
    rec_begin();
    if (rec_stat(fd, "", AT_EMPTY_PATH, &st))
        return (int)rec_end(-1);
    bool in = rec_of_fd(fd, &ino);
    uint64_t number = ++sync_number;
    if (in)
        REC_PUT(TRACE_SYNC_BEGIN, NULL, 0, number, (uint64_t)kind, ino);
    rec_end(0);
    sched_yield(); /* so that other threads come in between, as they would */
    rec_begin();
    if (in)
        REC_PUT(TRACE_SYNC_END, NULL, 0, number);
    return (int)rec_end(0);
}

EXPORT int fsync(int fd)
{
    return do_sync(fd, SYNC_FILE);
}

EXPORT int fdatasync(int fd)
{
    return do_sync(fd, SYNC_DATA);
}

EXPORT int syncfs(int fd)
{
    return do_sync(fd, SYNC_ALL);
}

/* Promises nothing about a power cut. */
EXPORT int sync_file_range(int fd, off64_t at, off64_t len, unsigned flags)
{
    return 0;
}
