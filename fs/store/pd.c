#include "fs/store/pd.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- the table ---- */

static struct pd_keys *keys_new(const struct keyset *keys)
{
    struct pd_keys *k = locked_alloc(sizeof *k);
    if (k) {
        k->set = *keys;
        name_keys_derive(keys->name_key, &k->names);
    }
    return k;
}

struct pd *pd_root(const struct volume *v)
{
    return v->pds->of[0];
}

/* Without a lock: an entry is whole before the count says so. */
struct pd *pd_find(const struct volume *v, const uint8_t id[static ID_BYTES])
{
    unsigned count = atomic_load(&v->pds->count);
    for (unsigned i = 0; i < count; i++)
        if (memcmp(v->pds->of[i]->id, id, ID_BYTES) == 0)
            return v->pds->of[i];
    return NULL;
}

/* pd_lock is held. A new one is locked. */
static int obtain(struct volume *v, const uint8_t id[static ID_BYTES], struct pd **out)
{
    struct pd *pd = pd_find(v, id);
    unsigned count = atomic_load(&v->pds->count);
    if (!pd) {
        pd = count < KEYSTORE_DIRS_MAX ? calloc(1, sizeof *pd) : NULL;
        if (!pd)
            return -ENOMEM;
        memcpy(pd->id, id, ID_BYTES);
        atomic_init(&pd->state, VOLUME_LOCKED);
        v->pds->of[count] = pd;
        atomic_store(&v->pds->count, count + 1);
    }
    *out = pd;
    return 0;
}

int pd_table_init(struct volume *v, const struct keyset *root)
{
    v->pds = calloc(1, sizeof *v->pds);
    return !v->pds ? -ENOMEM : root ? pd_set_keys(v, root) : 0;
}

void pd_table_free(struct volume *v)
{
    unsigned count = v->pds ? atomic_load(&v->pds->count) : 0;
    for (unsigned i = 0; i < count; i++) {
        locked_free(atomic_load(&v->pds->of[i]->keys));
        free(v->pds->of[i]);
    }
    free(v->pds);
}

/* An older set must not come back while a newer one is in use: what it lacks may be in use too. */
static int check_newer(const struct pd_keys *have, const struct keyset *keys)
{
    if (!have)
        return 0;
    if (sodium_memcmp(have->set.name_key, keys->name_key, LFS_KEY_BYTES))
        return LFS_ERR_MISUSE;
    return keys->active < have->set.active ? LFS_ERR_ROLLBACK : 0;
}

int pd_set_keys(struct volume *v, const struct keyset *keys)
{
    struct pd *pd;
    int r = obtain(v, keys->pd_id, &pd);
    if (!r)
        r = check_newer(atomic_load(&pd->keys), keys);
    struct pd_keys *fresh = r ? NULL : keys_new(keys);
    if (r || !fresh)
        return r ? r : -ENOMEM;
    struct pd_keys *old = atomic_exchange(&pd->keys, fresh);
    atomic_store(&pd->state, VOLUME_UNLOCKED);
    if (old) {
        gate_wait(&v->gate); /* from here on no call makes a header by the old ones */
        locked_free(old);
    }
    return 0;
}

/* ---- nodes ---- */

void pd_touch(struct pd *pd)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    if (atomic_load_explicit(&pd->last_use, memory_order_relaxed) != (uint64_t)now.tv_sec)
        atomic_store_explicit(&pd->last_use, (uint64_t)now.tv_sec, memory_order_relaxed);
}

void node_note_use(struct node *n)
{
    struct pd *pd = atomic_load(&n->pd);
    if (pd)
        pd_touch(pd);
}

int node_set_home(struct node *n, const struct node *dir)
{
    struct pd *pd = atomic_load(&dir->pd), *known = NULL;
    if (!pd)
        return 0;
    if (!atomic_compare_exchange_strong(&n->home, &known, pd) && known != pd)
        return LFS_ERR_AUTH;
    if (!S_ISDIR(n->type))
        atomic_store(&n->pd, pd);
    return 0;
}

/* Of a node that was found without its directory having been loaded (replay). */
static int load_home(struct node *n)
{
    uint8_t id[ID_BYTES];
    struct node *dir = node_parent(n);
    int r = dir ? node_dir_id(dir, id) : -ESTALE;
    if (!r)
        r = node_set_home(n, dir);
    node_unref(dir, 1);
    return r;
}

int node_check_home(struct node *n, const struct pd *pd)
{
    int r = atomic_load(&n->home) ? 0 : load_home(n);
    return !r && atomic_load(&n->home) != pd ? -EXDEV : r;
}

int node_enter(struct node *n, bool writing)
{
    int r = volume_enter(n->vol, writing);
    if (r)
        return r;
    struct pd *pd = atomic_load(&n->pd);
    if (!pd && S_ISDIR(n->type))
        return 0;
    if (!pd && (r = load_home(n)) == 0)
        pd = atomic_load(&n->pd);
    if (!r)
        r = pd_check(pd, writing);
    if (r)
        volume_leave(n->vol);
    return r;
}

int node_enter_named(struct node *n, bool writing)
{
    int r = volume_enter(n->vol, writing);
    if (r || pd_check(atomic_load(&n->pd), writing) == 0)
        return r;
    if (!atomic_load(&n->home))
        r = load_home(n);
    if (!r)
        r = pd_check(atomic_load(&n->home), writing);
    if (r)
        volume_leave(n->vol);
    return r;
}
