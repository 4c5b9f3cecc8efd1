/* An empty directory becomes the top of a protected directory. */
#include "fs/store/tree.h"
#include "latchfs/xattr.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#define VALUE_MAX 65536u /* of the system, stored form included */

/* ---- its attributes, whose keys change with it ---- */

/* Copies under the new keys stand beside the old ones until the record has changed: whichever record a crash
 * leaves, its attributes are there. */
struct moving {
    struct volume *v;
    int fd;
    const uint8_t *dir_id;
    const struct name_keys *from, *to;
    uint8_t *stored; /* VALUE_MAX each, the second in locked memory */
    uint8_t *plain;
};

static struct xattr_owner owner_of(const struct moving *m)
{
    return (struct xattr_owner){.kind = KIND_DIR_XATTR, .suite = m->v->suite, .epoch = 1, .id = m->dir_id};
}

/* The value of stored_name in m->plain, and its plaintext name. */
static ssize_t open_attr(const struct moving *m, struct aead *a, const char *stored_name,
                         char name[static XATTR_PLAIN_MAX + 1])
{
    struct xattr_owner o = owner_of(m);
    ssize_t len = fgetxattr(m->fd, stored_name, m->stored, VALUE_MAX);
    int r = len < 0 ? -errno : xattr_name_decrypt(m->from, m->dir_id, stored_name, name);
    if (!r && xattr_value_epoch(m->stored, (size_t)len) != 1)
        r = LFS_ERR_CORRUPT;
    if (!r)
        r = aead_set_key(a, m->v->suite, m->from->xattr);
    if (!r)
        r = xattr_value_open(a, &o, name, m->stored, (size_t)len, m->plain);
    return r ? r : len - (ssize_t)XATTR_OVERHEAD;
}

static int copy_attr(const struct moving *m, const char *stored_name)
{
    char name[XATTR_PLAIN_MAX + 1], new_name[256];
    struct xattr_owner o = owner_of(m);
    struct aead *a = thread_aead();
    if (!a)
        return -ENOMEM;
    ssize_t len = open_attr(m, a, stored_name, name);
    int r = len < 0 ? (int)len : xattr_name_encrypt(m->to, m->dir_id, name, new_name);
    if (!r)
        r = aead_set_key(a, m->v->suite, m->to->xattr);
    if (!r)
        r = xattr_value_seal(a, &o, name, m->plain, (size_t)len, m->stored);
    aead_clear_key(a);
    if (!r && fsetxattr(m->fd, new_name, m->stored, (size_t)len + XATTR_OVERHEAD, 0))
        r = -errno;
    /* What nobody could read under the old keys is not kept. */
    return r == LFS_ERR_AUTH || r == LFS_ERR_CORRUPT ? volume_note(m->v, r), 0 : r;
}

/* Removes what stands under the old keys. */
static int drop_attr(const struct moving *m, const char *stored_name)
{
    char name[XATTR_PLAIN_MAX + 1];
    if (xattr_name_decrypt(m->from, m->dir_id, stored_name, name) == 0)
        fremovexattr(m->fd, stored_name);
    return 0;
}

static int each_attr(const struct moving *m, int (*fn)(const struct moving *m, const char *stored_name))
{
    char *list = malloc(VALUE_MAX);
    ssize_t n = list ? flistxattr(m->fd, list, VALUE_MAX) : -1;
    int r = !list ? -ENOMEM : n < 0 ? -errno : 0;
    for (ssize_t at = 0; !r && at < n; at += (ssize_t)strlen(list + at) + 1)
        if (strncmp(list + at, XATTR_STORED_PREFIX, sizeof XATTR_STORED_PREFIX - 1) == 0)
            r = fn(m, list + at);
    free(list);
    return r;
}

static int move_attrs(struct moving *m)
{
    m->stored = malloc(VALUE_MAX);
    m->plain = locked_alloc(VALUE_MAX);
    int r = m->stored && m->plain ? each_attr(m, copy_attr) : -ENOMEM;
    free(m->stored);
    locked_free(m->plain);
    return r == -EOPNOTSUPP ? 0 : r;
}

static void settle_attrs(const struct moving *m, bool moved)
{
    struct moving drop = *m;
    if (!moved) {
        drop.from = m->to;
        drop.to = m->from;
    }
    each_attr(&drop, drop_attr);
}

/* ---- its record ---- */

struct protecting {
    struct node *dir;
    struct pd *from, *to;
    const struct pd_keys *from_keys, *to_keys;
};

