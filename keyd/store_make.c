#include "latchfs/keyslots.h"

#include "edit.h"
#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "slot.h"
#include "wrap.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <time.h>

int wrap_fresh(const struct wrap_what *w, const uint8_t kek[static LFS_KEY_BYTES], uint8_t *key,
               uint8_t blob[static KEYSTORE_WRAPPED_BYTES])
{
    randombytes_buf(key, LFS_KEY_BYTES);
    return wrap_key(w, kek, key, LFS_KEY_BYTES, blob);
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
    if (!in->first.secret && in->first.type != CRED_RECIPIENT)
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
        r = label_set(ks->environment, in->environment, why);
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
