#include "edit.h"

#include "latchfs/err.h"
#include "wrap.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

/* ---- parts ---- */

/* Wraps dir_key as version k of d: by the active master, or, held, by a key of its own that the master wraps;
 * then the blob is for latch-keyd. */
static int wrap_version(struct edit *e, const struct keystore_dir *d, struct keystore_dirkey *k)
{
    struct edit_secrets *mem = e->mem;
    const uint8_t *outer = mem->fresh_key;
    k->master = keystore_active_master(e->ks)->version;
    int r = keystore_keys_lookup(e->keys, k->master, mem->scratch.master);
    if (!r && d->held) {
        struct wrap_what what = wrap_of_held(e->ks, d, k->version);
        struct held_blob *b = &e->fresh.blob[e->fresh.count++];
        memcpy(b->pd, d->id, ID_BYTES);
        b->version = k->version;
        randombytes_buf(mem->scratch.outer, LFS_KEY_BYTES);
        outer = mem->scratch.outer;
        r = wrap_key(&what, outer, mem->fresh_key, LFS_KEY_BYTES, b->wrapped);
    }
    struct wrap_what what = wrap_of_dirkey(e->ks, d, k);
    return r ? r : wrap_key(&what, mem->scratch.master, outer, LFS_KEY_BYTES, k->wrapped);
}

/* The name key of d, in mem->name_key. */
static int open_names(struct edit *e, const struct keystore_dir *d)
{
    const struct keystore_dirkey *k = keystore_dirkey(d, d->name_version);
    struct wrap_what what = wrap_of_names(e->ks, d);
    int r =
        dirkey_open(e->ks, d, k, keystore_keys_lookup, e->keys, e->held, &e->mem->scratch, e->mem->dir_key);
    return r ? r
             : unwrap_key(&what, e->mem->dir_key, d->name_wrapped, sizeof d->name_wrapped, e->mem->name_key);
}

/* open_names for the directory of the edit, with the reason. */
static int need_names(struct edit *e, const struct keystore_dir *d)
{
    int r = open_names(e, d);
    return r == LFS_ERR_NOKEY ? edit_refuse(e, r, "the keys of this directory are held by another latch-keyd")
                              : r;
}

/* LFS_ERR_DENIED if another directory has this name. Names that cannot be opened here are passed over. */
static int check_label(struct edit *e, const struct keystore_dir *self)
{
    char label[KEYSTORE_LABEL_MAX + 1];
    if (!keystore_label_ok(e->e->label))
        return edit_deny(e, "a directory's name has 1 to %u letters, digits, spaces and . _ @ + -",
                         KEYSTORE_LABEL_MAX);
    for (uint32_t i = 0; i < e->ks->dir_count; i++) {
        const struct keystore_dir *d = &e->ks->dirs[i];
        if (d == self || !d->named)
            continue;
        int r = open_names(e, d);
        if (r == LFS_ERR_NOKEY)
            continue;
        if (!r)
            r = label_open(e->ks, d, e->mem->name_key, label);
        if (r)
            return r;
        if (strcmp(label, e->e->label) == 0)
            return edit_deny(e, "another protected directory has the name %s", label);
    }
    return 0;
}

/* ---- a new one ---- */

/* Room for one more, if need be by forgetting the one that was shredded first. */
static int room_for_dir(struct edit *e)
{
    struct keystore *ks = e->ks;
    uint32_t at = 0;
    if (ks->dir_count < KEYSTORE_DIRS_MAX)
        return 0;
    while (at < ks->dir_count && !ks->dirs[at].shredded)
        at++;
    if (at == ks->dir_count)
        return edit_refuse(e, -ENOSPC, "the volume has %u protected directories already", KEYSTORE_DIRS_MAX);
    ks->dir_count--;
    memmove(&ks->dirs[at], &ks->dirs[at + 1], (ks->dir_count - at) * sizeof ks->dirs[0]);
    return 0;
}

