#include "fs/mount/ops.h"

#include "latchfs/err.h"

#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct node *n = ops_node(req, ino);
    struct stat st;
    int r = node_getattr(n, &st);
    if (r)
        ops_reply_err(req, n, r);
    else
        fuse_reply_attr(req, &st, ops_cache_seconds(ops_daemon(req)));
}

static unsigned set_bits(int valid, struct stat *want)
{
    unsigned bits = 0;
    bits |= valid & FUSE_SET_ATTR_MODE ? SET_MODE : 0;
    bits |= valid & FUSE_SET_ATTR_UID ? SET_UID : 0;
    bits |= valid & FUSE_SET_ATTR_GID ? SET_GID : 0;
    bits |= valid & FUSE_SET_ATTR_SIZE ? SET_SIZE : 0;
    bits |= valid & FUSE_SET_ATTR_ATIME ? SET_ATIME : 0;
    bits |= valid & FUSE_SET_ATTR_MTIME ? SET_MTIME : 0;
    bits |= valid & FUSE_SET_ATTR_CTIME ? SET_CTIME : 0;
    if (valid & FUSE_SET_ATTR_ATIME_NOW)
        want->st_atim.tv_nsec = UTIME_NOW;
    if (valid & FUSE_SET_ATTR_MTIME_NOW)
        want->st_mtim.tv_nsec = UTIME_NOW;
    return bits;
}

static int set_attr(const struct daemon *d, struct node *n, struct stat *want, int valid, struct stat *st)
{
    unsigned bits = set_bits(valid, want);
    int r = bits & ~(unsigned)SET_CTIME ? node_setattr(n, want, bits, st) : node_getattr(n, st);
    bool kill = d->kills_priv && (valid & FUSE_SET_ATTR_KILL_SUID) && S_ISREG(node_type(n));
    return !r && kill ? ops_kill_priv(n, st) : r;
}

void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *want, int valid, struct fuse_file_info *fi)
{
    struct node *n = ops_node(req, ino);
    struct stat st;
    int r = set_attr(ops_daemon(req), n, want, valid, &st);
    if (r)
        ops_reply_err(req, n, r);
    else
        fuse_reply_attr(req, &st, ops_cache_seconds(ops_daemon(req)));
}

void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
    struct statvfs st;
    int r = volume_statfs(ops_daemon(req)->vol, &st);
    if (r)
        ops_reply_err(req, NULL, r);
    else
        fuse_reply_statfs(req, &st);
}

/* ---- extended attributes ---- */

static void reply_xattr(fuse_req_t req, const struct node *n, ssize_t got, size_t size)
{
    if (got < 0)
        ops_reply_err(req, n, (int)got);
    else if (size == 0)
        fuse_reply_xattr(req, (size_t)got);
    else
        fuse_reply_buf(req, session_reply_buffer(), (size_t)got);
}

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
    struct node *n = ops_node(req, ino);
    size_t room = size < REQUEST_BYTES_MAX ? size : REQUEST_BYTES_MAX;
    reply_xattr(req, n, node_getxattr(n, name, session_reply_buffer(), room), size);
}

void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
    struct node *n = ops_node(req, ino);
    size_t room = size < REQUEST_BYTES_MAX ? size : REQUEST_BYTES_MAX;
    bool with_trusted = fuse_req_ctx(req)->uid == 0;
    reply_xattr(req, n, node_listxattr(n, session_reply_buffer(), room, with_trusted), size);
}

/* A SETXATTR request as it came. libfuse 3.13.0 to 3.14.0 looks for the name 8 bytes too far in requests with
 * the short header, later ones in those with the long one; so ask neither. */
struct setxattr {
    const char *name, *value;
    size_t size;
    uint32_t ext_flags;
};

static int parse_setxattr(const struct daemon *d, struct setxattr *x)
{
    const struct fuse_in_header *head = session_request();
    const struct fuse_setxattr_in *in = (const void *)(head + 1);
    size_t skip = d->setxattr_ext ? sizeof *in : FUSE_COMPAT_SETXATTR_IN_SIZE;
    if (head->len <= sizeof *head + skip)
        return -EINVAL;
    const char *name = (const char *)in + skip;
    size_t left = head->len - sizeof *head - skip, name_len = strnlen(name, left);
    if (name_len == left || left - name_len - 1 < in->size)
        return -EINVAL;
    *x = (struct setxattr){name, name + name_len + 1, in->size, d->setxattr_ext ? in->setxattr_flags : 0};
    return 0;
}

/* A caller outside the file's group loses sgid with a change of the ACL, as with chmod. */
static int drop_sgid(struct node *n)
{
    struct stat st, want = {0};
    int r = node_getattr(n, &st);
    if (r || !(st.st_mode & S_ISGID))
        return r;
    want.st_mode = st.st_mode & ~(mode_t)S_ISGID;
    return node_setattr(n, &want, SET_MODE, &st);
}

void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
    struct node *n = ops_node(req, ino);
    struct setxattr x;
    int r = parse_setxattr(ops_daemon(req), &x);
    if (!r)
        r = node_setxattr(n, x.name, x.value, x.size, flags);
    if (!r && (x.ext_flags & FUSE_SETXATTR_ACL_KILL_SGID))
        r = drop_sgid(n);
    ops_reply_err(req, n, r);
}

void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
    struct node *n = ops_node(req, ino);
    ops_reply_err(req, n, node_removexattr(n, name));
}
