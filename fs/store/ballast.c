#include "fs/store/ballast.h"

#include "latchfs/io.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/vfs.h>
#include <unistd.h>

#define BALLAST_NAME TMP_PREFIX "ballast" /* one that a dead daemon left is removed with other tmp names */
#define XFS_MAGIC 0x58465342

struct ballast {
    int fd;
    uint64_t bytes;
    atomic_bool whole;
};

/* Filesystems whose fallocate keeps its word: the space is there when the write comes. */
static bool allocation_holds(int fd)
{
    struct statfs s;
    if (fstatfs(fd, &s))
        return false;
    return s.f_type == EXT4_SUPER_MAGIC || s.f_type == TMPFS_MAGIC || s.f_type == XFS_MAGIC;
}

/* Random bytes: a filesystem that compresses would store zeros in no space. */
static int fill(struct ballast *b)
{
    size_t piece = 1u << 20;
    uint8_t *buf = malloc(piece);
    int r = buf ? 0 : -ENOMEM;
    for (uint64_t at = 0; !r && at < b->bytes; at += piece) {
        randombytes_buf(buf, piece);
        r = io_pwrite(b->fd, buf, piece, at);
    }
    free(buf);
    if (!r)
        r = io_fsync(b->fd);
    if (r)
        io_ftruncate(b->fd, 0);
    atomic_store(&b->whole, r == 0);
    return r;
}

int ballast_open(struct volume *v, uint64_t bytes)
{
    int fd = openat(v->root_fd, BALLAST_NAME, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    if (allocation_holds(fd) && io_fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, PAGE_BYTES) == 0) {
        close(fd);
        v->ballast_needless = true;
        return unlinkat(v->root_fd, BALLAST_NAME, 0) ? -errno : 0;
    }
    struct ballast *b = calloc(1, sizeof *b);
    if (!b) {
        close(fd);
        return -ENOMEM;
    }
    *b = (struct ballast){.fd = fd, .bytes = bytes};
    v->ballast = b;
    int r = fill(b);
    if (r)
        ballast_free(v);
    return r;
}

void ballast_free(struct volume *v)
{
    if (!v->ballast)
        return;
    close(v->ballast->fd);
    unlinkat(v->root_fd, BALLAST_NAME, 0);
    free(v->ballast);
    v->ballast = NULL;
}

void ballast_discard(struct volume *v)
{
    if (unlinkat(v->root_fd, BALLAST_NAME, 0) == 0)
        syncfs(v->root_fd);
}

bool ballast_release(struct volume *v)
{
    return v->ballast && atomic_exchange(&v->ballast->whole, false) && io_ftruncate(v->ballast->fd, 0) == 0 &&
           io_fsync(v->ballast->fd) == 0;
}

void ballast_refill(struct volume *v)
{
    if (v->ballast && !atomic_load(&v->ballast->whole))
        fill(v->ballast);
}

int ballast_check(const struct volume *v)
{
    return v->ballast && !atomic_load(&v->ballast->whole) ? -ENOSPC : 0;
}
