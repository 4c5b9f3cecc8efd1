#include "fs/mount/control_dirs.h"

#include "fs/mount/control_path.h"
#include "fs/mount/keys.h"
#include "fs/mount/open_files.h"
#include "fs/mount/ops.h"
#include "latchfs/buf.h"
#include "latchfs/err.h"

#include <errno.h>
#include <string.h>

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
    int r = control_walk(d, path, &n);
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

struct protecting {
    struct volume *vol;
    struct node *top;
};

/* In the thread that locks, which must not wait for the end of a freeze. */
static int protect(const struct keyset *set, void *arg)
{
    const struct protecting *p = arg;
    if (!volume_try_change(p->vol))
        return LFS_ERR_BUSY;
    int r = node_protect(p->top, set);
    volume_end_change(p->vol);
    return r;
}

int control_protect(struct daemon *d, const char *path, const uint8_t pd_id[static ID_BYTES])
{
    struct node *n;
    int r = control_walk(d, path, &n);
    if (r)
        return r;
    struct protecting p = {d->vol, n};
    r = S_ISDIR(node_type(n)) ? keys_lease_dir(d->keys, pd_id, protect, &p) : -ENOTDIR;
    if (!r)
        session_inval_inode(d->session, ops_ino(d, n));
    node_unref(n, 1);
    return r;
}

struct list {
    struct mount_dir *out;
    size_t room, count;
};

static void add(const struct pd_status *st, void *arg)
{
    struct list *l = arg;
    if (l->count < l->room)
        l->out[l->count++].pd = *st;
}

size_t control_dirs(struct daemon *d, struct mount_dir *out, size_t room)
{
    struct list l = {.out = out, .room = room};
    volume_pd_each(d->vol, add, &l);
    CLEANUP(open_files_freep) struct open_files *o = open_files_look(d);
    for (size_t i = 0; i < l.count; i++)
        out[i].open_files = open_files_count(o, d, out[i].pd.id);
    return l.count;
}
