#include "edit.h"

#include "latchfs/err.h"
#include "wrap.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

static struct keystore_master *find(struct edit *e, int *err)
{
    const struct keystore_master *m = keystore_master(e->ks, e->e->number);
    *err = m ? 0 : edit_refuse(e, -ENOENT, "the volume has no master key of version %u", e->e->number);
    return m ? &e->ks->masters[m - e->ks->masters] : NULL;
}

/* ---- rotation ---- */

/* The oldest destroyed version goes from the record when there is no room otherwise. */
static int make_room(struct edit *e)
{
    struct keystore *ks = e->ks;
    uint32_t at = 0;
    if (ks->masters[ks->master_count - 1].version >= KEYSTORE_VERSION_MAX)
        return edit_refuse(e, -ENOSPC, "the master key cannot get another version");
    if (ks->master_count < KEYSTORE_MASTERS_MAX)
        return 0;
    while (at < ks->master_count && ks->masters[at].state != KEY_DESTROYED)
        at++;
    if (at == ks->master_count)
        return edit_refuse(e, -ENOSPC, "there are %u versions of the master key: destroy some first",
                           KEYSTORE_MASTERS_MAX);
    ks->master_count--;
    memmove(&ks->masters[at], &ks->masters[at + 1], (ks->master_count - at) * sizeof ks->masters[0]);
    return 0;
}

static void add_version(struct edit *e)
{
    struct keystore *ks = e->ks;
    struct keystore_keys *keys = e->keys;
    uint32_t version = ks->masters[ks->master_count - 1].version + 1;
    for (uint32_t i = 0; i < ks->master_count; i++)
        if (ks->masters[i].state == KEY_ACTIVE)
            ks->masters[i].state = KEY_DECRYPT_ONLY;
    ks->masters[ks->master_count++] =
        (struct keystore_master){.version = version, .state = KEY_ACTIVE, .created = e->now};
    keys->masters[keys->count].version = version;
    randombytes_buf(keys->masters[keys->count++].key, LFS_KEY_BYTES);
    e->result.number = version;
}

static int rewrap_dirkey(struct edit *e, const struct keystore_dir *d, struct keystore_dirkey *k,
                         uint32_t version, const uint8_t *master)
{
    struct dir_scratch *t = &e->mem->scratch;
    int r = dirkey_outer(e->ks, d, k, keystore_keys_lookup, e->keys, t);
    k->master = version;
    struct wrap_what what = wrap_of_dirkey(e->ks, d, k);
    return r ? r : wrap_key(&what, master, t->outer, LFS_KEY_BYTES, k->wrapped);
}

static int rewrap_journal(struct edit *e, uint32_t version, const uint8_t *master)
{
    struct keystore *ks = e->ks;
    struct dir_scratch *t = &e->mem->scratch;
    struct wrap_what what = wrap_of_journal(ks);
    int r = keystore_keys_lookup(e->keys, ks->journal_master, t->master);
    if (!r)
        r = unwrap_key(&what, t->master, ks->journal_wrapped, sizeof ks->journal_wrapped, t->outer);
    ks->journal_master = version;
    what = wrap_of_journal(ks);
    return r ? r : wrap_key(&what, master, t->outer, LFS_KEY_BYTES, ks->journal_wrapped);
}

int edit_master_rotate(struct edit *e)
{
    int r = make_room(e);
    if (r)
        return r;
    add_version(e);
    uint32_t version = e->result.number;
    const uint8_t *master = e->keys->masters[e->keys->count - 1].key;
    for (uint32_t i = 0; i < e->ks->dir_count && !r; i++) {
        struct keystore_dir *d = &e->ks->dirs[i];
        for (uint32_t j = 0; j < d->count && !r; j++)
            if (d->keys[j].state != KEY_DESTROYED)
                r = rewrap_dirkey(e, d, &d->keys[j], version, master);
    }
    if (!r)
        r = rewrap_journal(e, version, master);
    return r ? r : replace_store_key(e->ks, e->keys);
}

/* ---- the end of a version ---- */

/* Whether anything in the store is wrapped by it. */
static bool wraps(const struct keystore *ks, uint32_t version)
{
    for (uint32_t i = 0; i < ks->dir_count; i++)
        for (uint32_t j = 0; j < ks->dirs[i].count; j++)
            if (ks->dirs[i].keys[j].master == version)
                return true;
    return ks->journal_master == version;
}

static int check_unused(struct edit *e, const struct keystore_master *m)
{
    if (m->state == KEY_ACTIVE)
        return edit_deny(e, "version %u of the master key is the active one", m->version);
    if (m->state == KEY_DESTROYED)
        return edit_deny(e, "version %u of the master key was destroyed", m->version);
    if (wraps(e->ks, m->version))
        return edit_deny(e, "keys of the volume are wrapped by version %u of the master key: rotate it first",
                         m->version);
    return 0;
}

int edit_master_retire(struct edit *e)
{
    int err;
    struct keystore_master *m = find(e, &err);
    if (!m || (err = check_unused(e, m)))
        return err;
    m->state = KEY_RETIRED;
    e->result.number = m->version;
    return 0;
}

static void forget(struct keystore_keys *keys, uint32_t version)
{
    for (uint32_t i = 0; i < keys->count; i++) {
        if (keys->masters[i].version != version)
            continue;
        keys->count--;
        memmove(&keys->masters[i], &keys->masters[i + 1], (keys->count - i) * sizeof keys->masters[0]);
        sodium_memzero(&keys->masters[keys->count], sizeof keys->masters[0]);
        return;
    }
}

int edit_master_destroy(struct edit *e)
{
    int err;
    struct keystore_master *m = find(e, &err);
    if (!m || (err = check_unused(e, m)))
        return err;
    const struct keystore_backup *b = backup_needing(e->ks, NULL, m->version);
    if (b)
        return edit_needed(e, b, m->version);
    m->state = KEY_DESTROYED;
    memset(m->wrapped, 0, sizeof m->wrapped);
    forget(e->keys, m->version);
    e->result.number = m->version;
    return 0;
}
