#include "latchfs/io.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef RWF_DONTCACHE
#define RWF_DONTCACHE 0x80
#endif

ssize_t io_pread(int fd, void *buf, size_t len, uint64_t off)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = pread(fd, (char *)buf + done, len - done, (off_t)(off + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

int io_pwrite(int fd, const void *buf, size_t len, uint64_t off)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = pwrite(fd, (const char *)buf + done, len - done, (off_t)(off + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -EIO;
        done += (size_t)n;
    }
    return 0;
}

/* The first element may stay in part. */
static void skip_done(struct iovec **iov, int *n, size_t done)
{
    while (*n > 0 && done >= (*iov)->iov_len) {
        done -= (*iov)->iov_len;
        (*iov)++;
        (*n)--;
    }
    if (*n > 0) {
        (*iov)->iov_base = (char *)(*iov)->iov_base + done;
        (*iov)->iov_len -= done;
    }
}

ssize_t io_preadv(int fd, struct iovec *iov, int n, uint64_t off)
{
    size_t done = 0;
    while (n > 0) {
        ssize_t r = preadv(fd, iov, n, (off_t)(off + done));
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -errno;
        if (r == 0)
            break;
        done += (size_t)r;
        skip_done(&iov, &n, (size_t)r);
    }
    return (ssize_t)done;
}

static bool all_empty(const struct iovec *iov, int n)
{
    for (int i = 0; i < n; i++)
        if (iov[i].iov_len)
            return false;
    return true;
}

/* One call, as often as signals interrupt it. */
static ssize_t write_some(int fd, const struct iovec *iov, int n, uint64_t off, int flags)
{
    ssize_t w;
    do
        w = flags ? pwritev2(fd, iov, n, (off_t)off, flags) : pwritev(fd, iov, n, (off_t)off);
    while (w < 0 && errno == EINTR);
    return w;
}

static int write_vector(int fd, struct iovec *iov, int n, uint64_t off, int flags)
{
    while (n > 0) {
        ssize_t w = write_some(fd, iov, n, off, flags);
        if (w < 0)
            return -errno;
        if (w == 0 && !all_empty(iov, n))
            return -EIO;
        off += (uint64_t)w;
        skip_done(&iov, &n, (size_t)w);
    }
    return 0;
}

int io_pwritev(int fd, struct iovec *iov, int n, uint64_t off)
{
    return write_vector(fd, iov, n, off, 0);
}

/* Whether kernel and filesystem can do it shows at the first call, before anything is written. */
int io_pwritev_through(int fd, struct iovec *iov, int n, uint64_t off)
{
    static atomic_bool unsupported;
    if (!atomic_load(&unsupported)) {
        int r = write_vector(fd, iov, n, off, RWF_DONTCACHE);
        if (r != -EOPNOTSUPP)
            return r;
        atomic_store(&unsupported, true);
    }
    return io_pwritev(fd, iov, n, off);
}

int io_fsync(int fd)
{
    return fsync(fd) ? -errno : 0;
}

int io_fdatasync(int fd)
{
    return fdatasync(fd) ? -errno : 0;
}

int io_ftruncate(int fd, uint64_t len)
{
    int r;
    do
        r = ftruncate(fd, (off_t)len);
    while (r && errno == EINTR);
    return r ? -errno : 0;
}

int io_fallocate(int fd, int mode, uint64_t off, uint64_t len)
{
    int r;
    do
        r = fallocate(fd, mode, (off_t)off, (off_t)len);
    while (r && errno == EINTR);
    return r ? -errno : 0;
}

int io_read_file(int dirfd, const char *name, size_t max, char **data, size_t *len)
{
    AUTO_CLOSE int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;
    if (fd < 0 || fstat(fd, &st))
        return -errno;
    if (!S_ISREG(st.st_mode) || st.st_size < 0 || (uint64_t)st.st_size > max)
        return LFS_ERR_CORRUPT;
    AUTO_FREE char *buf = malloc((size_t)st.st_size + 1);
    if (!buf)
        return -ENOMEM;
    ssize_t n = io_pread(fd, buf, (size_t)st.st_size, 0);
    if (n < 0)
        return (int)n;
    buf[n] = '\0';
    *data = buf;
    *len = (size_t)n;
    buf = NULL;
    return 0;
}

static int write_synced(int dirfd, const char *tmp, const void *data, size_t len, unsigned mode)
{
    AUTO_CLOSE int fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int r = io_pwrite(fd, data, len, 0);
    if (!r && fchmod(fd, mode))
        r = -errno;
    return r ? r : io_fsync(fd);
}

int io_replace_file(int dirfd, const char *name, const void *data, size_t len, unsigned mode)
{
    char tmp[64];
    snprintf(tmp, sizeof tmp, "latchfs.tmp.%08x%08x", randombytes_random(), randombytes_random());
    int r = write_synced(dirfd, tmp, data, len, mode);
    if (!r && renameat(dirfd, tmp, dirfd, name))
        r = -errno;
    if (r) {
        unlinkat(dirfd, tmp, 0);
        return r;
    }
    AUTO_CLOSE int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : io_fsync(fd);
}
