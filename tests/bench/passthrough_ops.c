#include "passthrough_ops.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

struct node *pass_node(fuse_req_t req, fuse_ino_t ino)
{
    const struct passthrough *p = fuse_req_userdata(req);
    return ino == FUSE_ROOT_ID ? p->root : (struct node *)ino;
}

int pass_errno(long r)
{
    return r < 0 ? errno : 0;
}

/* A path of an open descriptor, for calls that take no O_PATH. */
struct fd_path {
    char text[32];
};

static struct fd_path path_of(int fd)
{
    struct fd_path p;
    snprintf(p.text, sizeof p.text, "/proc/self/fd/%d", fd);
    return p;
}

static struct fuse_entry_param entry_with(struct stat attr)
{
    return (struct fuse_entry_param){
        .attr = attr, .attr_timeout = CACHE_SECONDS, .entry_timeout = CACHE_SECONDS};
}

static int entry_of(int fd, bool data, struct fuse_entry_param *e)
{
    struct stat st;
    struct node *n = fstatat(fd, "", &st, AT_EMPTY_PATH) ? NULL : node_get(fd, data, NULL, &st);
    if (!n) {
        int err = errno;
        close(fd);
        return err;
    }
    *e = entry_with(st);
    e->ino = (fuse_ino_t)n;
    return 0;
}

int pass_lookup(int dir, const char *name, struct fuse_entry_param *e)
{
    struct handle handle;
    struct stat st;
    int r = held_handle(dir, name, &handle);
    if (r == EOPNOTSUPP) {
        int fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 ? errno : entry_of(fd, false, e);
    }
    if (r || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW))
        return r ? r : errno;
    struct node *n = node_get(-1, false, &handle, &st);
    if (!n)
        return ENOMEM;
    *e = entry_with(st);
    e->ino = (fuse_ino_t)n;
    return 0;
}

/* ---- names ---- */

static void reply_entry(fuse_req_t req, int err, const struct fuse_entry_param *e)
{
    if (err)
        fuse_reply_err(req, err);
    else
        fuse_reply_entry(req, e);
}

static struct held hold_ino(fuse_req_t req, fuse_ino_t ino)
{
    return hold(&pass_node(req, ino)->kept, false);
}

static void pass_lookup_op(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param e = {.entry_timeout = CACHE_SECONDS}; /* also of a name that is not there */
    HELD dir = hold_ino(req, parent);
    int r = dir.fd < 0 ? -dir.fd : pass_lookup(dir.fd, name, &e);
    reply_entry(req, r == ENOENT ? 0 : r, &e);
}

static void forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
    if (ino != FUSE_ROOT_ID)
        node_forget(pass_node(req, ino), count);
}

static void pass_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
    forget(req, ino, count);
    fuse_reply_none(req);
}

static void pass_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    for (size_t i = 0; i < count; i++)
        forget(req, forgets[i].ino, forgets[i].nlookup);
    fuse_reply_none(req);
}

/* What the daemon makes belongs to the caller. */
static int give(fuse_req_t req, int dir, const char *name)
{
    const struct fuse_ctx *c = fuse_req_ctx(req);
    if (c->uid == geteuid() && c->gid == getegid())
        return 0;
    return pass_errno(fchownat(dir, name, c->uid, c->gid, AT_SYMLINK_NOFOLLOW));
}

static mode_t masked(fuse_req_t req, mode_t mode)
{
    return mode & ~fuse_req_ctx(req)->umask;
}

static void pass_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                        struct fuse_file_info *fi)
{
    HELD dir = hold_ino(req, parent);
    struct fuse_entry_param e;
    int flags = O_CREAT | O_RDWR | O_NOFOLLOW | O_CLOEXEC | (fi->flags & (O_EXCL | O_TRUNC));
    int fd = dir.fd < 0 ? dir.fd : openat(dir.fd, name, flags, masked(req, mode));
    int r = dir.fd < 0 ? -dir.fd : pass_errno(fd);
    if (!r)
        r = give(req, dir.fd, name);
    if (!r)
        r = entry_of(fd, true, &e);
    fi->keep_cache = 1;
    if (r)
        fuse_reply_err(req, r);
    else
        fuse_reply_create(req, &e, fi);
}

