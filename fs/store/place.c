/* Where nodes are: parent and stored name, guarded by the volume's tree lock. */
#include "fs/store/share.h"
#include "fs/store/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

int place_new(struct node *parent, const char *stored, struct place *out)
{
    char *copy = strdup(stored);
    if (!copy)
        return -ENOMEM;
    node_ref(parent);
    *out = (struct place){parent, copy};
    return 0;
}

struct place place_swap(struct node *n, struct place p)
{
    struct place old = {n->parent, n->stored};
    n->parent = p.parent;
    n->stored = p.stored;
    return old;
}

void place_release(struct volume *v, struct place *p)
{
    /* What a freeze keeps goes at the next mount. */
    if (p->stored && p->parent == v->root && tmp_is_grave(v, p->stored) && freeze_try(v)) {
        tmp_discard(v, v->root_fd, p->stored);
        freeze_leave(v);
    }
    free(p->stored);
    if (p->parent)
        node_unref(p->parent, 1);
    *p = (struct place){NULL, NULL};
}

static bool is_at(const struct node *n, const struct node *parent, const char *stored)
{
    return n->parent == parent && n->stored && strcmp(n->stored, stored) == 0;
}

static bool is_at_locked(struct node *n, const struct node *parent, const char *stored)
{
    pthread_rwlock_rdlock(&n->vol->tree_lock);
    bool same = is_at(n, parent, stored);
    pthread_rwlock_unlock(&n->vol->tree_lock);
    return same;
}

/* What others have moved may still seem to be below one of its own children. */
static bool is_below(const struct node *n, const struct node *top)
{
    while (n && n != top)
        n = n->parent;
    return n != NULL;
}

static int set_locked(struct node *n, struct place *p)
{
    pthread_rwlock_wrlock(&n->vol->tree_lock);
    int r = n->vol->share && is_below(p->parent, n) ? -ESTALE : 0;
    if (!r && n->parent != p->parent)
        atomic_store(&n->place_unasked, true);
    if (!r)
        *p = place_swap(n, *p);
    pthread_rwlock_unlock(&n->vol->tree_lock);
    place_release(n->vol, p);
    return r;
}

/* A directory that turns up elsewhere without our having moved it must be there by its record. On a shared
 * volume that is read at the new place: it need not be open, and the old place is gone. */
int place_set(struct node *n, struct node *parent, const char *stored)
{
    struct place p;
    bool shared = n->vol->share != NULL;
    if (n == n->vol->root || is_at_locked(n, parent, stored))
        return n == n->vol->root ? LFS_ERR_CORRUPT : 0;
    int r = n->dir_loaded && !shared ? record_check_place(n, parent, stored) : 0;
    if (!r)
        r = place_new(parent, stored, &p);
    if (!r)
        r = set_locked(n, &p);
    if (!r && n->dir_loaded && shared && (r = record_check_place(n, parent, stored)) != 0)
        place_clear(n, parent, stored);
    if (!r && !atomic_load(&n->openers))
        fd_unpin(n);
    return r;
}

void place_clear(struct node *n, const struct node *parent, const char *stored)
{
    struct place old = {NULL, NULL};
    pthread_rwlock_wrlock(&n->vol->tree_lock);
    if (is_at(n, parent, stored))
        old = place_swap(n, old);
    pthread_rwlock_unlock(&n->vol->tree_lock);
    place_release(n->vol, &old);
}

int node_at_get(struct node *n, struct node_at *at)
{
    int fd;
    if (!fd_try(n, false, &fd))
        return node_at_named(n, at);
    *at = (struct node_at){n->vol, fd, "", AT_EMPTY_PATH, n, false};
    return 0;
}

int node_at_named(struct node *n, struct node_at *at)
{
    struct volume *v = n->vol;
    int fd;
    pthread_rwlock_rdlock(&v->tree_lock);
    int r = n->parent ? fd_get_locked(n->parent, false, &fd) : -ESTALE;
    if (!r && !share_is_node(n, fd, n->stored)) {
        node_fd_put(n->parent);
        r = -ESTALE;
    }
    if (r)
        pthread_rwlock_unlock(&v->tree_lock);
    else
        *at = (struct node_at){v, fd, n->stored, AT_SYMLINK_NOFOLLOW, n->parent, true};
    return r;
}

void node_at_put(struct node_at *at)
{
    node_fd_put(at->holder);
    if (at->locked)
        pthread_rwlock_unlock(&at->vol->tree_lock);
}

/* Written from the end: the length is not known before. */
int node_path(struct node *n, char *path, size_t size)
{
    struct volume *v = n->vol;
    size_t at = size;
    int r = size > 0 ? 0 : -ENAMETOOLONG;
    if (!r)
        path[--at] = '\0';
    pthread_rwlock_rdlock(&v->tree_lock);
    for (const struct node *p = n; !r && p != v->root; p = p->parent) {
        size_t len = p->stored ? strlen(p->stored) : 0;
        size_t slash = p != n;
        if (!p->parent)
            r = -ESTALE;
        else if (len + slash > at)
            r = -ENAMETOOLONG;
        if (r)
            break;
        if (slash)
            path[--at] = '/';
        at -= len;
        memcpy(path + at, p->stored, len);
    }
    pthread_rwlock_unlock(&v->tree_lock);
    if (!r)
        memmove(path, path + at, size - at);
    return r;
}

int node_cipher_path(struct node *n, char *path, size_t size)
{
    return node_path(n, path, size);
}

/* Changes made while the directory is being synced are not covered, so the count is read before. */
static int sync_entries(struct node *dir)
{
    uint64_t changes = dir->changes;
    bool meta = atomic_exchange(&dir->meta_dirty, false);
    if (changes == dir->synced && !meta)
        return 0;
    int fd, r = node_fd_get(dir, false, &fd);
    if (!r) {
        r = dir_fd_sync(dir->vol, fd);
        node_fd_put(dir);
    }
    if (!r)
        dir->synced = changes;
    else if (meta)
        dir->meta_dirty = true;
    return r && dir->removed ? 0 : r;
}

struct node *node_parent(struct node *n)
{
    pthread_rwlock_rdlock(&n->vol->tree_lock);
    struct node *parent = n->parent;
    if (parent)
        node_ref(parent);
    pthread_rwlock_unlock(&n->vol->tree_lock);
    return parent;
}

int node_sync_path(struct node *n)
{
    int r = S_ISDIR(n->type) ? sync_entries(n) : 0;
    struct node *p = node_parent(n);
    while (p) {
        if (!r)
            r = sync_entries(p);
        struct node *next = node_parent(p);
        node_unref(p, 1);
        p = next;
    }
    return r;
}
