#include "edit.h"

#include "latchfs/err.h"
#include "slot_type.h"
#include "wrap.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

/* The keys of an opened store, and room in locked memory for those that are checked. */
struct verify {
    const struct keystore *ks;
    const struct keystore_keys *keys;
    const struct held_source *held;
    bool tolerant;
    struct verify_secrets {
        struct dir_scratch scratch;
        uint8_t key[LFS_KEY_BYTES], name_key[LFS_KEY_BYTES], pair[64];
    } * mem;
    struct key_why *why;
};

static int lookup(void *arg, uint32_t version, uint8_t key[static LFS_KEY_BYTES])
{
    const struct verify *v = arg;
    for (uint32_t i = 0; i < v->keys->count; i++) {
        if (v->keys->masters[i].version == version) {
            memcpy(key, v->keys->masters[i].key, LFS_KEY_BYTES);
            return 0;
        }
    }
    return LFS_ERR_AUTH;
}

static int verify_signing(struct verify *v)
{
    uint8_t public_key[KEYSTORE_PUBLIC_BYTES] = {0};
    struct wrap_what what = wrap_of_signing(v->ks);
    int r = unwrap_key(&what, v->keys->store_key, v->ks->signing_wrapped, sizeof v->ks->signing_wrapped,
                       v->mem->key);
    if (!r)
        crypto_sign_seed_keypair(public_key, v->mem->pair, v->mem->key);
    if (r || memcmp(public_key, v->ks->signing_public, sizeof public_key) != 0 ||
        sodium_memcmp(v->mem->pair, v->keys->signing_secret, sizeof v->mem->pair) != 0) {
        key_why_set(v->why, "the signing key does not open");
        return LFS_ERR_AUTH;
    }
    return 0;
}

static int verify_master(struct verify *v, const struct keystore_master *m)
{
    struct wrap_what what = wrap_of_master(v->ks, m->version);
    int r = lookup(v, m->version, v->mem->scratch.master);
    if (!r)
        r = unwrap_key(&what, v->keys->store_key, m->wrapped, sizeof m->wrapped, v->mem->key);
    if (r || sodium_memcmp(v->mem->key, v->mem->scratch.master, LFS_KEY_BYTES) != 0) {
        key_why_set(v->why, "version %u of the master key does not open", m->version);
        return LFS_ERR_AUTH;
    }
    return 0;
}

static int verify_journal(struct verify *v)
{
    struct wrap_what what = wrap_of_journal(v->ks);
    int r = lookup(v, v->ks->journal_master, v->mem->scratch.master);
    if (!r)
        r = unwrap_key(&what, v->mem->scratch.master, v->ks->journal_wrapped, sizeof v->ks->journal_wrapped,
                       v->mem->key);
    if (r)
        key_why_set(v->why, "the journal key does not open");
    return r;
}

/* v->mem->key is the directory key that wraps the name key. */
static int verify_names(struct verify *v, const struct keystore_dir *d)
{
    char label[KEYSTORE_LABEL_MAX + 1];
    struct wrap_what what = wrap_of_names(v->ks, d);
    int r = unwrap_key(&what, v->mem->key, d->name_wrapped, sizeof d->name_wrapped, v->mem->name_key);
    if (!r)
        r = label_open(v->ks, d, v->mem->name_key, label);
    return r;
}

static int verify_dirkey(struct verify *v, const struct keystore_dir *d, const struct keystore_dirkey *k)
{
    int r = dirkey_outer(v->ks, d, k, lookup, v, &v->mem->scratch);
    if (r || (d->held && !v->held))
        return r;
    r = dirkey_inner(v->ks, d, k->version, v->held, &v->mem->scratch, v->mem->key);
    if (r == LFS_ERR_NOKEY && v->tolerant)
        return 0;
    return !r && k->version == d->name_version ? verify_names(v, d) : r;
}

static int verify_dir(struct verify *v, const struct keystore_dir *d)
{
    char hex[2 * ID_BYTES + 1];
    for (uint32_t i = 0; i < d->count; i++) {
        const struct keystore_dirkey *k = &d->keys[i];
        int r = k->state == KEY_DESTROYED ? 0 : verify_dirkey(v, d, k);
        if (r) {
            id_to_hex(d->id, hex);
            key_why_set(v->why, "version %u of the keys of directory %s %s", k->version, hex,
                        r == LFS_ERR_NOKEY ? "is held elsewhere" : "does not open");
            return r;
        }
    }
    return 0;
}

static int verify_all(struct verify *v)
{
    int r = verify_signing(v);
    for (uint32_t i = 0; i < v->ks->master_count && !r; i++)
        if (v->ks->masters[i].state != KEY_DESTROYED)
            r = verify_master(v, &v->ks->masters[i]);
    if (!r)
        r = verify_journal(v);
    for (uint32_t i = 0; i < v->ks->dir_count && !r; i++)
        r = verify_dir(v, &v->ks->dirs[i]);
    return r;
}

int store_verify(const struct keystore *ks, const struct keystore_keys *keys, const struct held_source *held,
                 bool tolerant, struct key_why *why)
{
    struct verify v = {.ks = ks, .keys = keys, .held = held, .tolerant = tolerant, .why = why};
    v.mem = locked_alloc(sizeof *v.mem);
    if (!v.mem)
        return -ENOMEM;
    int r = verify_all(&v);
    locked_free(v.mem);
    return r;
}

int keystore_verify(const struct keystore *ks, const struct keystore_keys *keys,
                    const struct held_source *held, struct key_why *why)
{
    why->text[0] = '\0';
    return store_verify(ks, keys, held, false, why);
}