/* The new record takes the old one's name, synced: a crash leaves one or the other. */
static int change_record(const struct protecting *p, int fd)
{
    struct volume *v = p->dir->vol;
    struct dirrec d;
    struct pd *pd;
    int r = record_read(v, fd, &d, &pd);
    if (!r && pd != p->from)
        r = LFS_ERR_AUTH;
    if (r)
        return r;
    struct moving m = {.v = v, .fd = fd, .dir_id = d.id};
    m.from = &p->from_keys->names;
    m.to = &p->to_keys->names;
    memcpy(d.pd_id, p->to->id, ID_BYTES);
    r = move_attrs(&m);
    if (!r)
        r = dir_fd_sync(v, fd);
    if (!r)
        r = record_replace(v, fd, &d, p->to_keys);
    if (volume_check_writable(v) == 0) /* after a failed sync both sets stay */
        settle_attrs(&m, !r);
    return r;
}

/* The directory is locked: nothing is put into it meanwhile. */
static int protect_locked(const struct protecting *p)
{
    struct node *dir = p->dir;
    int fd, r = dir->removed ? -ENOENT : atomic_load(&dir->pd) != p->from ? LFS_ERR_MISUSE : 0;
    if (!r)
        r = node_fd_get(dir, false, &fd);
    if (r)
        return r;
    r = dir_check_empty(fd);
    if (!r)
        r = change_record(p, fd);
    node_fd_put(dir);
    if (!r) {
        atomic_store(&dir->pd, p->to);
        dir->changes++;
    }
    return r;
}

/* It is loaded, no top yet and empty by the looks of it. */
static int check_candidate(struct node *dir, const struct keyset *keys)
{
    uint8_t id[ID_BYTES], pd_id[ID_BYTES];
    bool top;
    int r = node_dir_enter(dir, id);
    if (!r)
        r = node_pd_id(dir, pd_id, &top);
    if (!r && (top || memcmp(pd_id, keys->pd_id, ID_BYTES) == 0))
        r = LFS_ERR_MISUSE;
    return r ? r : dir_check_removable(dir);
}

static int protect(struct node *dir, const struct keyset *keys)
{
    struct protecting p = {.dir = dir, .to = pd_find(dir->vol, keys->pd_id)};
    int r = check_candidate(dir, keys);
    if (r)
        return r;
    p.from = atomic_load(&dir->pd);
    p.from_keys = pd_keys(p.from);
    p.to_keys = pd_keys(p.to);
    if (!p.from_keys || !p.to_keys)
        return LFS_ERR_NOKEY;
    dir_wrlock(dir);
    r = protect_locked(&p);
    dir_unlock(dir);
    return r ? r : node_sync_path(dir);
}

/* Keys that are there stay, unless these are newer: they may be the later ones of the same version. Inside
 * volume_enter. */
static int check_present(struct volume *v, const struct keyset *keys, bool *present)
{
    const struct pd *pd = pd_find(v, keys->pd_id);
    const struct pd_keys *have = pd_check(pd, false) ? NULL : pd_keys(pd);
    *present = have && keys->active <= have->set.active;
    bool same = !have || (memcmp(keys->volume_id, have->set.volume_id, ID_BYTES) == 0 &&
                          sodium_memcmp(keys->name_key, have->set.name_key, LFS_KEY_BYTES) == 0);
    return same ? 0 : LFS_ERR_MISUSE;
}

int node_protect(struct node *dir, const struct keyset *keys)
{
    struct volume *v = dir->vol;
    if (!S_ISDIR(dir->type) || dir == v->root)
        return S_ISDIR(dir->type) ? LFS_ERR_MISUSE : -ENOTDIR;
    VOLUME_CHANGE(v);
    bool present = false;
    int r = tree_begin_change(dir);
    if (!r) {
        r = check_candidate(dir, keys);
        r = tree_end(v, r ? r : check_present(v, keys, &present));
    }
    const struct pd *known = pd_find(v, keys->pd_id);
    bool had = known && pd_check(known, true) == 0;
    if (!r && !present)
        r = volume_pd_unlock(v, keys); /* waits for calls under way, so not from inside one */
    if (r)
        return r;
    r = tree_begin_change(dir);
    if (!r)
        r = tree_end(v, protect(dir, keys));
    if (r && !had && volume_pd_lock_begin(v, keys->pd_id) == 0)
        volume_pd_lock_finish(v, keys->pd_id);
    return r;
}
