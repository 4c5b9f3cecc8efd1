#include "latchfs/keyslots.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "slot.h"
#include "slot_type.h"
#include "wrap.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <time.h>

/* Wraps a fresh random key; the same memory serves one after another. */
static int wrap_fresh(const struct wrap_what *w, const uint8_t kek[static LFS_KEY_BYTES], uint8_t *key,
                      uint8_t blob[static KEYSTORE_WRAPPED_BYTES])
{
    randombytes_buf(key, LFS_KEY_BYTES);
    return wrap_key(w, kek, key, LFS_KEY_BYTES, blob);
}

/* Wraps the signing key and every master key by k->store_key. */
static int wrap_by_store_key(struct keystore *ks, const struct keystore_keys *k)
{
    struct wrap_what what = wrap_of_signing(ks);
    int r = wrap_key(&what, k->store_key, k->signing_secret, LFS_KEY_BYTES, ks->signing_wrapped);
    for (uint32_t i = 0; i < ks->master_count && !r; i++) {
        what = wrap_of_master(ks, ks->masters[i].version);
        r = wrap_key(&what, k->store_key, k->masters[i].key, LFS_KEY_BYTES, ks->masters[i].wrapped);
    }
    return r;
}

static int make_root(struct keystore *ks, const struct keystore_keys *k, uint8_t *dir_key, uint8_t *other)
{
    struct keystore_dir *d = keystore_add_dir(ks);
    if (!d)
        return -ENOMEM;
    memcpy(d->id, ks->root_id, ID_BYTES);
    d->created = ks->created;
    d->least = d->name_version = d->count = 1;
    d->keys[0] =
        (struct keystore_dirkey){.version = 1, .state = KEY_ACTIVE, .master = 1, .created = ks->created};
    struct wrap_what dirkey = wrap_of_dirkey(ks, d, &d->keys[0]), names = wrap_of_names(ks, d);
    struct wrap_what journal = wrap_of_journal(ks);
    int r = wrap_fresh(&dirkey, k->masters[0].key, dir_key, d->keys[0].wrapped);
    if (!r)
        r = wrap_fresh(&names, dir_key, other, d->name_wrapped);
    return r ? r : wrap_fresh(&journal, k->masters[0].key, other, ks->journal_wrapped);
}

static void begin(struct keystore *ks, struct keystore_keys *k, uint8_t suite)
{
    ks->format = FORMAT_VERSION;
    ks->suite = suite;
    ks->created = (uint64_t)time(NULL);
    ks->generation = ks->next_slot = ks->journal_master = 1;
    randombytes_buf(ks->volume_id, ID_BYTES);
    randombytes_buf(ks->root_id, ID_BYTES);
    crypto_sign_keypair(ks->signing_public, k->signing_secret);
    randombytes_buf(k->store_key, LFS_KEY_BYTES);
    ks->master_count = k->count = 1;
    ks->masters[0] = (struct keystore_master){.version = 1, .state = KEY_ACTIVE, .created = ks->created};
    k->masters[0].version = 1;
    randombytes_buf(k->masters[0].key, LFS_KEY_BYTES);
}

static int make_slots(struct keystore *ks, const struct keystore_keys *k, const struct keystore_init *in,
                      unsigned kdf_ms, struct secret **recovery, struct key_why *why)
{
    struct slot_make first = {.c = in->first, .label = in->label, .fast = in->fast_kdf, .kdf_ms = kdf_ms};
    struct slot_make rescue = {.c = {.type = CRED_RECOVERY}};
    if (!in->first.secret)
        return LFS_ERR_MISUSE;
    int r = slot_append(ks, &first, k->store_key, recovery, why);
    if (!r && in->recovery)
        r = slot_append(ks, &rescue, k->store_key, recovery, why);
    return r;
}

int keystore_make(const struct keystore_init *in, unsigned kdf_ms, char **ini, size_t *len,
                  struct secret **recovery, struct key_why *why)
{
    CLEANUP(keystore_freep) struct keystore *ks = keystore_new();
    CLEANUP(keystore_keys_freep) struct keystore_keys *k = locked_alloc(sizeof *k);
    CLEANUP(secret_freep) struct secret *scratch = secret_new(2 * LFS_KEY_BYTES), *made = NULL;
    why->text[0] = '\0';
    if (!ks || !k || !scratch)
        return -ENOMEM;
    begin(ks, k, in->suite);
    int r = make_root(ks, k, secret_bytes(scratch), secret_bytes(scratch) + LFS_KEY_BYTES);
    if (!r)
        r = wrap_by_store_key(ks, k);
    if (!r)
        r = make_slots(ks, k, in, kdf_ms, &made, why);
    if (!r)
        r = keystore_encode_signed(ks, k->signing_secret, ini, len);
    if (r)
        return r;
    if (in->recovery) {
        *recovery = made;
        made = NULL;
    }
    return 0;
}

static int finish(struct keystore *ks, const struct keystore_keys *k, char **ini, size_t *len)
{
    ks->generation++;
    return keystore_encode_signed(ks, k->signing_secret, ini, len);
}

int keystore_slot_add(struct keystore *ks, const struct keystore_keys *keys, const struct slot_add *a,
                      unsigned kdf_ms, char **ini, size_t *len, unsigned *slot_id, struct secret **recovery,
                      struct key_why *why)
{
    struct slot_make m = {.c = a->fresh, .label = a->label, .fast = a->fast_kdf, .kdf_ms = kdf_ms};
    CLEANUP(secret_freep) struct secret *made = NULL;
    unsigned id = ks->next_slot;
    why->text[0] = '\0';
    int r = slot_append(ks, &m, keys->store_key, &made, why);
    if (!r)
        r = finish(ks, keys, ini, len);
    if (r)
        return r;
    *slot_id = id;
    if (made) {
        *recovery = made;
        made = NULL;
    }
    return 0;
}

int keystore_slot_remove(struct keystore *ks, const struct keystore_keys *keys, unsigned slot_id, char **ini,
                         size_t *len, struct key_why *why)
{
    const struct keystore_slot *s = keystore_slot(ks, slot_id);
    why->text[0] = '\0';
    if (!s) {
        key_why_set(why, "the volume has no slot %u", slot_id);
        return -ENOENT;
    }
    if (ks->slot_count == 1) {
        key_why_set(why, "slot %u is the last one: without it nobody could open the volume", slot_id);
        return LFS_ERR_DENIED;
    }
    uint32_t at = (uint32_t)(s - ks->slots);
    ks->slot_count--;
    memmove(&ks->slots[at], &ks->slots[at + 1], (ks->slot_count - at) * sizeof ks->slots[0]);
    CLEANUP(keystore_keys_freep) struct keystore_keys *fresh = locked_alloc(sizeof *fresh);
    if (!fresh)
        return -ENOMEM;
    memcpy(fresh, keys, sizeof *fresh);
    randombytes_buf(fresh->store_key, LFS_KEY_BYTES);
    int r = wrap_by_store_key(ks, fresh);
    for (uint32_t i = 0; i < ks->slot_count && !r; i++)
        r = slot_seal_store_key(&ks->slots[i], fresh->store_key);
    return r ? r : finish(ks, fresh, ini, len);
}
