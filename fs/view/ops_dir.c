#include "fs/view/ops.h"

#include "fs/view/listing.h"
#include "latchfs/err.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* An open directory is a listing of the moment when it was opened; two threads may read from one. */
static struct listing *listing_of(const struct fuse_file_info *fi)
{
    return (struct listing *)(uintptr_t)fi->fh;
}

static void listing_free(struct listing *l)
{
    listing_clear(l);
    free(l);
}

void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    const struct view_keys *k;
    struct scratch *s;
    if (!ops_enter(req, &k, &s))
        return;
    struct listing *l = calloc(1, sizeof *l);
    int r = l ? listing_read(ops_view(req), k, ops_node(req, ino), l) : -ENOMEM;
    ops_leave(req);
    if (r) {
        free(l);
        ops_reply_err(req, r);
        return;
    }
    fi->fh = (uintptr_t)l;
    if (fuse_reply_open(req, fi))
        listing_free(l);
}

void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    listing_free(listing_of(fi));
    fuse_reply_err(req, 0);
}

/* Offsets: 1 behind ".", 2 behind "..", then behind each item. */
static size_t add(fuse_req_t req, char *buf, size_t room, const struct listing *l, const struct vnode *dir,
                  size_t at)
{
    const struct vnode *up = dir->parent ? dir->parent : dir;
    struct stat st = {.st_mode = S_IFDIR, .st_ino = vnode_ino(at ? up : dir)};
    const char *name = at ? ".." : ".";
    if (at >= 2) {
        const struct listed *i = &l->items[at - 2];
        st = (struct stat){.st_mode = i->mode, .st_ino = i->ino};
        name = i->name;
    }
    size_t used = fuse_add_direntry(req, buf, room, name, &st, (off_t)at + 1);
    return used <= room ? used : 0;
}

void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    const struct listing *l = listing_of(fi);
    struct scratch *s = scratch_get();
    size_t room = size < REQUEST_BYTES_MAX ? size : REQUEST_BYTES_MAX, used = 0, n = 1;
    if (!s) {
        ops_reply_err(req, -ENOMEM);
        return;
    }
    for (size_t at = (size_t)off; off >= 0 && n && at < l->count + 2; at++) {
        n = add(req, (char *)s->reply + used, room - used, l, ops_node(req, ino), at);
        used += n;
    }
    fuse_reply_buf(req, (const char *)s->reply, used);
}
