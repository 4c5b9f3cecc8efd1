#include "fs/view/ops.h"

#include "fs/view/handle.h"
#include "latchfs/err.h"

#include <errno.h>
#include <unistd.h>

static struct handle *handle_of(const struct fuse_file_info *fi)
{
    return (struct handle *)(uintptr_t)fi->fh;
}

/* Reads do not go through the page cache: pages of two openings would mix what belongs to two states of the
 * plain file, and the plain pages are cached already. */
void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    const struct view_keys *k;
    struct scratch *s;
    struct handle *h = NULL;
    if (!ops_enter(req, &k, &s))
        return;
    int r = handle_open(ops_view(req), k, s, ops_node(req, ino), &h);
    ops_leave(req);
    if (r) {
        ops_reply_err(req, r);
        return;
    }
    fi->fh = (uintptr_t)h;
    fi->direct_io = 1;
    fi->noflush = 1;
    if (fuse_reply_open(req, fi))
        handle_close(h);
}

void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    handle_close(handle_of(fi));
    fuse_reply_err(req, 0);
}

void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    const struct view_keys *k;
    struct scratch *s;
    size_t room = size < REQUEST_BYTES_MAX ? size : REQUEST_BYTES_MAX;
    if (!ops_enter(req, &k, &s))
        return;
    ssize_t got = off < 0 ? -EINVAL : handle_read(handle_of(fi), k, s, (uint64_t)off, room, s->reply);
    ops_leave(req);
    if (got < 0)
        ops_reply_err(req, (int)got);
    else
        fuse_reply_buf(req, (const char *)s->reply, (size_t)got);
}

void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
    int64_t at = -EINVAL;
    if (off >= 0 && (whence == SEEK_DATA || whence == SEEK_HOLE))
        at = handle_seek(handle_of(fi), (uint64_t)off, whence == SEEK_HOLE);
    if (at < 0)
        ops_reply_err(req, (int)at);
    else
        fuse_reply_lseek(req, at);
}
