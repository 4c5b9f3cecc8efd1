#include "extract_put.h"

#include "offline_xattr.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

void put_tmp(char out[static PUT_TMP_MAX])
{
    snprintf(out, PUT_TMP_MAX, ".latch-extract.%08x%08x", randombytes_random(), randombytes_random());
}

/* ---- names ---- */

static int rename_new(int dirfd, const char *tmp, const char *name)
{
    struct stat st;
    if (renameat2(dirfd, tmp, dirfd, name, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -errno;
    /* A filesystem without it: the best that can be done. */
    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return -EEXIST;
    return renameat(dirfd, tmp, dirfd, name) ? -errno : 0;
}

int put_place(int dirfd, const char *tmp, const char *name, bool force)
{
    int r = !force ? rename_new(dirfd, tmp, name) : renameat(dirfd, tmp, dirfd, name) ? -errno : 0;
    unlinkat(dirfd, tmp, 0); /* also where both are one inode, which a rename leaves as they are */
    return r;
}

int put_dir(int dirfd, const char *name, bool force, bool *made)
{
    *made = mkdirat(dirfd, name, 0700) == 0;
    if (!*made && errno != EEXIST)
        return -errno;
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 || *made || !force || (errno != ENOTDIR && errno != ELOOP))
        return fd >= 0 ? fd : errno == ELOOP ? -ENOTDIR : -errno;
    if (unlinkat(dirfd, name, 0))
        return -errno;
    return put_dir(dirfd, name, false, made);
}

/* The directory that top/path stands in; *name is its last component. */
static int open_beneath(int top, const char *path, const char **name)
{
    char dir[PATH_MAX];
    struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) : 0;
    if (len >= sizeof dir)
        return -ENAMETOOLONG;
    memcpy(dir, path, len);
    dir[len] = '\0';
    *name = slash ? slash + 1 : path;
    long fd = syscall(SYS_openat2, top, len ? dir : ".", &how, sizeof how);
    return fd < 0 ? -errno : (int)fd;
}

int put_link(int top, const char *path, const struct stat *seen, int dirfd, const char *tmp)
{
    const char *name;
    struct stat st;
    AUTO_CLOSE int dir = open_beneath(top, path, &name);
    if (dir < 0)
        return dir;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW))
        return -errno;
    if (st.st_ino != seen->st_ino || st.st_dev != seen->st_dev)
        return -ESTALE;
    return linkat(dir, name, dirfd, tmp, 0) ? -errno : 0;
}

/* ---- attributes ---- */

struct setter {
    int fd;
    char path[64 + NAME_MAX]; /* where fd is -1 */
    unsigned *unset;
};

static bool only_root(const char *name)
{
    return strncmp(name, "security.", 9) == 0 || strncmp(name, "trusted.", 8) == 0;
}

static int set_one(void *arg, const char *name, const void *value, size_t len)
{
    const struct setter *s = arg;
    int r = s->fd >= 0 ? fsetxattr(s->fd, name, value, len, 0) : lsetxattr(s->path, name, value, len, 0);
    if (r == 0 || (geteuid() != 0 && only_root(name)))
        return 0;
    if (errno != EOPNOTSUPP && errno != EPERM && errno != ENOSPC && errno != E2BIG && errno != ERANGE)
        return -errno;
    ++*s->unset;
    return 0;
}

/* Without the right to give files away, who extracts owns them; then set-id bits would mean somebody else. */
static mode_t mode_for(const struct stat *st)
{
    mode_t mode = st->st_mode & 07777;
    return geteuid() == 0 ? mode : mode & ~(mode_t)(S_ISDIR(st->st_mode) ? S_ISUID : S_ISUID | S_ISGID);
}

static int set_owner(const struct stat *st, int fd, int dirfd, const char *name)
{
    if (geteuid() != 0)
        return 0;
    int r = fd >= 0 ? fchown(fd, st->st_uid, st->st_gid)
                    : fchownat(dirfd, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW);
    return r ? -errno : 0;
}

static int set_mode(const struct stat *st, int fd)
{
    return fd >= 0 && fchmod(fd, mode_for(st)) ? -errno : 0;
}

int put_attributes(struct volume *v, struct node *n, const struct stat *st, int fd, int dirfd,
                   const char *name, unsigned *unset)
{
    const struct timespec times[2] = {st->st_atim, st->st_mtim};
    struct setter s = {.fd = fd, .unset = unset};
    snprintf(s.path, sizeof s.path, "/proc/self/fd/%d/%s", dirfd, name);
    int r = set_owner(st, fd, dirfd, name);
    int x = r ? 0 : offline_xattrs(v, n, geteuid() == 0, set_one, &s);
    if (!r)
        r = set_mode(st, fd);
    int t = r ? 0 : fd >= 0 ? futimens(fd, times) : utimensat(dirfd, name, times, AT_SYMLINK_NOFOLLOW);
    return r ? r : t ? -errno : x;
}
