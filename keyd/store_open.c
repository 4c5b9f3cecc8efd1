#include "latchfs/keyslots.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "slot.h"
#include "slot_type.h"
#include "wrap.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

void keystore_keys_free(struct keystore_keys *k)
{
    locked_free(k);
}

void keystore_keys_freep(struct keystore_keys **k)
{
    keystore_keys_free(*k);
    *k = NULL;
}

int keystore_keys_lookup(void *keys, uint32_t version, uint8_t key[static LFS_KEY_BYTES])
{
    const struct keystore_keys *k = keys;
    for (uint32_t i = 0; i < k->count; i++) {
        if (k->masters[i].version == version) {
            memcpy(key, k->masters[i].key, LFS_KEY_BYTES);
            return 0;
        }
    }
    return LFS_ERR_NOKEY;
}

static int parse(const char *ini, size_t len, struct keystore **ks, struct key_why *why)
{
    unsigned line = 0;
    int r = keystore_parse(ini, len, ks, &line);
    if (r && line)
        key_why_set(why, "%s, line %u: %s", KEYSTORE_NAME, line, lfs_strerror(r));
    if (!r && !keystore_signed_by(ini, len, (*ks)->signing_public)) {
        keystore_freep(ks);
        key_why_set(why, "the signature of %s does not fit: it was damaged or changed", KEYSTORE_NAME);
        return LFS_ERR_AUTH;
    }
    return r;
}

/* Every slot of the credential's type is tried. */
static int find_slot(const struct keystore *ks, const struct credential *c, struct slot_opened *o,
                     unsigned *slot_id, struct key_why *why)
{
    bool any = false;
    for (uint32_t i = 0; i < ks->slot_count; i++) {
        const struct keystore_slot *s = &ks->slots[i];
        if (s->type != (uint8_t)c->type)
            continue;
        any = true;
        int r = slot_open(ks, s, c->secret, o, why);
        *slot_id = s->id;
        if (r != LFS_ERR_PASSPHRASE)
            return r;
    }
    if (!any)
        key_why_set(why, "the volume has no slot of type %s", keystore_slot_type_name(c->type));
    return LFS_ERR_PASSPHRASE;
}

static int unwrap_all(const struct keystore *ks, struct keystore_keys *k)
{
    uint8_t public_key[32];
    struct wrap_what what = wrap_of_signing(ks);
    uint8_t *seed = locked_alloc(LFS_KEY_BYTES);
    if (!seed)
        return -ENOMEM;
    int r = unwrap_key(&what, k->store_key, ks->signing_wrapped, sizeof ks->signing_wrapped, seed);
    if (!r)
        crypto_sign_seed_keypair(public_key, k->signing_secret, seed);
    locked_free(seed);
    if (r)
        return r;
    if (memcmp(public_key, ks->signing_public, sizeof public_key) != 0)
        return LFS_ERR_AUTH;
    for (uint32_t i = 0; i < ks->master_count && !r; i++) {
        const struct keystore_master *m = &ks->masters[i];
        what = wrap_of_master(ks, m->version);
        k->masters[i].version = m->version;
        r = unwrap_key(&what, k->store_key, m->wrapped, sizeof m->wrapped, k->masters[i].key);
    }
    k->count = ks->master_count;
    return r;
}

static int open_keys(const struct keystore *ks, const struct credential *c, struct keystore_keys *k,
                     struct key_why *why)
{
    struct slot_opened *o = locked_alloc(sizeof *o);
    if (!o)
        return -ENOMEM;
    int r = find_slot(ks, c, o, &k->slot_id, why);
    /* The text is signed by ks->signing_public (parse); whose key that is, the slot tells. */
    if (!r && memcmp(o->signing_public, ks->signing_public, KEYSTORE_PUBLIC_BYTES) != 0) {
        key_why_set(why, "%s is signed with a key that is not this volume's", KEYSTORE_NAME);
        r = LFS_ERR_AUTH;
    }
    if (!r)
        memcpy(k->store_key, o->store_key, LFS_KEY_BYTES);
    locked_free(o);
    return r ? r : unwrap_all(ks, k);
}

int keystore_open(const char *ini, size_t len, const struct credential *c, struct keystore **ks,
                  struct keystore_keys **keys, struct key_why *why)
{
    CLEANUP(keystore_freep) struct keystore *parsed = NULL;
    CLEANUP(keystore_keys_freep) struct keystore_keys *k = NULL;
    why->text[0] = '\0';
    if (!c->secret || !slot_type_find(c->type))
        return LFS_ERR_MISUSE;
    int r = parse(ini, len, &parsed, why);
    if (r)
        return r;
    k = locked_alloc(sizeof *k);
    if (!k)
        return -ENOMEM;
    r = open_keys(parsed, c, k, why);
    if (r)
        return r;
    why->text[0] = '\0';
    *ks = parsed;
    *keys = k;
    parsed = NULL;
    k = NULL;
    return 0;
}

/* kek: room for one key in locked memory. */
static int unwrap_into(const struct keystore *ks, const struct keystore_dir *d, master_lookup *lookup,
                       void *arg, uint8_t *kek, struct keyset *out)
{
    struct wrap_what what;
    for (uint32_t i = 0; i < d->count; i++) {
        const struct keystore_dirkey *k = &d->keys[i];
        what = wrap_of_dirkey(ks, d, k);
        out->versions[i].version = k->version;
        int r = lookup(arg, k->master, kek);
        if (!r)
            r = unwrap_key(&what, kek, k->wrapped, sizeof k->wrapped, out->versions[i].key);
        if (r)
            return r;
        if (k->version == d->name_version) {
            what = wrap_of_names(ks, d);
            r = unwrap_key(&what, out->versions[i].key, d->name_wrapped, sizeof d->name_wrapped,
                           out->name_key);
        }
        if (r)
            return r;
    }
    what = wrap_of_journal(ks);
    int r = lookup(arg, ks->journal_master, kek);
    return r ? r : unwrap_key(&what, kek, ks->journal_wrapped, sizeof ks->journal_wrapped, out->journal_key);
}

int keystore_unwrap_dir(const struct keystore *ks, const uint8_t *pd_id, master_lookup *lookup, void *arg,
                        struct keyset **out)
{
    const struct keystore_dir *d = keystore_dir(ks, pd_id);
    if (!d)
        return -ENOENT;
    CLEANUP(keyset_freep) struct keyset *k = keyset_new();
    uint8_t *kek = locked_alloc(LFS_KEY_BYTES);
    int r = k && kek ? unwrap_into(ks, d, lookup, arg, kek, k) : -ENOMEM;
    locked_free(kek);
    if (r)
        return r;
    memcpy(k->volume_id, ks->volume_id, ID_BYTES);
    memcpy(k->pd_id, d->id, ID_BYTES);
    k->suite = ks->suite;
    k->active = keystore_active_dirkey(d)->version;
    k->least = d->least;
    k->count = d->count;
    *out = k;
    k = NULL;
    return 0;
}
