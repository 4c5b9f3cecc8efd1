#include "store_dir.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/name.h"
#include "wrap.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#define LABEL_PLAIN (KEYSTORE_LABEL_MAX + 1) /* length u8 | name, zeros behind it */
_Static_assert(KEYSTORE_NAME_WRAPPED_BYTES == LABEL_PLAIN + 40, "keywrap of a name");

/* ---- directory keys ---- */

int dirkey_outer(const struct keystore *ks, const struct keystore_dir *d, const struct keystore_dirkey *k,
                 master_lookup *lookup, void *arg, struct dir_scratch *t)
{
    struct wrap_what what = wrap_of_dirkey(ks, d, k);
    int r = lookup(arg, k->master, t->master);
    return r ? r : unwrap_key(&what, t->master, k->wrapped, sizeof k->wrapped, t->outer);
}

int dirkey_inner(const struct keystore *ks, const struct keystore_dir *d, uint32_t version,
                 const struct held_source *held, const struct dir_scratch *t,
                 uint8_t key[static LFS_KEY_BYTES])
{
    uint8_t blob[KEYSTORE_WRAPPED_BYTES];
    if (!d->held) {
        memcpy(key, t->outer, LFS_KEY_BYTES);
        return 0;
    }
    int r = held && held->find ? held->find(held->arg, ks->volume_id, d->id, version, blob) : -ENOENT;
    if (r)
        return r == -ENOENT ? LFS_ERR_NOKEY : r;
    struct wrap_what what = wrap_of_held(ks, d, version);
    return unwrap_key(&what, t->outer, blob, sizeof blob, key);
}

int dirkey_open(const struct keystore *ks, const struct keystore_dir *d, const struct keystore_dirkey *k,
                master_lookup *lookup, void *arg, const struct held_source *held, struct dir_scratch *t,
                uint8_t key[static LFS_KEY_BYTES])
{
    int r = dirkey_outer(ks, d, k, lookup, arg, t);
    return r ? r : dirkey_inner(ks, d, k->version, held, t, key);
}

/* ---- names ---- */

/* mem: LFS_KEY_BYTES for the key, LABEL_PLAIN behind it. */
static void label_key(const uint8_t name_key[static LFS_KEY_BYTES], uint8_t *mem)
{
    crypto_kdf_derive_from_key(mem, LFS_KEY_BYTES, NAME_SUB_LABEL, "latchfsN", name_key);
}

int label_seal(const struct keystore *ks, struct keystore_dir *d,
               const uint8_t name_key[static LFS_KEY_BYTES], const char *label)
{
    size_t len = strlen(label);
    uint8_t *mem = locked_alloc(LFS_KEY_BYTES + LABEL_PLAIN);
    if (!mem)
        return -ENOMEM;
    uint8_t *plain = mem + LFS_KEY_BYTES;
    label_key(name_key, mem);
    plain[0] = (uint8_t)len;
    memcpy(plain + 1, label, len);
    struct wrap_what what = wrap_of_label(ks, d);
    int r = wrap_key(&what, mem, plain, LABEL_PLAIN, d->label_wrapped);
    d->named = !r;
    locked_free(mem);
    return r;
}

static int read_label(const uint8_t plain[static LABEL_PLAIN], char label[static KEYSTORE_LABEL_MAX + 1])
{
    char text[KEYSTORE_LABEL_MAX + 1] = {0};
    struct rcur c = rcur_over(plain, LABEL_PLAIN);
    size_t len = rcur_u8(&c);
    if (len > KEYSTORE_LABEL_MAX)
        return LFS_ERR_CORRUPT;
    rcur_bytes(&c, text, len);
    if (!rcur_zeros(&c, KEYSTORE_LABEL_MAX - len) || strlen(text) != len || !keystore_label_ok(text))
        return LFS_ERR_CORRUPT;
    memcpy(label, text, sizeof text);
    return 0;
}

