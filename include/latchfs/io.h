/* Whole-length I/O over descriptors: short transfers and EINTR are finished here, errors come back as
 * -errno. Nothing is retried after a real error. */
#ifndef LATCHFS_IO_H
#define LATCHFS_IO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Reads up to len bytes at off; less only at end of file. Returns the count or -errno. */
ssize_t io_pread(int fd, void *buf, size_t len, uint64_t off);

/* As io_pread for a vector; iov is changed. At most IOV_MAX elements, none empty. */
ssize_t io_preadv(int fd, struct iovec *iov, int n, uint64_t off);

/* Writes all of it or returns -errno (some of it may then be written). */
int io_pwrite(int fd, const void *buf, size_t len, uint64_t off);

/* As io_pwrite for a vector; iov is changed. At most IOV_MAX elements. */
int io_pwritev(int fd, struct iovec *iov, int n, uint64_t off);

/* The same for a stream: writing to disk begins at once, and the page cache does not keep it, where the
 * kernel can do that (RWF_DONTCACHE, Linux 6.14). As volatile as any other write until a sync. */
int io_pwritev_through(int fd, struct iovec *iov, int n, uint64_t off);

int io_fsync(int fd);
int io_fdatasync(int fd);
int io_ftruncate(int fd, uint64_t len);
int io_fallocate(int fd, int mode, uint64_t off, uint64_t len);

/* The whole of a small regular file: at most max bytes, else LFS_ERR_CORRUPT. *data is malloc'ed, the
 * caller frees; one NUL is put behind it (not counted). Refuses what is not a regular file. */
int io_read_file(int dirfd, const char *name, size_t max, char **data, size_t *len);

/* Replaces dirfd/name atomically: writes latchfs.tmp.<random>, syncs, renames, syncs the directory.
 * The file gets mode (umask does not count). */
int io_replace_file(int dirfd, const char *name, const void *data, size_t len, unsigned mode);

#endif
