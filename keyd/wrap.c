#include "wrap.h"

#include "latchfs/buf.h"
#include "latchfs/keywrap.h"

#include <string.h>

static void encode_ad(const struct wrap_what *w, uint8_t ad[static WRAP_AD_BYTES])
{
    struct wcur c = wcur_over(ad, WRAP_AD_BYTES);
    size_t n = strlen(w->kind);
    wcur_bytes(&c, w->kind, n);
    wcur_zeros(&c, 16 - n);
    wcur_bytes(&c, w->volume, ID_BYTES);
    if (w->dir)
        wcur_bytes(&c, w->dir, ID_BYTES);
    else
        wcur_zeros(&c, ID_BYTES);
    wcur_u32(&c, w->version);
    wcur_u32(&c, w->wrapped_by);
}

int wrap_key(const struct wrap_what *w, const uint8_t kek[static LFS_KEY_BYTES], const uint8_t *key,
             size_t len, uint8_t *blob)
{
    uint8_t ad[WRAP_AD_BYTES];
    encode_ad(w, ad);
    return keywrap_seal(kek, ad, sizeof ad, key, len, blob);
}

int unwrap_key(const struct wrap_what *w, const uint8_t kek[static LFS_KEY_BYTES], const uint8_t *blob,
               size_t blob_len, uint8_t *key)
{
    uint8_t ad[WRAP_AD_BYTES];
    encode_ad(w, ad);
    return keywrap_open(kek, ad, sizeof ad, blob, blob_len, key);
}

struct wrap_what wrap_of_slot(const struct keystore *ks, const struct keystore_slot *s)
{
    return (struct wrap_what){"slot-key", ks->volume_id, NULL, s->id, s->type};
}

struct wrap_what wrap_of_signing(const struct keystore *ks)
{
    return (struct wrap_what){"signing-key", ks->volume_id, NULL, 1, 0};
}

struct wrap_what wrap_of_master(const struct keystore *ks, uint32_t version)
{
    return (struct wrap_what){"master-key", ks->volume_id, NULL, version, 0};
}

struct wrap_what wrap_of_journal(const struct keystore *ks)
{
    return (struct wrap_what){"journal-key", ks->volume_id, NULL, 1, ks->journal_master};
}

struct wrap_what wrap_of_dirkey(const struct keystore *ks, const struct keystore_dir *d,
                                const struct keystore_dirkey *k)
{
    return (struct wrap_what){d->held ? "held-key" : "directory-key", ks->volume_id, d->id, k->version,
                              k->master};
}

struct wrap_what wrap_of_held(const struct keystore *ks, const struct keystore_dir *d, uint32_t version)
{
    return (struct wrap_what){"held-blob", ks->volume_id, d->id, version, version};
}

struct wrap_what wrap_of_label(const struct keystore *ks, const struct keystore_dir *d)
{
    return (struct wrap_what){"directory-name", ks->volume_id, d->id, 1, 1};
}

struct wrap_what wrap_of_names(const struct keystore *ks, const struct keystore_dir *d)
{
    return (struct wrap_what){"name-key", ks->volume_id, d->id, 1, d->name_version};
}