int label_open(const struct keystore *ks, const struct keystore_dir *d,
               const uint8_t name_key[static LFS_KEY_BYTES], char label[static KEYSTORE_LABEL_MAX + 1])
{
    if (!d->named) {
        label[0] = '\0';
        return 0;
    }
    uint8_t *mem = locked_alloc(LFS_KEY_BYTES + LABEL_PLAIN);
    if (!mem)
        return -ENOMEM;
    label_key(name_key, mem);
    struct wrap_what what = wrap_of_label(ks, d);
    int r = unwrap_key(&what, mem, d->label_wrapped, sizeof d->label_wrapped, mem + LFS_KEY_BYTES);
    if (!r)
        r = read_label(mem + LFS_KEY_BYTES, label);
    locked_free(mem);
    return r;
}

int keystore_dir_label(const struct keystore *ks, const uint8_t *pd_id, const struct keyset *keys,
                       char label[static KEYSTORE_LABEL_MAX + 1])
{
    const struct keystore_dir *d = keystore_dir(ks, pd_id);
    if (!d)
        return -ENOENT;
    if (d->shredded)
        return LFS_ERR_NOKEY;
    return label_open(ks, d, keys->name_key, label);
}

/* ---- for a mount ---- */

/* Headers may still have it, or get it. */
static bool wanted(const struct keystore_dir *d, const struct keystore_dirkey *k)
{
    return k->state != KEY_DESTROYED && (k->state != KEY_RETIRED || k->version >= d->least);
}

static int unwrap_names(const struct keystore *ks, const struct keystore_dir *d, const uint8_t *key,
                        struct keyset *out)
{
    struct wrap_what what = wrap_of_names(ks, d);
    return unwrap_key(&what, key, d->name_wrapped, sizeof d->name_wrapped, out->name_key);
}

static int unwrap_into(const struct keystore *ks, const struct keystore_dir *d, master_lookup *lookup,
                       void *arg, const struct held_source *held, struct dir_scratch *t, struct keyset *out)
{
    int r = 0;
    for (uint32_t i = 0; i < d->count && !r; i++) {
        const struct keystore_dirkey *k = &d->keys[i];
        bool names = k->version == d->name_version;
        if (!wanted(d, k) && !names)
            continue;
        uint8_t *key = out->versions[out->count].key;
        r = dirkey_open(ks, d, k, lookup, arg, held, t, key);
        if (!r && names)
            r = unwrap_names(ks, d, key, out);
        out->versions[out->count].version = k->version;
        if (wanted(d, k))
            out->count++;
        else
            sodium_memzero(&out->versions[out->count], sizeof out->versions[0]);
    }
    struct wrap_what what = wrap_of_journal(ks);
    if (!r)
        r = lookup(arg, ks->journal_master, t->master);
    return r ? r
             : unwrap_key(&what, t->master, ks->journal_wrapped, sizeof ks->journal_wrapped,
                          out->journal_key);
}

int keystore_unwrap_dir(const struct keystore *ks, const uint8_t *pd_id, master_lookup *lookup, void *arg,
                        const struct held_source *held, struct keyset **out)
{
    const struct keystore_dir *d = keystore_dir(ks, pd_id);
    if (!d)
        return -ENOENT;
    if (d->shredded)
        return LFS_ERR_NOKEY;
    CLEANUP(keyset_freep) struct keyset *k = keyset_new();
    struct dir_scratch *t = locked_alloc(sizeof *t);
    int r = k && t ? unwrap_into(ks, d, lookup, arg, held, t, k) : -ENOMEM;
    locked_free(t);
    if (r)
        return r;
    memcpy(k->volume_id, ks->volume_id, ID_BYTES);
    memcpy(k->pd_id, d->id, ID_BYTES);
    k->suite = ks->suite;
    k->active = keystore_active_dirkey(d)->version;
    k->least = d->least;
    *out = k;
    k = NULL;
    return 0;
}
