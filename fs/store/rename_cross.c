/* What moves to another directory, and directories that get another name. */
#include "fs/store/rename.h"

#include "latchfs/symlink.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void record_place(struct dirrec *d, int i, const struct entry *e)
{
    memcpy(d->parent[i], e->id, ID_BYTES);
    dirrec_name_tag(e->cn.stored, d->name[i]);
}

/* A record that names two places is of a move that may not be on disk; the place it would leave out may be
 * the one that is. */
static int settle_place(const struct crossing *c)
{
    static const uint8_t none[DIRREC_NAME_BYTES];
    bool two = memcmp(c->rec.name[1], none, sizeof none) != 0;
    return two ? dir_fd_sync(c->from->e.dir->vol, c->from->e.fd) : 0;
}

static int begin_dir(struct crossing *c)
{
    struct volume *v = c->from->e.dir->vol;
    struct dirrec both;
    c->fd = fd_openat(v, c->from->e.fd, c->from->e.cn.stored, O_RDONLY | O_DIRECTORY, 0);
    if (c->fd == -EACCES)
        c->fd = fd_openat(v, c->from->e.fd, c->from->e.cn.stored, O_PATH | O_DIRECTORY, 0);
    if (c->fd < 0)
        return c->fd;
    struct pd *pd = NULL;
    int r = record_read(v, c->fd, &c->rec, &pd);
    c->keys = pd_keys(pd);
    if (!r && !c->keys)
        r = LFS_ERR_NOKEY;
    if (!r && !dirrec_is_at(&c->rec, c->from->e.id, c->from->e.cn.stored))
        r = LFS_ERR_AUTH;
    if (!r)
        r = settle_place(c);
    if (!r) {
        both = c->rec;
        record_place(&both, 0, &c->from->e);
        record_place(&both, 1, &c->to->e);
        r = record_update(v, c->fd, &both, c->keys, true);
    }
    if (r) {
        close(c->fd);
        c->fd = -1;
    }
    return r;
}

static int begin_link(struct crossing *c)
{
    const struct entry *from = &c->from->e, *to = &c->to->e;
    struct volume *v = from->dir->vol;
    char target[SYMLINK_PLAIN_MAX + 1];
    int r = link_read(v, from->fd, from->cn.stored, from->keys, from->id, target);
    if (r)
        return r;
    tmp_name(v, c->tmp);
    r = link_make(v, to->fd, to->keys, to->id, target, c->tmp);
    if (r)
        return r;
    link_copy_attributes(to->fd, c->tmp, &c->from->st);
    if (fstatat(to->fd, c->tmp, &c->st, AT_SYMLINK_NOFOLLOW)) {
        r = -errno;
        link_remove(to->fd, c->tmp);
    }
    return r;
}

int crossing_begin(const struct side *from, const struct side *to, struct crossing *c)
{
    *c = (struct crossing){.kind = CROSS_NONE, .from = from, .to = to, .fd = -1};
    int r = 0;
    if (S_ISDIR(from->st.st_mode)) {
        r = begin_dir(c);
        c->kind = r ? CROSS_NONE : CROSS_DIR;
    } else if (S_ISLNK(from->st.st_mode) && from->e.dir != to->e.dir) {
        r = begin_link(c);
        c->kind = r ? CROSS_NONE : CROSS_LINK;
    }
    return r;
}

void crossing_abort(struct crossing *c)
{
    if (c->kind == CROSS_DIR) {
        record_update(c->from->e.dir->vol, c->fd, &c->rec, c->keys, false);
        close(c->fd);
    } else if (c->kind == CROSS_LINK) {
        link_remove(c->to->e.fd, c->tmp);
    }
    c->kind = CROSS_NONE;
}

/* Until the move is known to be on disk the record names both places, and may do so for ever: within one
 * parent nobody waits for it. */
static int finish_dir(struct crossing *c)
{
    struct volume *v = c->from->e.dir->vol;
    struct dirrec d = c->rec;
    bool settle = c->from->e.dir != c->to->e.dir;
    record_place(&d, 0, &c->to->e);
    memset(d.parent[1], 0, ID_BYTES);
    memset(d.name[1], 0, DIRREC_NAME_BYTES);
    int r = settle ? dir_fd_sync(v, c->to->e.fd) : 0;
    if (!r && settle)
        r = dir_fd_sync(v, c->from->e.fd);
    if (!r && settle)
        r = record_update(v, c->fd, &d, c->keys, false);
    close(c->fd);
    return r;
}

int crossing_finish(struct crossing *c)
{
    int r = c->kind == CROSS_DIR ? finish_dir(c) : 0;
    c->kind = CROSS_NONE;
    return r;
}

/* The new link stands before the node turns to it, so that a lookup finds one or the other. */
int crossing_place_link(struct crossing *c, unsigned flags)
{
    const struct entry *to = &c->to->e;
    int r = renameat2(to->fd, c->tmp, to->fd, to->cn.stored, flags) ? -errno : 0;
    if (r == -EINVAL && flags)
        r = renameat(to->fd, c->tmp, to->fd, to->cn.stored) ? -errno : 0;
    if (!r && c->from->n) {
        fd_drop(c->from->n);
        node_rekey(c->from->n, &c->st);
    }
    return r;
}
