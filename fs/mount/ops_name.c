#include "fs/mount/dir_streams.h"
#include "fs/mount/ops.h"

#include "latchfs/err.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct node *dir = ops_node(req, parent), *n;
    struct stat st;
    int r = node_lookup(dir, name, &st, &n);
    node_note_use(dir);
    if (!r) {
        ops_reply_entry(req, n, &st);
    } else if (r == -ENOENT) {
        struct fuse_entry_param none = {.entry_timeout = ops_cache_seconds(ops_daemon(req))};
        fuse_reply_entry(req, &none);
    } else {
        ops_reply_err(req, dir, r);
    }
}

static void forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
    struct node *n = ops_node(req, ino);
    if (ino == FUSE_ROOT_ID)
        return;
    if (S_ISDIR(node_type(n)))
        dir_streams_drop(ops_daemon(req)->streams, n);
    node_unref(n, count);
}

void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
    forget(req, ino, nlookup);
    fuse_reply_none(req);
}

void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    for (size_t i = 0; i < count; i++)
        forget(req, forgets[i].ino, forgets[i].nlookup);
    fuse_reply_none(req);
}

/* What stood there already, though the kernel did not know it. */
static int truncate_found(struct node *n, int flags, struct stat *st)
{
    struct stat want = {.st_size = 0};
    return (flags & O_TRUNC) && st->st_size > 0 ? node_setattr(n, &want, SET_SIZE, st) : 0;
}

/* A shared mount counts who has the file open. */
static int open_created(const struct daemon *d, struct node *n, int flags, struct stat *st)
{
    int r = d->shared ? file_open(n, (flags & O_ACCMODE) != O_RDONLY) : 0;
    if (r)
        return r;
    r = truncate_found(n, flags, st);
    if (r && d->shared)
        file_close(n);
    return r;
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
    struct node *dir = ops_node(req, parent), *n;
    struct stat st;
    if (ops_as_caller(req))
        return;
    int r = node_create(dir, name, mode, fi->flags & O_EXCL, &st, &n);
    if (r) {
        ops_reply_err(req, dir, r);
        return;
    }
    const struct daemon *d = ops_daemon(req);
    r = open_created(d, n, fi->flags, &st);
    if (r) {
        ops_reply_err(req, n, r);
        node_unref(n, 1);
        return;
    }
    struct fuse_entry_param e = ops_entry(req, n, &st);
    ops_set_caching(d, n, fi);
    if (fuse_reply_create(req, &e, fi)) {
        if (d->shared)
            file_close(n);
        node_unref(n, 1);
    }
}

/* The common end of everything that makes an entry. */
static void reply_made(fuse_req_t req, struct node *dir, int r, struct node *n, const struct stat *st)
{
    if (r)
        ops_reply_err(req, dir, r);
    else
        ops_reply_entry(req, n, st);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    struct node *dir = ops_node(req, parent), *n = NULL;
    struct stat st;
    if (ops_as_caller(req))
        return;
    int r = S_ISREG(mode) ? node_create(dir, name, mode, true, &st, &n)
                          : node_mknod(dir, name, mode, rdev, &st, &n);
    reply_made(req, dir, r, n, &st);
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    struct node *dir = ops_node(req, parent), *n = NULL;
    struct stat st;
    if (ops_as_caller(req))
        return;
    int r = node_mkdir(dir, name, mode, &st, &n);
    reply_made(req, dir, r, n, &st);
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    struct node *dir = ops_node(req, parent), *n = NULL;
    struct stat st;
    if (ops_as_caller(req))
        return;
    int r = node_symlink(dir, name, target, &st, &n);
    reply_made(req, dir, r, n, &st);
}

void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
    struct node *n = ops_node(req, ino), *dir = ops_node(req, parent);
    struct stat st;
    /* A long name gets a sidecar file, which should be the caller's. */
    if (ops_as_caller(req))
        return;
    struct node *made = NULL;
    int r = node_link(n, dir, name, &st, &made);
    reply_made(req, dir, r, made, &st);
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct node *dir = ops_node(req, parent);
    ops_reply_err(req, dir, node_unlink(dir, name));
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct node *dir = ops_node(req, parent);
    ops_reply_err(req, dir, node_rmdir(dir, name));
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname,
               unsigned flags)
{
    struct node *dir = ops_node(req, parent), *newdir = ops_node(req, newparent);
    if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE)) {
        fuse_reply_err(req, EINVAL);
        return;
    }
    if (!ops_as_caller(req))
        ops_reply_err(req, dir, node_rename(dir, name, newdir, newname, flags));
}

void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
    struct node *n = ops_node(req, ino);
    char target[SYMLINK_PLAIN_MAX + 1];
    int r = node_readlink(n, target);
    if (r < 0)
        ops_reply_err(req, n, r);
    else
        fuse_reply_readlink(req, target);
}