/* The common end of everything else that makes an entry. r: of the system call that made it in dir. */
static void made(fuse_req_t req, int dir, const char *name, int r)
{
    struct fuse_entry_param e;
    int err = pass_errno(r);
    if (!err)
        err = give(req, dir, name);
    if (!err)
        err = pass_lookup(dir, name, &e);
    reply_entry(req, err, &e);
}

static void pass_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    HELD dir = hold_ino(req, parent);
    made(req, dir.fd, name, mknodat(dir.fd, name, masked(req, mode), rdev));
}

static void pass_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    HELD dir = hold_ino(req, parent);
    made(req, dir.fd, name, mkdirat(dir.fd, name, masked(req, mode)));
}

static void pass_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    HELD dir = hold_ino(req, parent);
    made(req, dir.fd, name, symlinkat(target, dir.fd, name));
}

static void pass_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
    HELD dir = hold_ino(req, parent);
    HELD file = hold_ino(req, ino);
    struct fuse_entry_param e;
    int r = pass_errno(linkat(AT_FDCWD, path_of(file.fd).text, dir.fd, name, AT_SYMLINK_FOLLOW));
    reply_entry(req, r ? r : pass_lookup(dir.fd, name, &e), &e);
}

/* What is known by a name that goes away stays open: the kernel may still be using it. */
static void pin(int dir, const char *name)
{
    struct stat st;
    struct node *n = fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) ? NULL : node_find(&st);
    if (!n)
        return;
    held_pin(&n->kept);
    node_forget(n, 1);
}

static void remove_name(fuse_req_t req, fuse_ino_t parent, const char *name, int flags)
{
    HELD dir = hold_ino(req, parent);
    pin(dir.fd, name);
    fuse_reply_err(req, pass_errno(unlinkat(dir.fd, name, flags)));
}

static void pass_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    remove_name(req, parent, name, 0);
}

static void pass_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    remove_name(req, parent, name, AT_REMOVEDIR);
}

/* The usual case, a free name, is tried first: nothing goes away then. */
static void pass_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
                        const char *newname, unsigned flags)
{
    HELD from = hold_ino(req, parent);
    HELD to = hold_ino(req, newparent);
    int r = pass_errno(renameat2(from.fd, name, to.fd, newname, flags ? flags : RENAME_NOREPLACE));
    if (!flags && r) {
        pin(to.fd, newname);
        r = pass_errno(renameat2(from.fd, name, to.fd, newname, 0));
    }
    fuse_reply_err(req, r);
}

static void pass_readlink(fuse_req_t req, fuse_ino_t ino)
{
    char target[PATH_MAX];
    HELD h = hold_ino(req, ino);
    ssize_t n = readlinkat(h.fd, "", target, sizeof target - 1);
    if (n < 0) {
        fuse_reply_err(req, errno);
        return;
    }
    target[n] = '\0';
    fuse_reply_readlink(req, target);
}

/* ---- attributes ---- */

static void pass_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct stat st;
    HELD h = hold_ino(req, ino);
    int r = h.fd < 0 ? -h.fd : pass_errno(fstatat(h.fd, "", &st, AT_EMPTY_PATH));
    if (r)
        fuse_reply_err(req, r);
    else
        fuse_reply_attr(req, &st, CACHE_SECONDS);
}

static int set_times(int fd, const struct stat *want, int valid)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_OMIT}};
    if (valid & FUSE_SET_ATTR_ATIME)
        times[0] = want->st_atim;
    if (valid & FUSE_SET_ATTR_MTIME)
        times[1] = want->st_mtim;
    if (valid & FUSE_SET_ATTR_ATIME_NOW)
        times[0].tv_nsec = UTIME_NOW;
    if (valid & FUSE_SET_ATTR_MTIME_NOW)
        times[1].tv_nsec = UTIME_NOW;
    return pass_errno(utimensat(fd, "", times, AT_EMPTY_PATH));
}

static int set_size(struct node *n, off_t size)
{
    HELD h = hold(&n->kept, true);
    return h.fd < 0 ? -h.fd : pass_errno(ftruncate(h.fd, size));
}

