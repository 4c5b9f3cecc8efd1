/* rename: finding out what stands where, locking it, and choosing the move. */
#include "fs/store/rename.h"
#include "fs/store/file_home.h"
#include "fs/store/rotate.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>

static int look(struct side *s)
{
    int r = entry_stat(&s->e, &s->st);
    s->there = !r;
    return r == -ENOENT ? 0 : r;
}

static bool same_inode(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_dev == b->st_dev;
}

/* ---- contents first: what replaces a file is whole on disk before it does, and what goes to another
 * directory may be there by its header ---- */

/* The two files on their way. */
struct ready {
    struct node *n[2]; /* referenced */
    struct home_move move[2];
};

static void ready_clear(struct ready *p)
{
    for (int i = 0; i < 2; i++) {
        home_move_end(&p->move[i]);
        if (p->n[i])
            node_unref(p->n[i], 1);
    }
    *p = (struct ready){0};
}

/* One that nobody knew is made: what was written to it before it was forgotten may not be on disk. Nobody
 * moves it between the look and the noting of its place. *out stays NULL where no file is any more. */
static int obtain_file(struct side *s, struct node **out)
{
    dir_rdlock(s->e.dir);
    int r = look(s);
    if (!r && s->there && S_ISREG(s->st.st_mode))
        r = node_obtain(s->e.dir, &s->st, s->e.cn.stored, out);
    dir_unlock(s->e.dir);
    return r;
}

static int make_ready(struct ready *p, int i, struct side *s, const struct side *other, bool replaces)
{
    bool crosses = s->e.dir != other->e.dir;
    if (!S_ISREG(s->st.st_mode) || (!replaces && !crosses))
        return 0;
    int r = obtain_file(s, &p->n[i]);
    if (r || !p->n[i])
        return r;
    if (replaces)
        r = file_settle(p->n[i]);
    if (!r && crosses)
        r = home_move_begin(&p->move[i], p->n[i], s->e.id, other->e.id);
    return r;
}

static int make_both_ready(struct ready *p, struct side *from, struct side *to, unsigned flags)
{
    int r = look(from);
    if (!r)
        r = look(to);
    if (r || !from->there || (to->there && (flags & RENAME_NOREPLACE)))
        return r;
    r = make_ready(p, 0, from, to, to->there);
    return !r && to->there && (flags & RENAME_EXCHANGE) ? make_ready(p, 1, to, from, true) : r;
}

/* ---- locks ---- */

static void add_locks(struct dir_set *set, const struct side *s)
{
    struct volume *v = s->e.dir->vol;
    dir_set_add(set, v, s->e.dir->dev, s->e.dir->ino);
    if (s->there && S_ISDIR(s->st.st_mode))
        dir_set_add(set, v, s->st.st_dev, s->st.st_ino);
}

static bool unchanged(const struct side *s, const struct side *before)
{
    return s->there == before->there && (!s->there || same_inode(&s->st, &before->st));
}

/* Makes ready, then locks both directories and those that the names stand for; all again until what was made
 * ready is what stands there. */
static int lock_sides(struct side *from, struct side *to, unsigned flags, struct ready *ready,
                      struct dir_set *set)
{
    for (;;) {
        int r = make_both_ready(ready, from, to, flags);
        if (r)
            return r;
        struct side was_from = *from, was_to = *to;
        *set = (struct dir_set){0};
        add_locks(set, from);
        add_locks(set, to);
        dir_set_lock(set);
        r = look(from);
        if (!r)
            r = look(to);
        if (!r && unchanged(from, &was_from) && unchanged(to, &was_to))
            return 0;
        dir_set_unlock(set);
        ready_clear(ready);
        if (r)
            return r;
    }
}

/* ---- what is allowed ---- */

/* 1: nothing is to be done. */
static int check(const struct side *from, const struct side *to, unsigned flags)
{
    int r = entry_check(&from->e);
    if (!r)
        r = entry_check(&to->e);
    if (r || !from->there)
        return r ? r : -ENOENT;
    if (flags & RENAME_EXCHANGE)
        return !to->there ? -ENOENT : same_inode(&from->st, &to->st);
    if (!to->there)
        return 0;
    if (flags & RENAME_NOREPLACE)
        return -EEXIST;
    if (same_inode(&from->st, &to->st))
        return 1;
    if (S_ISDIR(from->st.st_mode) && !S_ISDIR(to->st.st_mode))
        return -ENOTDIR;
    return !S_ISDIR(from->st.st_mode) && S_ISDIR(to->st.st_mode) ? -EISDIR : 0;
}

/* A directory to be replaced needs a node, whose descriptor tells whether it is empty; what moves while a
 * rotation walks needs one to be noted by. */
