#include "fs/mount/control_dirs.h"

#include "fs/mount/keys.h"
#include "fs/mount/ops.h"
#include "latchfs/buf.h"
#include "latchfs/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Walks from the root; *out has a reference. */
static int walk(struct daemon *d, const char *path, struct node **out)
{
    struct node *at = volume_root(d->vol), *next;
    char name[NAME_PLAIN_MAX + 1];
    struct stat st;
    node_ref(at);
    for (size_t len; *path; path += len + (path[len] == '/')) {
        len = strcspn(path, "/");
        snprintf(name, sizeof name, "%.*s", (int)len, path);
        int r = S_ISDIR(node_type(at)) ? node_lookup(at, name, &st, &next) : -ENOTDIR;
        node_unref(at, 1);
        if (r)
            return r;
        at = next;
    }
    *out = at;
    return 0;
}

struct search {
    const uint8_t *id;
    bool locked;
};

static void find_unlocked(const struct pd_status *st, void *arg)
{
    struct search *s = arg;
    if (memcmp(st->id, s->id, ID_BYTES) == 0)
        s->locked = st->locked;
}

int control_resolve(struct daemon *d, const char *path, struct mount_resolved *out)
{
    struct mount_resolved m = {0};
    struct node *n;
    int r = walk(d, path, &n);
    if (r)
        return r;
    r = node_pd_id(n, m.pd_id, &m.top);
    node_unref(n, 1);
    if (r)
        return r;
    struct search s = {.id = m.pd_id, .locked = true}; /* one without keys since the mount is not listed */
    volume_pd_each(d->vol, find_unlocked, &s);
    m.locked = s.locked;
    *out = m;
    return 0;
}

static int protect(const struct keyset *set, void *arg)
{
    struct node *top = arg;
    return node_protect(top, set);
}

int control_protect(struct daemon *d, const char *path, const uint8_t pd_id[static ID_BYTES])
{
    struct node *n;
    int r = walk(d, path, &n);
    if (r)
        return r;
    r = S_ISDIR(node_type(n)) ? keys_lease_dir(d->keys, pd_id, protect, n) : -ENOTDIR;
    if (!r)
        session_inval_inode(d->session, ops_ino(d, n));
    node_unref(n, 1);
    return r;
}

struct list {
    struct pd_status *out;
    size_t room, count;
};

static void add(const struct pd_status *st, void *arg)
{
    struct list *l = arg;
    if (l->count < l->room)
        l->out[l->count++] = *st;
}

size_t control_dirs(struct daemon *d, struct pd_status *out, size_t room)
{
    struct list l = {.out = out, .room = room};
    volume_pd_each(d->vol, add, &l);
    return l.count;
}
