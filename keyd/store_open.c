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

/* Whether c may open it at all. */
static bool is_meant(const struct keystore_slot *s, const struct credential *c)
{
    return s->type == (uint8_t)c->type && (c->slot == 0 || s->id == c->slot);
}

static void explain_none(const struct keystore *ks, const struct credential *c, struct key_why *why)
{
    const char *type = keystore_slot_type_name(c->type);
    const struct keystore_slot *s = c->slot ? keystore_slot(ks, c->slot) : NULL;
    if (c->slot && !s)
        key_why_set(why, "the volume has no slot %u", c->slot);
    else if (s)
        key_why_set(why, "slot %u is of type %s, not %s", s->id, keystore_slot_type_name(s->type), type);
    else
        key_why_set(why, "the volume has no slot of type %s", type);
}

/* The slot that is meant, or every slot of the credential's type. */
static int find_slot(const struct keystore *ks, const struct credential *c, struct slot_opened *o,
                     unsigned *slot_id, struct key_why *why)
{
    bool any = false;
    for (uint32_t i = 0; i < ks->slot_count; i++) {
        const struct keystore_slot *s = &ks->slots[i];
        if (!is_meant(s, c))
            continue;
        any = true;
        int r = slot_open(ks, s, c->secret, o, why);
        *slot_id = s->id;
        if (r != LFS_ERR_PASSPHRASE)
            return r;
    }
    if (!any)
        explain_none(ks, c, why);
    return LFS_ERR_PASSPHRASE;
}

/* The text is signed by ks->signing_public (parse); whose key that is, the slot tells, or who opens it. */
static int check_signer(const struct keystore *ks, const struct credential *c, const struct slot_opened *o,
                        struct key_why *why)
{
    bool slot_says =
        !o->knows_signer || memcmp(o->signing_public, ks->signing_public, KEYSTORE_PUBLIC_BYTES) == 0;
    bool opener_says =
        !c->signing_public || memcmp(c->signing_public, ks->signing_public, KEYSTORE_PUBLIC_BYTES) == 0;
    if (slot_says && opener_says)
        return 0;
    key_why_set(why, "%s is signed with a key that is not %s", KEYSTORE_NAME,
                slot_says ? "the expected one" : "this volume's");
    return LFS_ERR_AUTH;
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
        if (m->state == KEY_DESTROYED)
            continue;
        what = wrap_of_master(ks, m->version);
        k->masters[k->count].version = m->version;
        r = unwrap_key(&what, k->store_key, m->wrapped, sizeof m->wrapped, k->masters[k->count++].key);
    }
    return r;
}

static int open_keys(const struct keystore *ks, const struct credential *c, struct keystore_keys *k,
                     struct key_why *why)
{
    struct slot_opened *o = locked_alloc(sizeof *o);
    if (!o)
        return -ENOMEM;
    int r = find_slot(ks, c, o, &k->slot_id, why);
    if (!r)
        r = check_signer(ks, c, o, why);
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