static int find_nodes(struct side *from, struct side *to, unsigned flags)
{
    bool noted = rotate_is_on(from->e.dir->vol);
    int r = 0;
    if (noted)
        r = node_obtain(from->e.dir, &from->st, from->e.cn.stored, &from->n);
    else
        from->n = node_find(from->e.dir->vol, &from->st);
    if (r || !to->there)
        return r;
    if (S_ISDIR(to->st.st_mode) || (noted && (flags & RENAME_EXCHANGE)))
        return node_obtain(to->e.dir, &to->st, to->e.cn.stored, &to->n);
    to->n = node_find(to->e.dir->vol, &to->st);
    return 0;
}

static void note_changes(struct side *from, struct side *to)
{
    entry_changed(&from->e);
    if (to->e.dir != from->e.dir)
        entry_changed(&to->e);
    if (from->n)
        from->n->meta_dirty = from->n->renamed = true;
    if (to->n)
        to->n->meta_dirty = to->n->renamed = true;
    if (from->n)
        rotate_moved(from->n);
    if (to->n && !to->n->removed)
        rotate_moved(to->n);
}

static int rename_locked(struct side *from, struct side *to, unsigned flags, struct victim *w)
{
    int r = check(from, to, flags);
    if (r)
        return r > 0 ? 0 : r;
    r = find_nodes(from, to, flags);
    if (!r)
        r = flags & RENAME_EXCHANGE ? rename_exchange(from, to) : rename_plain(from, to, w);
    if (!r)
        note_changes(from, to);
    return r;
}

static void tell_files(struct side *from, struct side *to)
{
    if (from->n && S_ISREG(from->n->type))
        file_renamed(from->n);
    if (to->n && S_ISREG(to->n->type) && !to->n->removed)
        file_renamed(to->n);
}

static int rename_sides(struct side *from, struct side *to, unsigned flags)
{
    struct volume *v = from->e.dir->vol;
    bool crosses = from->e.dir != to->e.dir;
    CLEANUP(ready_clear) struct ready ready = {0};
    struct dir_set set;
    struct victim w = {0};
    if (crosses)
        pthread_mutex_lock(&v->move_lock);
    int r = lock_sides(from, to, flags, &ready, &set);
    if (!r) {
        r = rename_locked(from, to, flags, &w);
        dir_set_unlock(&set);
    }
    ready_clear(&ready);
    if (crosses)
        pthread_mutex_unlock(&v->move_lock);
    victim_put(&w);
    if (!r)
        tell_files(from, to);
    if (from->n)
        node_unref(from->n, 1);
    if (to->n)
        node_unref(to->n, 1);
    return r;
}

/* ---- the usual rename: of a file, within its directory, to a name that is free ---- */

static bool is_simple(const struct side *from, const struct side *to, unsigned flags)
{
    return from->e.dir == to->e.dir && !(flags & RENAME_EXCHANGE) && !to->e.cn.is_long &&
           !rotate_is_on(from->e.dir->vol);
}

/* 1: it is another case, and nothing has been done. */
static int rename_simple_locked(struct side *from, struct side *to)
{
    int r = entry_check(&from->e);
    if (!r)
        r = look(from);
    if (r || !from->there || S_ISDIR(from->st.st_mode))
        return r ? r : from->there ? 1 : -ENOENT;
    from->n = node_find(from->e.dir->vol, &from->st);
    r = rename_here(from, to);
    if (!r)
        note_changes(from, to);
    return r == -EEXIST || r == -EINVAL || r == -ENOSYS ? 1 : r;
}

static int rename_simple(struct side *from, struct side *to)
{
    dir_wrlock(from->e.dir);
    int r = rename_simple_locked(from, to);
    dir_unlock(from->e.dir);
    if (!r)
        tell_files(from, to);
    if (from->n)
        node_unref(from->n, 1);
    from->n = NULL;
    return r;
}

static int rename_any(struct side *from, struct side *to, unsigned flags)
{
    int r = is_simple(from, to, flags) ? rename_simple(from, to) : 1;
    return r > 0 ? rename_sides(from, to, flags) : r;
}

static int rename_names(struct node *dir, const char *name, struct node *newdir, const char *newname,
                        unsigned flags)
{
    struct side from = {.n = NULL}, to = {.n = NULL};
    int r = entry_get(dir, name, &from.e);
    if (r)
        return r;
    r = entry_get(newdir, newname, &to.e);
    if (!r) {
        r = from.e.pd == to.e.pd ? rename_any(&from, &to, flags) : -EXDEV;
        entry_put(&to.e);
    }
    entry_put(&from.e);
    return r;
}

int node_rename(struct node *dir, const char *name, struct node *newdir, const char *newname, unsigned flags)
{
    bool known = (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE)) == 0;
    if (!known || flags == (RENAME_NOREPLACE | RENAME_EXCHANGE))
        return -EINVAL;
    VOLUME_CHANGE(dir->vol);
    int r = tree_begin_change(dir);
    return r ? r : tree_end(dir->vol, rename_names(dir, name, newdir, newname, flags));
}
