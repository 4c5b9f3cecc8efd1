/* Attributes. */
#include "fs/store/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

static int stat_at(struct node *n, struct stat *st)
{
    struct node_at at;
    int r = node_at_get(n, &at);
    if (r)
        return r;
    if (fstatat(at.fd, at.name, st, at.flags))
        r = errno == ENOENT ? -ESTALE : -errno;
    else if (at.locked && (st->st_ino != n->ino || st->st_dev != n->dev))
        r = -ESTALE;
    else if (S_ISLNK(n->type) && at.locked)
        r = link_fix_size(at.fd, at.name, st);
    node_at_put(&at);
    return r;
}

/* Where the parent may not be searched, a descriptor of its own still tells. */
int node_stat(struct node *n, struct stat *st)
{
    struct stat raw;
    int fd, r = stat_at(n, &raw);
    if (r == -EACCES && (r = node_fd_get(n, false, &fd)) == 0) {
        r = fstat(fd, &raw) ? -errno : 0;
        node_fd_put(n);
    }
    if (r)
        return r;
    tree_fix_stat(n, &raw);
    *st = raw;
    return 0;
}

int node_getattr(struct node *n, struct stat *st)
{
    struct volume *v = n->vol;
    int r = node_enter_named(n, true);
    if (r == LFS_ERR_NOKEY && n == v->root)
        return fstat(v->root_fd, st) ? -errno : 0;
    return r ? r : tree_end(v, node_stat(n, st));
}

/* ---- changes ---- */

static int set_owner(const struct node_at *at, const struct stat *want, unsigned valid)
{
    uid_t uid = valid & SET_UID ? want->st_uid : (uid_t)-1;
    gid_t gid = valid & SET_GID ? want->st_gid : (gid_t)-1;
    return fchownat(at->fd, at->name, uid, gid, at->flags) ? -errno : 0;
}

static int set_times(const struct node_at *at, const struct stat *want, unsigned valid)
{
    struct timespec t[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_OMIT}};
    if (valid & SET_ATIME)
        t[0] = want->st_atim;
    if (valid & SET_MTIME)
        t[1] = want->st_mtim;
    return utimensat(at->fd, at->name, t, at->flags) ? -errno : 0;
}

/* A descriptor from before keeps the file usable for those who have it open, where its owner loses access. */
static void keep_access(struct node *n, mode_t mode)
{
    int fd;
    if (geteuid() == 0 || (mode & (S_IRUSR | S_IWUSR)) == (S_IRUSR | S_IWUSR))
        return;
    if ((S_ISREG(n->type) || S_ISDIR(n->type)) && node_fd_get(n, true, &fd) == 0)
        node_fd_put(n);
}

/* -EBADF: no descriptor, or one that is only a path. */
static int chmod_fd(struct node *n, mode_t mode)
{
    int fd;
    if (!fd_try(n, false, &fd))
        return -EBADF;
    fd_grant_lock(n->vol);
    int r = fchmod(fd, mode) ? -errno : 0;
    fd_grant_unlock(n->vol);
    node_fd_put(n);
    return r;
}

static int chmod_named(struct node *n, mode_t mode)
{
    struct node_at at;
    int r = node_at_named(n, &at);
    if (r)
        return r;
    fd_grant_lock(n->vol);
    r = fd_chmodat(at.fd, at.name, mode);
    fd_grant_unlock(n->vol);
    node_at_put(&at);
    return r;
}

/* A special file without a name is held by a descriptor that is only a path. */
static int chmod_path_fd(struct node *n, mode_t mode)
{
    char proc[40];
    int fd;
    if (!fd_try(n, false, &fd))
        return -ESTALE;
    snprintf(proc, sizeof proc, "/proc/self/fd/%d", fd); /* for kernels before 6.6 */
    int r = syscall(SYS_fchmodat2, fd, "", mode, AT_EMPTY_PATH) == 0 || chmod(proc, mode) == 0 ? 0 : -errno;
    node_fd_put(n);
    return r;
}

static int set_mode(struct node *n, mode_t mode)
{
    mode &= 07777;
    keep_access(n, mode);
    int r = chmod_fd(n, mode);
    if (r == -EBADF)
        r = chmod_named(n, mode);
    return r == -ESTALE ? chmod_path_fd(n, mode) : r;
}

static int change(struct node *n, const struct stat *want, unsigned valid)
{
    struct node_at at;
    int r = 0;
    if (valid & (SET_UID | SET_GID)) {
        r = node_at_get(n, &at);
        if (r)
            return r;
        r = set_owner(&at, want, valid);
        node_at_put(&at);
    }
    if (!r && (valid & SET_MODE))
        r = set_mode(n, want->st_mode);
    if (!r && (valid & (SET_ATIME | SET_MTIME))) {
        r = node_at_get(n, &at);
        if (r)
            return r;
        r = set_times(&at, want, valid);
        node_at_put(&at);
    }
    return r;
}

static int64_t ns_between(struct timespec a, struct timespec b)
{
    return ((int64_t)a.tv_sec - b.tv_sec) * 1000000000 + a.tv_nsec - b.tv_nsec;
}

/* After each rename, link and unlink the kernel sends mtime and ctime of a file whose data it caches: the
 * mtime is the one that the file has, the ctime that of the change, which the backing file has got by it. */
#define SAME_CTIME_NS 100000000
static bool has_times(struct node *n, const struct stat *want, unsigned valid, struct stat *raw)
{
    if (!atomic_exchange(&n->renamed, false) || valid != (SET_MTIME | SET_CTIME) || stat_at(n, raw))
        return false;
    int64_t late = ns_between(want->st_ctim, raw->st_ctim);
    return ns_between(want->st_mtim, raw->st_mtim) == 0 && late < SAME_CTIME_NS && late > -SAME_CTIME_NS;
}

static int set_attr(struct node *n, const struct stat *want, unsigned valid, struct stat *st)
{
    struct stat raw;
    int r = 0;
    if (!has_times(n, want, valid, &raw)) {
        r = change(n, want, valid);
        n->meta_dirty = true;
        /* What "now" was, the backing file tells. */
        if (!r)
            r = stat_at(n, &raw);
    }
    if (r)
        return r;
    if (S_ISREG(n->type) && (valid & SET_MTIME))
        file_mtime_set(n, raw.st_mtim);
    tree_fix_stat(n, &raw);
    *st = raw;
    return 0;
}

int node_setattr(struct node *n, const struct stat *want, unsigned valid, struct stat *st)
{
    struct volume *v = n->vol;
    VOLUME_CHANGE(v);
    if (valid & SET_SIZE) {
        if (!S_ISREG(n->type))
            return S_ISDIR(n->type) ? -EISDIR : -EINVAL;
        if (want->st_size < 0)
            return -EINVAL;
        int r = file_truncate(n, (uint64_t)want->st_size);
        if (r)
            return r;
    }
    int r = node_enter_named(n, true);
    if (!r && (r = volume_check_writable(v)) != 0)
        volume_leave(v);
    return r ? r : tree_end(v, set_attr(n, want, valid, st));
}

int volume_statfs(struct volume *v, struct statvfs *out)
{
    struct statvfs s;
    if (fstatvfs(v->root_fd, &s))
        return -errno;
    s.f_namemax = NAME_PLAIN_MAX;
    if (v->read_only)
        s.f_flag |= ST_RDONLY;
    *out = s;
    return 0;
}
