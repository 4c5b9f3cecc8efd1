/* Hard links and symbolic links. */
#include "fs/store/file_home.h"
#include "fs/store/rotate.h"
#include "fs/store/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* ---- symbolic links ---- */

static int make_symlink(const struct entry *e, const char *target, struct stat *st, struct node **out)
{
    int r = link_make(e->dir->vol, e->fd, e->keys, e->id, target, e->cn.stored);
    if (r)
        return r;
    if (fstatat(e->fd, e->cn.stored, st, AT_SYMLINK_NOFOLLOW))
        r = -errno;
    if (!r)
        r = link_fix_size(e->fd, e->cn.stored, st);
    if (!r)
        r = node_obtain(e->dir, st, e->cn.stored, out);
    if (r)
        link_remove(e->fd, e->cn.stored);
    return r;
}

/* Names an entry by make, with sidecar and locks. */
static int add_entry(struct entry *e, int (*make)(const struct entry *e, void *arg), void *arg)
{
    bool made = false;
    dir_wrlock(e->dir);
    int r = entry_check(e);
    if (!r)
        r = long_name_put(e, &made);
    if (!r)
        r = make(e, arg);
    if (!r) {
        entry_changed(e);
        pd_touch(e->pd);
    } else if (made && r != -EEXIST)
        long_name_drop(e);
    dir_unlock(e->dir);
    return r;
}

struct symlink_args {
    const char *target;
    struct stat st;
    struct node *n;
};

static int do_symlink(const struct entry *e, void *arg)
{
    struct symlink_args *a = arg;
    return make_symlink(e, a->target, &a->st, &a->n);
}

static int symlink_in(struct node *dir, const char *name, const char *target, struct stat *st,
                      struct node **out)
{
    struct symlink_args a = {.target = target};
    struct entry e;
    int r = entry_get(dir, name, &e);
    if (r)
        return r;
    r = add_entry(&e, do_symlink, &a);
    entry_put(&e);
    if (r)
        return r;
    a.n->meta_dirty = true;
    *st = a.st;
    *out = a.n;
    return 0;
}

int node_symlink(struct node *dir, const char *name, const char *target, struct stat *st, struct node **out)
{
    VOLUME_CHANGE(dir->vol);
    int r = tree_begin_change(dir);
    return r ? r : tree_end(dir->vol, symlink_in(dir, name, target, st, out));
}

/* ---- readlink ---- */

static int read_at(struct node *n, const struct node *parent, const uint8_t id[static ID_BYTES],
                   char target[static SYMLINK_PLAIN_MAX + 1])
{
    struct volume *v = n->vol;
    const struct pd_keys *keys = node_keys(parent);
    int fd, r;
    if (!keys)
        return LFS_ERR_NOKEY;
    pthread_rwlock_rdlock(&v->tree_lock);
    r = n->parent == parent ? fd_get_locked(n->parent, false, &fd) : -ESTALE;
    if (!r) {
        r = link_read(v, fd, n->stored, keys, id, target);
        node_fd_put(n->parent);
    }
    pthread_rwlock_unlock(&v->tree_lock);
    return r;
}

static int readlink_node(struct node *n, char target[static SYMLINK_PLAIN_MAX + 1])
{
    struct node *parent;
    uint8_t id[ID_BYTES];
    int r = S_ISLNK(n->type) ? -ESTALE : -EINVAL;
    /* -ESTALE: moved to another directory between the two looks at it. */
    for (int i = 0; r == -ESTALE && i < 3; i++) {
        parent = node_parent(n);
        if (!parent)
            return -ENOENT;
        r = node_dir_id(parent, id);
        if (!r)
            r = read_at(n, parent, id, target);
        node_unref(parent, 1);
    }
    return r;
}

int node_readlink(struct node *n, char target[static SYMLINK_PLAIN_MAX + 1])
{
    int r = tree_begin(n);
    return r ? r : tree_end(n->vol, readlink_node(n, target));
}