static int fill_dir(struct edit *e, struct keystore_dir *d)
{
    struct edit_secrets *mem = e->mem;
    randombytes_buf(d->id, ID_BYTES);
    d->created = e->now;
    d->held = e->e->held;
    d->least = d->name_version = d->count = 1;
    d->keys[0] = (struct keystore_dirkey){.version = 1, .state = KEY_ACTIVE, .created = e->now};
    randombytes_buf(mem->fresh_key, LFS_KEY_BYTES);
    int r = wrap_version(e, d, &d->keys[0]);
    struct wrap_what what = wrap_of_names(e->ks, d);
    if (!r)
        r = wrap_fresh(&what, mem->fresh_key, mem->name_key, d->name_wrapped);
    return r ? r : label_seal(e->ks, d, mem->name_key, e->e->label);
}

int edit_dir_add(struct edit *e)
{
    if (!e->e->label || !e->e->label[0])
        return edit_deny(e, "a protected directory needs a name");
    int r = check_label(e, NULL);
    if (!r)
        r = room_for_dir(e);
    if (r)
        return r;
    struct keystore_dir *d = keystore_add_dir(e->ks);
    if (!d)
        return -ENOMEM;
    r = fill_dir(e, d);
    memcpy(e->result.pd, d->id, ID_BYTES);
    e->result.number = 1;
    return r;
}

int edit_dir_name(struct edit *e)
{
    int r;
    struct keystore_dir *d = edit_dir(e, &r);
    if (!d)
        return r;
    memcpy(e->result.pd, d->id, ID_BYTES);
    if (!e->e->label || !e->e->label[0]) {
        memset(d->label_wrapped, 0, sizeof d->label_wrapped);
        d->named = false;
        return 0;
    }
    r = check_label(e, d);
    if (!r)
        r = need_names(e, d);
    return r ? r : label_seal(e->ks, d, e->mem->name_key, e->e->label);
}

/* ---- rotation ---- */

/* Above all that the store knows, and all whose keys are held though an older copy of the store, accepted
 * since, does not know them: no held key is ever replaced. */
static uint64_t next_version(const struct edit *e, const struct keystore_dir *d)
{
    uint64_t last = d->keys[d->count - 1].version;
    return (d->held && e->e->above > last ? e->e->above : last) + 1;
}

/* The oldest destroyed version goes from the record when there is no room otherwise. */
static int room_for_version(struct edit *e, struct keystore_dir *d)
{
    uint32_t at = 0;
    if (next_version(e, d) > KEYSTORE_VERSION_MAX)
        return edit_refuse(e, -ENOSPC, "the directory key cannot get another version");
    if (d->count < KEYSET_VERSIONS_MAX)
        return 0;
    while (at < d->count && d->keys[at].state != KEY_DESTROYED)
        at++;
    if (at == d->count)
        return edit_refuse(e, -ENOSPC, "there are %u versions of the directory key: destroy some first",
                           KEYSET_VERSIONS_MAX);
    d->count--;
    memmove(&d->keys[at], &d->keys[at + 1], (d->count - at) * sizeof d->keys[0]);
    return 0;
}

static int add_version(struct edit *e, struct keystore_dir *d, bool data)
{
    struct edit_secrets *mem = e->mem;
    int r = room_for_version(e, d);
    if (!r)
        r = need_names(e, d);
    if (r)
        return r;
    for (uint32_t i = 0; i < d->count; i++)
        if (d->keys[i].state == KEY_ACTIVE)
            d->keys[i].state = KEY_DECRYPT_ONLY;
    uint32_t version = (uint32_t)next_version(e, d);
    struct keystore_dirkey *k = &d->keys[d->count++];
    *k = (struct keystore_dirkey){.version = version, .state = KEY_ACTIVE, .created = e->now};
    randombytes_buf(mem->fresh_key, LFS_KEY_BYTES);
    r = wrap_version(e, d, k);
    d->name_version = version;
    if (data)
        d->data_version = version;
    struct wrap_what what = wrap_of_names(e->ks, d);
    return r ? r : wrap_key(&what, mem->fresh_key, mem->name_key, LFS_KEY_BYTES, d->name_wrapped);
}

int edit_dir_rotate(struct edit *e)
{
    int r;
    struct keystore_dir *d = edit_dir(e, &r);
    if (!d)
        return r;
    if (e->e->number > 1)
        return LFS_ERR_MISUSE;
    bool data = e->e->number == 1;
    uint32_t active = keystore_active_dirkey(d)->version;
    bool under_way = active > d->least, data_under_way = under_way && d->data_version == active;
    if (data_under_way && !data)
        return edit_deny(e, "the data of this directory is being re-encrypted: finish that first");
    if (!under_way || data != data_under_way)
        r = add_version(e, d, data);
    memcpy(e->result.pd, d->id, ID_BYTES);
    e->result.number = keystore_active_dirkey(d)->version;
    return r;
}

