#include "fs/view/ops.h"

#include "fs/view/attributes.h"
#include "fs/view/entries.h"
#include "fs/view/small.h"
#include "latchfs/err.h"
#include "latchfs/symlink.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/statvfs.h>

/* ---- shared ---- */

struct view *ops_view(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

struct vnode *ops_node(fuse_req_t req, fuse_ino_t ino)
{
    return ino == FUSE_ROOT_ID ? vtable_root(ops_view(req)->nodes) : (struct vnode *)ino;
}

fuse_ino_t ops_ino(const struct view *v, const struct vnode *n)
{
    return n == vtable_root(v->nodes) ? FUSE_ROOT_ID : (fuse_ino_t)n;
}

double ops_attr_seconds(const struct stat *st)
{
    return S_ISREG(st->st_mode) ? 0.0 : CACHE_SECONDS;
}

void ops_reply_err(fuse_req_t req, int err)
{
    fuse_reply_err(req, lfs_errno(err));
}

bool ops_enter(fuse_req_t req, const struct view_keys **k, struct scratch **s)
{
    *s = scratch_get();
    *k = *s ? view_enter(ops_view(req)) : NULL;
    if (!*k)
        ops_reply_err(req, *s ? LFS_ERR_NOKEY : -ENOMEM);
    return *k != NULL;
}

void ops_leave(fuse_req_t req)
{
    view_leave(ops_view(req));
}

/* ---- names ---- */

static int find(struct view *v, const struct view_keys *k, struct vnode *dir, const char *name,
                struct vnode **out, struct stat *st)
{
    struct entry e;
    int r = dir->kind == V_DIR ? entry_find(v, k, dir, name, &e) : -ENOTDIR;
    if (r)
        return r;
    struct vnode *n = vnode_get(v->nodes, dir, e.kind, e.name, e.id);
    if (!n)
        return -ENOMEM;
    entry_show(n, &e.seen, st);
    uint64_t most = atomic_load(&v->most_nodes);
    if (most && vtable_count(v->nodes) > most)
        eventfd_write(v->crowded, 1);
    *out = n;
    return 0;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct view *v = ops_view(req);
    const struct view_keys *k;
    struct scratch *s;
    struct vnode *n;
    struct stat st;
    if (!ops_enter(req, &k, &s))
        return;
    int r = find(v, k, ops_node(req, parent), name, &n, &st);
    ops_leave(req);
    if (r) {
        ops_reply_err(req, r);
        return;
    }
    struct fuse_entry_param e = {.ino = ops_ino(v, n),
                                 .attr = st,
                                 .attr_timeout = ops_attr_seconds(&st),
                                 .entry_timeout = CACHE_SECONDS};
    /* An interrupted caller never learns of the node, and will not forget it. */
    if (fuse_reply_entry(req, &e))
        vnode_forget(v->nodes, n, 1);
}

static void forget(fuse_req_t req, fuse_ino_t ino, uint64_t lookups)
{
    if (ino != FUSE_ROOT_ID)
        vnode_forget(ops_view(req)->nodes, ops_node(req, ino), lookups);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t lookups)
{
    forget(req, ino, lookups);
    fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    for (size_t i = 0; i < count; i++)
        forget(req, forgets[i].ino, forgets[i].nlookup);
    fuse_reply_none(req);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
    const struct view_keys *k;
    struct scratch *s;
    char stored[SYMLINK_STORED_MAX + 1];
    if (!ops_enter(req, &k, &s))
        return;
    int r = small_link(ops_view(req), k, s->aead, ops_node(req, ino), stored, sizeof stored);
    ops_leave(req);
    if (r)
        ops_reply_err(req, r);
    else
        fuse_reply_readlink(req, stored);
}

/* ---- attributes ---- */

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct stat st;
    int r = entry_stat(ops_view(req), ops_node(req, ino), &st);
    if (r)
        ops_reply_err(req, r);
    else
        fuse_reply_attr(req, &st, ops_attr_seconds(&st));
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
    struct statvfs st;
    if (fstatvfs(ops_view(req)->root_fd, &st)) {
        ops_reply_err(req, -errno);
        return;
    }
    st.f_namemax = NAME_CIPHER_MAX;
    st.f_flag |= ST_RDONLY;
    fuse_reply_statfs(req, &st);
}

static void reply_xattr(fuse_req_t req, const struct scratch *s, ssize_t got, size_t size)
{
    if (got < 0)
        ops_reply_err(req, (int)got);
    else if (size == 0)
        fuse_reply_xattr(req, (size_t)got);
    else
        fuse_reply_buf(req, (const char *)s->reply, (size_t)got);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
    const struct view_keys *k;
    struct scratch *s;
    size_t room = size < REQUEST_BYTES_MAX ? size : REQUEST_BYTES_MAX;
    if (!ops_enter(req, &k, &s))
        return;
    ssize_t got = attributes_get(ops_view(req), k, s->aead, ops_node(req, ino), name, s->reply, room);
    ops_leave(req);
    reply_xattr(req, s, got, size);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
    const struct view_keys *k;
    struct scratch *s;
    size_t room = size < REQUEST_BYTES_MAX ? size : REQUEST_BYTES_MAX;
    if (!ops_enter(req, &k, &s))
        return;
    ssize_t got = attributes_list(ops_view(req), k, ops_node(req, ino), (char *)s->reply, room);
    ops_leave(req);
    reply_xattr(req, s, got, size);
}

/* ---- the table ---- */

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
    unsigned want = FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_POSIX_ACL | FUSE_CAP_PARALLEL_DIROPS;
    conn->want = want & conn->capable;
    conn->max_write = REQUEST_BYTES_MAX; /* of reads too */
    conn->time_gran = 1;
}

struct fuse_lowlevel_ops ops_table(void)
{
    return (struct fuse_lowlevel_ops){
        .init = op_init,
        .lookup = op_lookup,
        .forget = op_forget,
        .forget_multi = op_forget_multi,
        .readlink = op_readlink,
        .getattr = op_getattr,
        .statfs = op_statfs,
        .getxattr = op_getxattr,
        .listxattr = op_listxattr,
        .opendir = op_opendir,
        .releasedir = op_releasedir,
        .readdir = op_readdir,
        .open = op_open,
        .release = op_release,
        .read = op_read,
        .lseek = op_lseek,
    };
}
