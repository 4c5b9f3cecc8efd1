#include "fs/view/derive.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"

#include <sodium.h>
#include <string.h>

#define CONTEXT "latchfsV"
#define KIND_WRAP 6 /* beside enum content_kind, in nonces only */

int view_keys_derive(const struct keyset *set, struct view_keys *out)
{
    bool found = false;
    for (uint32_t i = 0; i < set->count && !found; i++) {
        found = set->versions[i].version == set->active;
        if (found)
            memcpy(out->dir_key, set->versions[i].key, LFS_KEY_BYTES);
    }
    if (!found)
        return LFS_ERR_MISUSE;
    name_keys_derive(set->name_key, &out->names);
    journal_keys_derive(set->journal_key, &out->journal);
    crypto_kdf_derive_from_key(out->ids, LFS_KEY_BYTES, VIEW_SUB_IDS, CONTEXT, set->name_key);
    crypto_kdf_derive_from_key(out->files, LFS_KEY_BYTES, VIEW_SUB_FILES, CONTEXT, set->name_key);
    crypto_kdf_derive_from_key(out->nonces, LFS_KEY_BYTES, VIEW_SUB_NONCES, CONTEXT, set->name_key);
    out->dir_version = set->active;
    out->suite = set->suite;
    memcpy(out->volume_id, set->volume_id, ID_BYTES);
    memcpy(out->pd_id, set->pd_id, ID_BYTES);
    return 0;
}

void view_id(const struct view_keys *k, enum view_id kind, const uint8_t parent[static ID_BYTES],
             const char *name, uint8_t id[static ID_BYTES])
{
    crypto_generichash_state st;
    const uint8_t number = (uint8_t)kind;
    crypto_generichash_init(&st, k->ids, LFS_KEY_BYTES, ID_BYTES);
    crypto_generichash_update(&st, &number, 1);
    crypto_generichash_update(&st, parent, ID_BYTES);
    crypto_generichash_update(&st, (const uint8_t *)name, strlen(name));
    crypto_generichash_final(&st, id, ID_BYTES);
    sodium_memzero(&st, sizeof st);
}

void view_file_key(const struct view_keys *k, const uint8_t file_id[static ID_BYTES],
                   uint8_t key[static LFS_KEY_BYTES])
{
    crypto_generichash(key, LFS_KEY_BYTES, file_id, ID_BYTES, k->files, LFS_KEY_BYTES);
}

/* The head of every hashed message has one length, so that no two messages look alike. */
static void begin(crypto_generichash_state *st, const struct view_keys *k, uint8_t kind, const uint8_t *id,
                  uint64_t number)
{
    uint8_t head[1 + ID_BYTES + 8];
    struct wcur w = wcur_over(head, sizeof head);
    wcur_u8(&w, kind);
    wcur_bytes(&w, id, ID_BYTES);
    wcur_u64(&w, number);
    crypto_generichash_init(st, k->nonces, LFS_KEY_BYTES, 32);
    crypto_generichash_update(st, head, sizeof head);
}

static void end(crypto_generichash_state *st, uint8_t *nonce, size_t len)
{
    uint8_t hash[32];
    crypto_generichash_final(st, hash, sizeof hash);
    memcpy(nonce, hash, len);
    sodium_memzero(st, sizeof *st);
}

void view_nonce(const struct view_keys *k, uint8_t kind, const uint8_t id[static ID_BYTES], uint64_t number,
                const char *name, const void *plain, size_t len, uint8_t nonce[static NONCE_BYTES])
{
    crypto_generichash_state st;
    begin(&st, k, kind, id, number);
    if (name)
        crypto_generichash_update(&st, (const uint8_t *)name, strlen(name));
    crypto_generichash_update(&st, plain, len);
    end(&st, nonce, NONCE_BYTES);
}

void view_wrap_nonce(const struct view_keys *k, const uint8_t file_id[static ID_BYTES],
                     const uint8_t file_key[static LFS_KEY_BYTES], uint8_t nonce[static KEYWRAP_NONCE_BYTES])
{
    crypto_generichash_state st;
    begin(&st, k, KIND_WRAP, file_id, k->dir_version);
    crypto_generichash_update(&st, file_key, LFS_KEY_BYTES);
    end(&st, nonce, KEYWRAP_NONCE_BYTES);
}