int edit_dir_finish(struct edit *e)
{
    int r;
    struct keystore_dir *d = edit_dir(e, &r);
    if (!d)
        return r;
    uint32_t active = keystore_active_dirkey(d)->version;
    if (e->e->number != active)
        return edit_deny(e, "version %u is not the active one, that is %u", e->e->number, active);
    d->least = active;
    for (uint32_t i = 0; i < d->count; i++)
        if (d->keys[i].version < active && d->keys[i].state != KEY_DESTROYED)
            d->keys[i].state = KEY_RETIRED;
    memcpy(e->result.pd, d->id, ID_BYTES);
    e->result.number = active;
    return 0;
}

int edit_dir_accept(struct edit *e)
{
    int r;
    struct keystore_dir *d = edit_dir(e, &r);
    if (!d)
        return r;
    const struct keystore_dirkey *from = keystore_dirkey(d, e->e->number);
    if (!from)
        return edit_refuse(e, -ENOENT, "the directory has no key of version %u", e->e->number);
    if (from->state == KEY_DESTROYED)
        return edit_deny(e, "version %u was destroyed", from->version);
    if (from->version >= d->least)
        return edit_deny(e, "headers of version %u are taken already", from->version);
    d->least = from->version;
    for (uint32_t i = 0; i < d->count; i++)
        if (d->keys[i].version >= d->least && d->keys[i].state == KEY_RETIRED)
            d->keys[i].state = KEY_DECRYPT_ONLY;
    memcpy(e->result.pd, d->id, ID_BYTES);
    e->result.number = d->least;
    return 0;
}

/* ---- the end ---- */

static void destroy(struct keystore_dirkey *k)
{
    k->state = KEY_DESTROYED;
    k->master = 0;
    memset(k->wrapped, 0, sizeof k->wrapped);
}

int edit_dir_destroy(struct edit *e)
{
    int r;
    struct keystore_dir *d = edit_dir(e, &r);
    if (!d)
        return r;
    const struct keystore_dirkey *k = keystore_dirkey(d, e->e->number);
    if (!k)
        return edit_refuse(e, -ENOENT, "the directory has no key of version %u", e->e->number);
    const struct keystore_backup *b = backup_needing(e->ks, d->id, k->version);
    if (k->state != KEY_RETIRED || k->version >= d->least)
        return edit_deny(e, "version %u is %s: only a retired one can be destroyed", k->version,
                         key_state_name(k->state));
    if (k->version == d->name_version)
        return edit_deny(e, "version %u still wraps the name key: rotate first", k->version);
    if (b)
        return edit_needed(e, b, k->version);
    destroy(&d->keys[k - d->keys]);
    memcpy(e->result.pd, d->id, ID_BYTES);
    e->result.number = k->version;
    return 0;
}

static void drop_needs(struct keystore_backup *b, const uint8_t pd[static ID_BYTES])
{
    for (uint32_t i = 0; i < b->need_count; i++) {
        if (memcmp(b->needs[i].pd, pd, ID_BYTES) != 0)
            continue;
        b->need_count--;
        memmove(&b->needs[i], &b->needs[i + 1], (b->need_count - i) * sizeof b->needs[0]);
        return;
    }
}

int edit_dir_shred(struct edit *e)
{
    int r;
    struct keystore_dir *d = edit_dir(e, &r);
    if (!d)
        return r;
    if (d == keystore_dir(e->ks, NULL))
        return edit_deny(e, "the directory of the volume's root cannot be shredded");
    for (uint32_t i = 0; i < d->count; i++)
        destroy(&d->keys[i]);
    d->shredded = true;
    d->named = false;
    d->least = d->data_version = d->name_version = 0;
    memset(d->label_wrapped, 0, sizeof d->label_wrapped);
    memset(d->name_wrapped, 0, sizeof d->name_wrapped);
    for (uint32_t i = 0; i < e->ks->backup_count; i++)
        drop_needs(&e->ks->backups[i], d->id);
    memcpy(e->result.pd, d->id, ID_BYTES);
    return 0;
}
