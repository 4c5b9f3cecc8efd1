/* Taking apart what nobody sees any more: directories with their records, half-made things. */
#include "fs/store/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define SCAN_BYTES 8192
#define DEPTH_MAX 4 /* a temporary directory has at most another one in it */

static int scan_batch(const char *buf, size_t len, int (*fn)(const char *, unsigned char, void *), void *arg)
{
    for (size_t at = 0; at < len;) {
        const struct dirent64 *d = (const void *)(buf + at);
        at += d->d_reclen;
        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
            continue;
        int r = fn(d->d_name, d->d_type, arg);
        if (r)
            return r;
    }
    return 0;
}

int dir_scan(int fd, int (*fn)(const char *name, unsigned char type, void *arg), void *arg)
{
    char buf[SCAN_BYTES] __attribute__((aligned(8)));
    if (lseek(fd, 0, SEEK_SET) < 0)
        return errno == EBADF ? -EACCES : -errno; /* only a path */
    for (;;) {
        ssize_t n = getdents64(fd, buf, sizeof buf);
        if (n <= 0)
            return n < 0 ? -errno : 0;
        int r = scan_batch(buf, (size_t)n, fn, arg);
        if (r)
            return r;
    }
}

/* A name that does not decrypt counts as somebody's data, and so does what is not ours. */
static int refuse_entry(const char *name, unsigned char type, void *arg)
{
    switch (name_stored_kind(name)) {
    case STORED_LONG_SIDECAR:
    case STORED_OURS:
    case STORED_TMP:
        return 0;
    default:
        return -ENOTEMPTY;
    }
}

int dir_check_empty(int fd)
{
    return dir_scan(fd, refuse_entry, NULL);
}

int dir_check_removable(struct node *dir)
{
    uint8_t id[ID_BYTES];
    int fd, r = node_fd_get(dir, false, &fd);
    if (r)
        return r;
    r = dir_check_empty(fd);
    node_fd_put(dir);
    return !r && node_dir_enter(dir, id) == LFS_ERR_NOKEY ? LFS_ERR_NOKEY : r;
}

static int discard_dir(struct volume *v, int dirfd, const char *name, int depth);

static void discard_any(struct volume *v, int dirfd, const char *name, int depth)
{
    if (unlinkat(dirfd, name, 0) && (errno == EISDIR || errno == EPERM))
        discard_dir(v, dirfd, name, depth);
}

struct discarding {
    struct volume *v;
    int fd, depth;
    bool again; /* something went, so that the scan may have missed an entry */
};

/* Everything but the record. */
static int discard_entry(const char *name, unsigned char type, void *arg)
{
    struct discarding *d = arg;
    if (refuse_entry(name, type, NULL) == 0 && strcmp(name, DIRREC_NAME) != 0) {
        discard_any(d->v, d->fd, name, d->depth + 1);
        d->again = true;
    }
    return 0;
}

/* The owner of a directory may remove it whatever its mode. */
static int open_for_discard(struct volume *v, int dirfd, const char *name)
{
    struct stat st;
    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW))
        return -errno;
    if (S_ISDIR(st.st_mode) && st.st_uid == geteuid() && (st.st_mode & S_IRWXU) != S_IRWXU)
        fd_chmodat(dirfd, name, (st.st_mode & 07777) | S_IRWXU);
    return fd_openat(v, dirfd, name, O_RDONLY | O_DIRECTORY, 0);
}

static int discard_dir(struct volume *v, int dirfd, const char *name, int depth)
{
    if (depth > DEPTH_MAX)
        return -ENOTEMPTY;
    AUTO_CLOSE int fd = open_for_discard(v, dirfd, name);
    if (fd < 0)
        return fd;
    int r = dir_check_empty(fd);
    struct discarding d = {v, fd, depth, true};
    for (int round = 0; !r && d.again && round < 3; round++) {
        d.again = false;
        r = dir_scan(fd, discard_entry, &d);
    }
    if (!r && unlinkat(fd, DIRREC_NAME, 0) && errno != ENOENT)
        r = -errno;
    if (!r && unlinkat(dirfd, name, AT_REMOVEDIR))
        r = -errno;
    return r;
}

int dir_discard(struct volume *v, int dirfd, const char *name)
{
    return discard_dir(v, dirfd, name, 0);
}

void tmp_discard(struct volume *v, int dirfd, const char *name)
{
    discard_any(v, dirfd, name, 0);
}
