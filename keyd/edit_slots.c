#include "edit.h"

#include "latchfs/err.h"
#include "slot.h"
#include "wrap.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

int wrap_by_store_key(struct keystore *ks, const struct keystore_keys *k)
{
    struct wrap_what what = wrap_of_signing(ks);
    int r = wrap_key(&what, k->store_key, k->signing_secret, LFS_KEY_BYTES, ks->signing_wrapped);
    for (uint32_t i = 0, at = 0; i < ks->master_count && !r; i++) {
        struct keystore_master *m = &ks->masters[i];
        if (m->state == KEY_DESTROYED)
            continue;
        if (at == k->count || k->masters[at].version != m->version)
            return LFS_ERR_MISUSE;
        what = wrap_of_master(ks, m->version);
        r = wrap_key(&what, k->store_key, k->masters[at++].key, LFS_KEY_BYTES, m->wrapped);
    }
    return r;
}

int replace_store_key(struct keystore *ks, struct keystore_keys *keys)
{
    randombytes_buf(keys->store_key, LFS_KEY_BYTES);
    int r = wrap_by_store_key(ks, keys);
    for (uint32_t i = 0; i < ks->slot_count && !r; i++)
        r = slot_seal_store_key(&ks->slots[i], keys->store_key);
    return r;
}

static const struct keystore_slot *find(struct edit *e, int *err)
{
    const struct keystore_slot *s = keystore_slot(e->ks, e->e->number);
    *err = s ? 0 : edit_refuse(e, -ENOENT, "the volume has no slot %u", e->e->number);
    return s;
}

static struct slot_make slot_of(const struct edit *e)
{
    return (struct slot_make){
        .c = e->e->fresh, .label = e->e->label, .fast = e->e->fast_kdf, .kdf_ms = e->kdf_ms};
}

int edit_slot_add(struct edit *e)
{
    struct slot_make m = slot_of(e);
    e->result.number = e->ks->next_slot;
    return slot_append(e->ks, &m, e->keys->store_key, &e->result.recovery, e->why);
}

int edit_slot_remove(struct edit *e)
{
    int err;
    const struct keystore_slot *s = find(e, &err);
    if (!s)
        return err;
    if (e->ks->slot_count == 1 && !e->e->force)
        return edit_deny(e, "slot %u is the last one: without it nobody could open the volume", s->id);
    e->result.number = s->id;
    keystore_drop_slot(e->ks, s->id);
    return replace_store_key(e->ks, e->keys);
}

int edit_slot_replace(struct edit *e)
{
    int err;
    const struct keystore_slot *s = find(e, &err);
    if (!s)
        return err;
    struct slot_make m = slot_of(e);
    uint32_t at = (uint32_t)(s - e->ks->slots);
    e->result.number = s->id;
    err = slot_replace(e->ks, at, &m, e->keys->store_key, &e->result.recovery, e->why);
    return err ? err : replace_store_key(e->ks, e->keys);
}

int edit_slot_label(struct edit *e)
{
    int err;
    const struct keystore_slot *s = find(e, &err);
    if (!s)
        return err;
    e->result.number = s->id;
    return label_set(e->ks->slots[s - e->ks->slots].label, e->e->label, e->why);
}
