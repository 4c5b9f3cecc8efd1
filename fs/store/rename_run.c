/* The moves themselves. tree_lock is held for writing around a backing rename and the places it changes. */
#include "fs/store/rename.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <unistd.h>

static int rename_at(const struct side *from, const struct side *to, unsigned flags)
{
    if (renameat2(from->e.fd, from->e.cn.stored, to->e.fd, to->e.cn.stored, flags) == 0)
        return 0;
    /* A filesystem without the flag: that nothing stands there has been seen under the locks. */
    if (errno == EINVAL && flags == RENAME_NOREPLACE &&
        renameat(from->e.fd, from->e.cn.stored, to->e.fd, to->e.cn.stored) == 0)
        return 0;
    return -errno;
}

static int place_for(const struct side *what, const struct side *where, struct place *p)
{
    *p = (struct place){NULL, NULL};
    return what->n ? place_new(where->e.dir, where->e.cn.stored, p) : 0;
}

/* ---- to a name that is free, or over what is no directory ---- */

static int rename_over(const struct side *from, const struct side *to)
{
    return rename_at(from, to, to->there ? 0 : RENAME_NOREPLACE);
}

static int rename_if_free(const struct side *from, const struct side *to)
{
    return renameat2(from->e.fd, from->e.cn.stored, to->e.fd, to->e.cn.stored, RENAME_NOREPLACE) ? -errno : 0;
}

static int move_by(int (*move)(const struct side *, const struct side *), struct side *from, struct side *to)
{
    struct volume *v = from->e.dir->vol;
    struct place p;
    int r = place_for(from, to, &p);
    if (r)
        return r;
    pthread_rwlock_wrlock(&v->tree_lock);
    r = move(from, to);
    if (!r && from->n)
        p = place_swap(from->n, p);
    pthread_rwlock_unlock(&v->tree_lock);
    place_release(v, &p);
    return r;
}

static int move_over(struct side *from, struct side *to)
{
    return move_by(rename_over, from, to);
}

int rename_here(struct side *from, struct side *to)
{
    int r = move_by(rename_if_free, from, to);
    if (!r)
        long_name_drop(&from->e);
    return r;
}

/* What can't be removed is at least put aside. */
static void remove_old_link(const struct entry *e)
{
    char tmp[TMP_NAME_MAX];
    if (link_remove(e->fd, e->cn.stored) == 0)
        return;
    tmp_name(e->dir->vol, tmp);
    if (renameat(e->fd, e->cn.stored, e->fd, tmp) == 0)
        link_remove(e->fd, tmp);
}

/* The new link first, then the old one goes: between the two both stand, and none is lost. */
static int move_link(struct crossing *c, struct side *from, struct side *to)
{
    struct volume *v = from->e.dir->vol;
    struct place p;
    int r = place_for(from, to, &p);
    if (r)
        return r;
    pthread_rwlock_wrlock(&v->tree_lock);
    r = crossing_place_link(c, to->there ? 0 : RENAME_NOREPLACE);
    if (!r && from->n)
        p = place_swap(from->n, p);
    pthread_rwlock_unlock(&v->tree_lock);
    place_release(v, &p);
    if (!r)
        remove_old_link(&from->e);
    return r;
}

static int move_to_name(struct side *from, struct side *to, struct victim *w)
{
    struct crossing c;
    int r = to->there ? victim_get(&to->e, &to->st, w) : 0;
    if (r)
        return r;
    if (to->there)
        victim_link_away(&to->e, w);
    r = crossing_begin(from, to, &c);
    if (!r) {
        r = c.kind == CROSS_LINK ? move_link(&c, from, to) : move_over(from, to);
        if (r)
            crossing_abort(&c);
        else
            crossing_finish(&c);
    }
    if (to->there)
        victim_settle(&to->e, w, r);
    return r;
}

/* ---- a directory over an empty one ---- */

/* The two change places; where the filesystem can't, the empty one makes room first. *left is the name where
 * the empty one then is, in the directory *fd: tmp, or, where it could neither get that nor change back, the
 * name that the other one had. */
static int swap_dirs(struct side *from, struct side *to, const char *tmp, const char **left, int *fd)
{
    int r = rename_at(from, to, RENAME_EXCHANGE);
    *fd = from->e.fd;
    *left = tmp;
    if (!r && renameat(from->e.fd, from->e.cn.stored, from->e.fd, tmp)) {
        r = -errno;
        if (rename_at(from, to, RENAME_EXCHANGE)) {
            *left = from->e.cn.stored;
            r = 0;
        }
        return r;
    }
    if (r != -EINVAL)
        return r;
    *fd = to->e.fd;
    if (renameat(to->e.fd, to->e.cn.stored, to->e.fd, tmp))
        return -errno;
    r = rename_at(from, to, RENAME_NOREPLACE);
    if (r)
        renameat(to->e.fd, tmp, to->e.fd, to->e.cn.stored);
    return r;
}

