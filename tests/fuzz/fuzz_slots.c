/* Opening and changing hostile key stores. The text is signed anew first, as by somebody who knows the
 * signing key, so that all behind the signature is reached. Whatever opens either refuses an edit or gives a
 * text that opens again. Passphrases are left out: even the floor of Argon2id takes too long here. */
#include "latchfs/keyslots.h"

#include "keystore_full_vector.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct text {
    char *p;
    size_t len;
};

static const struct {
    enum credential_type type;
    const uint8_t *secret;
    size_t len;
} ways[] = {{CRED_RECIPIENT, full_recipient, sizeof full_recipient},
            {CRED_KEYFILE, full_key_file, sizeof full_key_file},
            {CRED_COMMAND, full_command_secret, sizeof full_command_secret}};

static int find_held(void *arg, const uint8_t volume_id[static ID_BYTES], const uint8_t pd[static ID_BYTES],
                     uint32_t version, uint8_t wrapped[static KEYSTORE_WRAPPED_BYTES])
{
    if (version != 1)
        return -ENOENT;
    memcpy(wrapped, full_held_blob_1, KEYSTORE_WRAPPED_BYTES);
    return 0;
}

static const struct held_source held = {find_held, NULL};

static int sign_anew(const uint8_t *data, size_t size, struct text *out)
{
    uint8_t public_key[32], secret_key[64];
    struct keystore *ks;
    int r = keystore_parse((const char *)data, size, &ks, NULL);
    if (r)
        return r;
    crypto_sign_seed_keypair(public_key, secret_key, full_signing_seed);
    memcpy(ks->signing_public, public_key, sizeof public_key);
    r = keystore_encode_signed(ks, secret_key, &out->p, &out->len);
    keystore_free(ks);
    return r;
}

static void look_at_dirs(const struct keystore *ks, struct keystore_keys *keys)
{
    char label[KEYSTORE_LABEL_MAX + 1];
    for (uint32_t i = 0; i < ks->dir_count; i++) {
        struct keyset *set = NULL;
        const uint8_t *pd = ks->dirs[i].id;
        if (keystore_unwrap_dir(ks, pd, keystore_keys_lookup, keys, &held, &set))
            continue;
        if (set->count < 1 || set->count > KEYSET_VERSIONS_MAX || set->active < set->least)
            abort();
        if (keystore_dir_label(ks, pd, set, label) == 0 && label[0] && !keystore_label_ok(label))
            abort();
        keyset_free(set);
    }
}

/* What the edit is about depends on every byte of the input. */
static struct key_edit choose(const struct keystore *ks, uint8_t op, const uint8_t *data, size_t size)
{
    uint8_t pick[crypto_generichash_BYTES_MIN];
    crypto_generichash(pick, sizeof pick, data, size, &op, sizeof op);
    struct key_edit e = {.op = op,
                         .number = pick[1] % 5,
                         .force = pick[2] & 1,
                         .label = pick[2] & 2 ? "name" : NULL,
                         .held = pick[2] & 4};
    e.fresh = (struct credential){.type = CRED_RECIPIENT, .public_key = full_store_key};
    memcpy(e.pd, ks->dirs[pick[3] % ks->dir_count].id, ID_BYTES);
    return e;
}

static void change(struct keystore *ks, struct keystore_keys *keys, const struct credential *c,
                   const struct key_edit *e)
{
    struct key_why why;
    struct key_edit_result result = {0};
    struct held_blobs fresh = {0};
    struct text t = {0};
    bool last = ks->slot_count == 1;
    if (keystore_edit(ks, keys, e, 1, &held, &t.p, &t.len, &result, &fresh, &why))
        return;
    struct keystore *ks2 = NULL;
    struct keystore_keys *keys2 = NULL;
    int r = keystore_open(t.p, t.len, c, &ks2, &keys2, &why);
    bool lost =
        e->op == EDIT_SLOT_REPLACE || (e->op == EDIT_SLOT_REMOVE && (last || e->number == keys->slot_id));
    if (r ? !lost : ks2->generation != ks->generation || keystore_verify(ks2, keys2, NULL, &why) != 0)
        abort();
    key_edit_result_clear(&result);
    keystore_free(ks2);
    keystore_keys_free(keys2);
    free(t.p);
}

static bool look_and_change(const struct text *t, const struct credential *c, uint8_t op, const uint8_t *data,
                            size_t size)
{
    struct key_why why;
    struct keystore *ks = NULL;
    struct keystore_keys *keys = NULL;
    if (keystore_open(t->p, t->len, c, &ks, &keys, &why))
        return false;
    struct key_edit e = choose(ks, op, data, size);
    if (op == 1)
        look_at_dirs(ks, keys);
    change(ks, keys, c, &e);
    keystore_free(ks);
    keystore_keys_free(keys);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct text t = {0};
    if (sign_anew(data, size, &t))
        return 0;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        struct secret *s = secret_new_copy(ways[i].secret, ways[i].len);
        struct credential c = {.type = ways[i].type, .secret = s};
        for (uint8_t op = 1; s && op <= EDIT_OP_MAX && look_and_change(&t, &c, op, data, size); op++)
            ;
        secret_free(s);
    }
    free(t.p);
    return 0;
}