/* ---- hard links ---- */

/* The target of a symlink is bound to its directory: a link to it elsewhere is a symlink of its own. */
static bool is_foreign_symlink(struct node *n, const struct node *dir)
{
    pthread_rwlock_rdlock(&n->vol->tree_lock);
    bool foreign = S_ISLNK(n->type) && n->parent != dir;
    pthread_rwlock_unlock(&n->vol->tree_lock);
    return foreign;
}

/* A rename has put another file there, and n does not know yet that it has lost the name: -ENOENT. While the
 * place is locked nobody can put one there. */
static int check_still_there(const struct node *n, const struct node_at *at)
{
    struct stat st;
    if (!at->locked)
        return 0;
    if (fstatat(at->fd, at->name, &st, AT_SYMLINK_NOFOLLOW))
        return -errno;
    return st.st_ino == n->ino && st.st_dev == n->dev ? 0 : -ENOENT;
}

/* -EAGAIN: a symlink that has moved away meanwhile. A node whose known name is gone is linked by its
 * descriptor, for which the kernel wants CAP_DAC_READ_SEARCH. */
static int do_link(const struct entry *e, void *arg)
{
    struct node *n = arg;
    struct node_at at;
    int r = node_at_named(n, &at);
    if (r == -ESTALE && !S_ISLNK(n->type))
        r = node_at_get(n, &at);
    if (r)
        return r == -ESTALE ? -ENOENT : r;
    r = S_ISLNK(n->type) && at.holder != e->dir ? -EAGAIN : check_still_there(n, &at);
    if (!r && linkat(at.fd, at.name, e->fd, e->cn.stored, at.flags & AT_EMPTY_PATH))
        r = -errno;
    node_at_put(&at);
    return r;
}

static int link_symlink_anew(struct node *n, struct entry *e, struct node **out)
{
    char target[SYMLINK_PLAIN_MAX + 1];
    struct symlink_args a = {.target = target};
    struct stat st;
    int r = readlink_node(n, target);
    if (!r)
        r = node_stat(n, &st);
    if (!r)
        r = add_entry(e, do_symlink, &a);
    if (r)
        return r;
    link_copy_attributes(e->fd, e->cn.stored, &st);
    *out = a.n;
    return 0;
}

static int link_again(struct node *n, struct entry *e, struct node **out)
{
    struct volume *v = n->vol;
    struct home_move m;
    pthread_mutex_lock(&v->move_lock);
    int r = home_move_begin(&m, n, NULL, e->id);
    if (!r)
        r = add_entry(e, do_link, n);
    home_move_end(&m);
    pthread_mutex_unlock(&v->move_lock);
    if (r)
        return r;
    node_ref(n);
    *out = n;
    return 0;
}

static int link_in(struct node *n, struct node *dir, const char *name, struct node **out)
{
    struct entry e;
    if (S_ISDIR(n->type))
        return -EPERM;
    int r = entry_get(dir, name, &e);
    if (r)
        return r;
    r = node_check_home(n, e.pd);
    if (!r)
        do
            r = is_foreign_symlink(n, dir) ? link_symlink_anew(n, &e, out) : link_again(n, &e, out);
        while (r == -EAGAIN);
    entry_put(&e);
    if (!r) {
        (*out)->meta_dirty = (*out)->renamed = true;
        rotate_moved(*out);
    }
    return r;
}

int node_link(struct node *n, struct node *dir, const char *name, struct stat *st, struct node **out)
{
    struct node *made;
    VOLUME_CHANGE(dir->vol);
    int r = tree_begin_change(dir);
    if (r)
        return r;
    r = tree_end(dir->vol, link_in(n, dir, name, &made));
    if (r)
        return r;
    r = node_getattr(made, st);
    if (r)
        node_unref(made, 1);
    else
        *out = made;
    return r;
}