static void pass_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *want, int valid,
                         struct fuse_file_info *fi)
{
    struct node *n = pass_node(req, ino);
    HELD h = hold(&n->kept, false);
    int r = h.fd < 0 ? -h.fd : 0;
    if (!r && valid & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) {
        uid_t uid = valid & FUSE_SET_ATTR_UID ? want->st_uid : (uid_t)-1;
        gid_t gid = valid & FUSE_SET_ATTR_GID ? want->st_gid : (gid_t)-1;
        r = pass_errno(fchownat(h.fd, "", uid, gid, AT_EMPTY_PATH));
    }
    if (!r && (valid & FUSE_SET_ATTR_MODE))
        r = pass_errno(chmod(path_of(h.fd).text, want->st_mode));
    if (!r && (valid & FUSE_SET_ATTR_SIZE))
        r = set_size(n, want->st_size);
    if (!r && (valid & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME)))
        r = set_times(h.fd, want, valid);
    if (r)
        fuse_reply_err(req, r);
    else
        pass_getattr(req, ino, fi);
}

static void pass_statfs(fuse_req_t req, fuse_ino_t ino)
{
    struct statvfs st;
    HELD h = hold_ino(req, ino);
    int r = h.fd < 0 ? -h.fd : pass_errno(fstatvfs(h.fd, &st));
    if (r)
        fuse_reply_err(req, r);
    else
        fuse_reply_statfs(req, &st);
}

static void reply_xattr(fuse_req_t req, ssize_t got, size_t size)
{
    if (got < 0)
        fuse_reply_err(req, errno);
    else if (size == 0)
        fuse_reply_xattr(req, (size_t)got);
    else
        fuse_reply_buf(req, session_reply_buffer(), (size_t)got);
}

static void pass_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
    HELD h = hold_ino(req, ino);
    reply_xattr(req, getxattr(path_of(h.fd).text, name, session_reply_buffer(), size), size);
}

static void pass_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
    HELD h = hold_ino(req, ino);
    reply_xattr(req, listxattr(path_of(h.fd).text, session_reply_buffer(), size), size);
}

/* The name stands right behind the header of the request; libfuse 3.14 and later differ where they look. */
static void pass_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size,
                          int flags)
{
    const struct passthrough *p = fuse_req_userdata(req);
    const struct fuse_setxattr_in *in = (const void *)(session_request() + 1);
    const char *at = (const char *)in + (p->setxattr_ext ? sizeof *in : (size_t)FUSE_COMPAT_SETXATTR_IN_SIZE);
    HELD h = hold_ino(req, ino);
    fuse_reply_err(req, pass_errno(setxattr(path_of(h.fd).text, at, at + strlen(at) + 1, in->size, flags)));
}

static void pass_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
    HELD h = hold_ino(req, ino);
    fuse_reply_err(req, pass_errno(removexattr(path_of(h.fd).text, name)));
}

/* ---- the table ---- */

static void pass_init(void *arg, struct fuse_conn_info *conn)
{
    session_negotiate(conn, ((const struct passthrough *)arg)->writeback);
}

struct fuse_lowlevel_ops passthrough_table(const struct passthrough *p)
{
    return (struct fuse_lowlevel_ops){
        .init = pass_init,
        .lookup = pass_lookup_op,
        .forget = pass_forget,
        .forget_multi = pass_forget_multi,
        .create = pass_create,
        .mknod = pass_mknod,
        .mkdir = pass_mkdir,
        .symlink = pass_symlink,
        .link = pass_link,
        .unlink = pass_unlink,
        .rmdir = pass_rmdir,
        .rename = pass_rename,
        .readlink = pass_readlink,
        .getattr = pass_getattr,
        .setattr = pass_setattr,
        .statfs = pass_statfs,
        .getxattr = pass_getxattr,
        .setxattr = pass_setxattr,
        .listxattr = pass_listxattr,
        .removexattr = pass_removexattr,
        .open = pass_open,
        .release = pass_release,
        .read = pass_read,
        .write = pass_write,
        .fsync = pass_fsync,
        .fallocate = pass_fallocate,
        .copy_file_range = pass_copy_range,
        .lseek = p->writeback ? NULL : pass_lseek,
        .opendir = pass_open,
        .releasedir = pass_release,
        .readdir = pass_readdir,
        .readdirplus = pass_readdirplus,
        .fsyncdir = pass_fsync,
    };
}
