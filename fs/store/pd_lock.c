/* Locking and unlocking one protected directory while the rest goes on. */
#include "fs/store/seal.h"
#include "fs/store/tree.h"

#include <errno.h>
#include <string.h>

int volume_pd_unlock(struct volume *v, const struct keyset *keys)
{
    if (memcmp(keys->volume_id, v->id, ID_BYTES) || keys->suite != v->suite)
        return LFS_ERR_MISUSE;
    pthread_mutex_lock(&v->pd_lock);
    int r = volume_is_locked(v) ? LFS_ERR_NOKEY : pd_set_keys(v, keys);
    pthread_mutex_unlock(&v->pd_lock);
    return r;
}

int volume_pd_lock_begin(struct volume *v, const uint8_t pd_id[static ID_BYTES])
{
    struct pd *pd = pd_find(v, pd_id);
    int expected = VOLUME_UNLOCKED;
    if (pd == pd_root(v))
        return LFS_ERR_MISUSE;
    if (pd)
        atomic_compare_exchange_strong(&pd->state, &expected, VOLUME_LOCKING);
    freeze_end(v);
    return 0;
}

static int checkpoint(struct volume *v)
{
    return v->opt.read_only ? 0 : volume_checkpoint(v);
}

/* First the calls about it end, with its keys; then those that meet it from outside (a rename of its topmost
 * directory), which from here on meet none. */
static int lock_one(struct volume *v, struct pd *pd)
{
    int r = checkpoint(v);
    seal_before_lock(v, pd);
    atomic_store(&pd->state, VOLUME_LOCKED);
    gate_wait(&v->gate);
    struct pd_keys *keys = atomic_exchange(&pd->keys, NULL);
    gate_wait(&v->gate);
    int e = checkpoint(v); /* writes that came while the first one ran */
    pd_forget_files(v, pd);
    locked_free(keys);
    siv_forget();
    return r ? r : e;
}

int volume_pd_lock_finish(struct volume *v, const uint8_t pd_id[static ID_BYTES])
{
    struct pd *pd = pd_find(v, pd_id);
    if (!pd || pd == pd_root(v))
        return pd ? LFS_ERR_MISUSE : 0;
    freeze_overrule(v);
    pthread_mutex_lock(&v->pd_lock);
    int r = pd_keys(pd) ? lock_one(v, pd) : 0;
    pthread_mutex_unlock(&v->pd_lock);
    freeze_leave(v);
    return r;
}

/* ---- wiping ---- */

static bool belongs(struct node *n, const struct pd *pd)
{
    return atomic_load(&n->home) == pd || atomic_load(&n->pd) == pd;
}

static void forget_file(struct node *n, void *arg)
{
    if (arg && !belongs(n, arg))
        return;
    pthread_mutex_lock(&n->file_lock);
    if (n->file)
        file_forget_keys(n->file);
    pthread_mutex_unlock(&n->file_lock);
}

void pd_forget_files(struct volume *v, struct pd *pd)
{
    volume_each_node(v, forget_file, pd);
}

void pd_wipe_all(struct volume *v)
{
    unsigned count = atomic_load(&v->pds->count);
    pd_forget_files(v, NULL);
    for (unsigned i = 0; i < count; i++) {
        atomic_store(&v->pds->of[i]->state, VOLUME_LOCKED);
        locked_free(atomic_exchange(&v->pds->of[i]->keys, NULL));
    }
    siv_forget(); /* the name keys in every worker's cache */
}

/* ---- who belongs where ---- */

void volume_pd_each(struct volume *v, void (*fn)(const struct pd_status *st, void *arg), void *arg)
{
    unsigned count = atomic_load(&v->pds->count);
    for (unsigned i = 0; i < count; i++) {
        const struct pd *pd = v->pds->of[i];
        struct pd_status st = {.locked = true, .last_use = atomic_load(&pd->last_use)};
        memcpy(st.id, pd->id, ID_BYTES);
        gate_enter(&v->gate);
        const struct pd_keys *keys = pd_keys(pd);
        if (keys && pd_check(pd, false) == 0) {
            st.locked = false;
            st.active = keys->set.active;
            st.least = keys->set.least;
        }
        gate_leave(&v->gate);
        fn(&st, arg);
    }
}

struct each_node {
    const struct pd *pd;
    void (*fn)(struct node *n, void *arg);
    void *arg;
};

static void each_node(struct node *n, void *arg)
{
    const struct each_node *e = arg;
    if (belongs(n, e->pd))
        e->fn(n, e->arg);
}

void volume_pd_each_node(struct volume *v, const uint8_t pd_id[static ID_BYTES],
                         void (*fn)(struct node *n, void *arg), void *arg)
{
    struct each_node e = {pd_find(v, pd_id), fn, arg};
    if (e.pd)
        volume_each_node(v, each_node, &e);
}

static int claimed_id(struct node *dir, uint8_t pd_id[static ID_BYTES])
{
    struct dirrec d;
    int fd, r = node_fd_get(dir, false, &fd);
    if (r)
        return r;
    r = record_claim(dir->vol, fd, &d);
    node_fd_put(dir);
    if (!r)
        memcpy(pd_id, d.pd_id, ID_BYTES);
    return r;
}

static int home_id(struct node *n, uint8_t pd_id[static ID_BYTES])
{
    const struct pd *home = atomic_load(&n->home);
    if (home) {
        memcpy(pd_id, home->id, ID_BYTES);
        return 0;
    }
    struct node *dir = node_parent(n);
    int r = dir ? node_pd_id(dir, pd_id, NULL) : -ESTALE;
    node_unref(dir, 1);
    return r;
}

int node_pd_id(struct node *n, uint8_t pd_id[static ID_BYTES], bool *top)
{
    uint8_t id[ID_BYTES], home[ID_BYTES];
    const struct pd *pd = atomic_load(&n->pd);
    int r = 0;
    if (pd)
        memcpy(id, pd->id, ID_BYTES);
    else
        r = S_ISDIR(n->type) ? claimed_id(n, id) : home_id(n, id);
    if (!r && top && n != n->vol->root)
        r = home_id(n, home);
    if (r)
        return r;
    memcpy(pd_id, id, ID_BYTES);
    if (top)
        *top = n == n->vol->root || memcmp(id, home, ID_BYTES) != 0;
    return 0;
}
