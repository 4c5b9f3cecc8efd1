#include "fs/mount/ops.h"

#include "fs/mount/identity.h"
#include "fs/mount/keys.h"
#include "latchfs/err.h"
#include "latchfs/log.h"

#include <errno.h>
#include <string.h>
#include <time.h>

/* ---- negotiation ---- */

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
    const struct daemon *d = userdata;
    session_negotiate(conn, d->want_writeback);
    if (d->shared) {
        conn->want &= ~(unsigned)(FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_CACHE_SYMLINKS |
                                  FUSE_CAP_EXPLICIT_INVAL_DATA);
        conn->want |= FUSE_CAP_AUTO_INVAL_DATA & conn->capable;
    }
}

double ops_cache_seconds(const struct daemon *d)
{
    return d->shared ? 0 : CACHE_SECONDS;
}

struct fuse_lowlevel_ops ops_table(const struct daemon *d)
{
    struct fuse_lowlevel_ops ops = {
        .init = op_init,
        .lookup = op_lookup,
        .forget = op_forget,
        .forget_multi = op_forget_multi,
        .create = op_create,
        .mknod = op_mknod,
        .mkdir = op_mkdir,
        .symlink = op_symlink,
        .link = op_link,
        .unlink = op_unlink,
        .rmdir = op_rmdir,
        .rename = op_rename,
        .readlink = op_readlink,
        .getattr = op_getattr,
        .setattr = op_setattr,
        .statfs = op_statfs,
        .getxattr = op_getxattr,
        .setxattr = op_setxattr,
        .listxattr = op_listxattr,
        .removexattr = op_removexattr,
        .open = op_open,
        .release = op_release,
        .read = op_read,
        .write = op_write,
        .fsync = op_fsync,
        .fallocate = op_fallocate,
        .copy_file_range = op_copy_range,
        .opendir = op_opendir,
        .releasedir = op_releasedir,
        .readdir = op_readdir,
        .readdirplus = op_readdirplus,
        .fsyncdir = op_fsyncdir,
    };
    if (!d->want_writeback)
        ops.lseek = op_lseek;
    if (d->shared) {
        ops.flush = op_flush;
    } else {
        ops.open = op_open_unasked;
        ops.release = NULL;
        ops.opendir = op_opendir_unasked;
        ops.releasedir = NULL;
    }
    return ops;
}

/* ---- nodes and answers ---- */

struct daemon *ops_daemon(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

struct node *ops_node(fuse_req_t req, fuse_ino_t ino)
{
    return ino == FUSE_ROOT_ID ? volume_root(ops_daemon(req)->vol) : (struct node *)ino;
}

fuse_ino_t ops_ino(const struct daemon *d, const struct node *n)
{
    return n == volume_root(d->vol) ? FUSE_ROOT_ID : (fuse_ino_t)n;
}

/* At most one line a second: a damaged file may be read a thousand times. The inode number is the backing
 * file's, so that an administrator finds it; its plaintext name is not for the log. */
static void log_damage(const struct node *n, int err)
{
    static _Atomic time_t last;
    time_t now = time(NULL);
    if (atomic_exchange(&last, now) != now)
        log_error("inode %llu: %s", n ? (unsigned long long)node_ino(n) : 0, lfs_strerror(err));
}

void ops_reply_err(fuse_req_t req, const struct node *n, int err)
{
    if (err == LFS_ERR_CORRUPT || err == LFS_ERR_AUTH || err == LFS_ERR_ROLLBACK) {
        log_damage(n, err);
        keys_note_refusal(ops_daemon(req)->keys);
    } else if (err == LFS_ERR_NOKEY) {
        session_forget_request();
    }
    fuse_reply_err(req, lfs_errno(err));
}

struct fuse_entry_param ops_entry(fuse_req_t req, const struct node *n, const struct stat *st)
{
    const struct daemon *d = ops_daemon(req);
    return (struct fuse_entry_param){
        .ino = ops_ino(d, n),
        .attr = *st,
        .attr_timeout = ops_cache_seconds(d),
        .entry_timeout = ops_cache_seconds(d),
    };
}

void ops_reply_entry(fuse_req_t req, struct node *n, const struct stat *st)
{
    struct fuse_entry_param e = ops_entry(req, n, st);
    /* An interrupted caller never learns of the node, and will not forget it. */
    if (fuse_reply_entry(req, &e))
        node_unref(n, 1);
}

int ops_as_caller(fuse_req_t req)
{
    const struct fuse_ctx *c = fuse_req_ctx(req);
    int r = identity_assume(c->uid, c->gid, c->umask);
    if (r)
        fuse_reply_err(req, lfs_errno(r));
    return r;
}

int ops_kill_priv(struct node *n, struct stat *st)
{
    int r = 0;
    mode_t mode = st->st_mode & ~(mode_t)S_ISUID;
    if ((mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP)) /* without x, sgid is not a privilege */
        mode &= ~(mode_t)S_ISGID;
    if (mode != st->st_mode) {
        struct stat want = {.st_mode = mode};
        r = node_setattr(n, &want, SET_MODE, st);
    }
    int x = node_removexattr(n, "security.capability");
    if (!r && x != -ENODATA && x != -EOPNOTSUPP)
        r = x;
    return r;
}