static int swap_and_place(struct side *from, struct side *to, const char *tmp, const char **left, int *fd)
{
    struct volume *v = from->e.dir->vol;
    struct place p;
    int r = place_for(from, to, &p);
    if (r)
        return r;
    pthread_rwlock_wrlock(&v->tree_lock);
    r = swap_dirs(from, to, tmp, left, fd);
    if (!r && from->n)
        p = place_swap(from->n, p);
    pthread_rwlock_unlock(&v->tree_lock);
    place_release(v, &p);
    return r;
}

/* Both records name both places while either directory may be seen at either name. */
static int move_over_dir(struct side *from, struct side *to, struct victim *w)
{
    struct volume *v = from->e.dir->vol;
    struct crossing there, back;
    char tmp[TMP_NAME_MAX];
    const char *left;
    int fd, r = to->n ? dir_check_removable(to->n) : LFS_ERR_MISUSE;
    if (!r)
        r = victim_get(&to->e, &to->st, w);
    if (r)
        return r;
    tmp_name(v, tmp);
    r = crossing_begin(from, to, &there);
    if (!r && (r = crossing_begin(to, from, &back)) != 0)
        crossing_abort(&there);
    if (!r && (r = swap_and_place(from, to, tmp, &left, &fd)) != 0) {
        crossing_abort(&back);
        crossing_abort(&there);
    }
    if (!r) {
        crossing_finish(&there);
        if (back.fd >= 0)
            close(back.fd);
        if (!w->bury)
            dir_discard(v, fd, left);
        else if (renameat(fd, left, v->root_fd, w->tmp))
            w->bury = false;
    }
    victim_settle(&to->e, w, r);
    return r;
}

/* ---- the whole ---- */

int rename_plain(struct side *from, struct side *to, struct victim *w)
{
    bool made;
    int r = long_name_put(&to->e, &made);
    if (r)
        return r;
    r = to->there && S_ISDIR(to->st.st_mode) ? move_over_dir(from, to, w) : move_to_name(from, to, w);
    if (!r)
        long_name_drop(&from->e);
    else if (made && !to->there)
        long_name_drop(&to->e);
    return r;
}

/* The new link replaces what stands under its name: the old one, after an exchange, or with swapped the other
 * of two links. The sidecar of what it replaces goes. */
static int renew_link(struct crossing *c, bool swapped)
{
    const struct side *home = swapped ? c->to : c->from; /* of the link that is replaced */
    char sidecar[LINK_SIDECAR_MAX];
    if (c->kind != CROSS_LINK)
        return 0;
    link_sidecar(c->to->e.fd, c->to->e.cn.stored, &home->st, sidecar);
    int r = crossing_place_link(c, 0);
    if (!r && sidecar[0] && home->st.st_nlink == 1)
        unlinkat(home->e.fd, sidecar, 0);
    return r;
}

/* All of it at once for those who find a node by its place: nobody reads a link that is not renewed yet. */
static int exchange_locked(struct side *from, struct side *to, struct crossing c[static 2], struct place *pf,
                           struct place *pt, bool *moved)
{
    /* Two links need no exchange, which would leave both sealed for the wrong directory until they are
     * renewed. */
    bool links = c[0].kind == CROSS_LINK && c[1].kind == CROSS_LINK;
    int r = links ? 0 : rename_at(from, to, RENAME_EXCHANGE);
    if (r)
        return r;
    *moved = true;
    if (from->n)
        *pf = place_swap(from->n, *pf);
    if (to->n)
        *pt = place_swap(to->n, *pt);
    r = renew_link(&c[0], links);
    int other = renew_link(&c[1], links);
    return r ? r : other;
}

/* *moved: whatever else went wrong, the two have changed places. */
static int exchange_prepared(struct side *from, struct side *to, struct crossing c[static 2], bool *moved)
{
    struct volume *v = from->e.dir->vol;
    struct place pf, pt = {NULL, NULL};
    int r = place_for(from, to, &pf);
    if (r)
        return r;
    r = place_for(to, from, &pt);
    if (!r) {
        pthread_rwlock_wrlock(&v->tree_lock);
        r = exchange_locked(from, to, c, &pf, &pt, moved);
        pthread_rwlock_unlock(&v->tree_lock);
    }
    place_release(v, &pf);
    place_release(v, &pt);
    return r;
}

int rename_exchange(struct side *from, struct side *to)
{
    struct crossing c[2];
    int r = crossing_begin(from, to, &c[0]);
    if (r)
        return r;
    r = crossing_begin(to, from, &c[1]);
    if (r) {
        crossing_abort(&c[0]);
        return r;
    }
    bool moved = false;
    r = exchange_prepared(from, to, c, &moved);
    for (int i = 0; i < 2; i++) {
        if (moved)
            crossing_finish(&c[i]);
        else
            crossing_abort(&c[i]);
    }
    return r;
}
