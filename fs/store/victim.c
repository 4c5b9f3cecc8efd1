/* What loses a name while it may be in use: the node keeps a pinned descriptor, or, past the limit of pins, a
 * temporary name in the root of the volume that goes with the node. */
#include "fs/store/file_home.h"
#include "fs/store/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

int victim_get(const struct entry *e, const struct stat *st, struct victim *w)
{
    struct volume *v = e->dir->vol;
    *w = (struct victim){.dir = e->dir, .last = S_ISDIR(st->st_mode) || st->st_nlink == 1};
    if (S_ISLNK(st->st_mode) && w->last)
        link_sidecar(e->fd, e->cn.stored, st, w->sidecar);
    w->n = node_find(v, st);
    if (!w->n)
        return 0;
    if (w->n->refs > 1 && !fd_pin(w->n)) {
        tmp_name(v, w->tmp);
        int r = place_new(v->root, w->tmp, &w->grave);
        if (r) {
            node_unref(w->n, 1);
            w->n = NULL;
            return r;
        }
        w->bury = true;
    }
    /* From here on the inode's number may serve again, so that the node must not be found by it. */
    if (w->last)
        w->n->removed = true;
    w->stays = !w->last && S_ISREG(st->st_mode);
    if (w->stays)
        home_unlink_begin(w->n);
    return 0;
}

void victim_link_away(const struct entry *e, struct victim *w)
{
    struct volume *v = e->dir->vol;
    if (w->bury && linkat(e->fd, e->cn.stored, v->root_fd, w->tmp, 0))
        w->bury = false;
}

static void bury(struct victim *w)
{
    struct volume *v = w->n->vol;
    pthread_rwlock_wrlock(&v->tree_lock);
    w->grave = place_swap(w->n, w->grave);
    pthread_rwlock_unlock(&v->tree_lock);
}

void victim_settle(const struct entry *e, struct victim *w, int r)
{
    w->gone = !r;
    if (!r && w->sidecar[0])
        unlinkat(e->fd, w->sidecar, 0);
    if (!w->n)
        return;
    if (r && w->last)
        w->n->removed = false;
    else if (!r && w->bury)
        bury(w);
    else if (!r)
        place_clear(w->n, e->dir, e->cn.stored);
    if (!r)
        w->n->meta_dirty = w->n->renamed = true;
}

void victim_put(struct victim *w)
{
    if (!w->n)
        return;
    if (w->stays)
        home_unlink_end(w->n);
    place_release(w->n->vol, &w->grave);
    if (w->gone && w->last && S_ISREG(w->n->type))
        file_removed(w->n, w->dir);
    node_unref(w->n, 1);
    w->n = NULL;
}
