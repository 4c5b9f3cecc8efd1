#include "slot.h"

#include "latchfs/err.h"
#include "recovery.h"
#include "wrap.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SEALED_PLAIN 64u /* private key | public signing key */

int label_set(char to[static KEYSTORE_LABEL_MAX + 1], const char *label, struct key_why *why)
{
    if (label && label[0] && !keystore_label_ok(label)) {
        key_why_set(why, "a label has 1 to %u letters, digits, spaces and . _ @ + -", KEYSTORE_LABEL_MAX);
        return LFS_ERR_DENIED;
    }
    memset(to, 0, KEYSTORE_LABEL_MAX + 1);
    if (label)
        snprintf(to, KEYSTORE_LABEL_MAX + 1, "%s", label);
    return 0;
}

int slot_seal_store_key(struct keystore_slot *s, const uint8_t store_key[static LFS_KEY_BYTES])
{
    return crypto_box_seal(s->store_key, store_key, LFS_KEY_BYTES, s->public_key) ? LFS_ERR_MISUSE : 0;
}

/* s has its parameters. mem: LFS_KEY_BYTES + SEALED_PLAIN of locked memory. */
static int seal_pair(const struct keystore *ks, struct keystore_slot *s, const struct slot_type *t,
                     const struct secret *secret, uint8_t *mem, struct key_why *why)
{
    uint8_t *kek = mem, *plain = mem + LFS_KEY_BYTES;
    randombytes_buf(s->salt, sizeof s->salt);
    int r = t->derive(s, secret, kek, why);
    if (r)
        return r;
    crypto_box_keypair(s->public_key, plain);
    memcpy(plain + 32, ks->signing_public, KEYSTORE_PUBLIC_BYTES);
    struct wrap_what what = wrap_of_slot(ks, s);
    return wrap_key(&what, kek, plain, SEALED_PLAIN, s->sealed);
}

/* Nobody is to open two slots with one key: taking one of them away would do nothing. */
static int check_public(const struct keystore *ks, const struct keystore_slot *s, struct key_why *why)
{
    for (uint32_t i = 0; i < ks->slot_count; i++) {
        const struct keystore_slot *other = &ks->slots[i];
        if (other->id != s->id && memcmp(other->public_key, s->public_key, sizeof s->public_key) == 0) {
            key_why_set(why, "slot %u has this public key already", other->id);
            return LFS_ERR_DENIED;
        }
    }
    return 0;
}

static int fill_slot(const struct keystore *ks, struct keystore_slot *s, const struct slot_make *m,
                     const uint8_t store_key[static LFS_KEY_BYTES], const struct secret *secret,
                     struct key_why *why)
{
    const struct slot_type *t = slot_type_find(m->c.type);
    if (!t || (t->derive && !secret))
        return LFS_ERR_MISUSE;
    s->type = t->type;
    s->created = (uint64_t)time(NULL);
    int r = t->prepare(s, m, secret, why);
    uint8_t *mem = r || !t->derive ? NULL : locked_alloc(LFS_KEY_BYTES + SEALED_PLAIN);
    if (!r && t->derive)
        r = mem ? seal_pair(ks, s, t, secret, mem, why) : -ENOMEM;
    locked_free(mem);
    if (!r)
        r = check_public(ks, s, why);
    if (!r && slot_seal_store_key(s, store_key)) {
        key_why_set(why, "this is not a public key that anything can be sealed to");
        r = LFS_ERR_DENIED;
    }
    return r;
}

static struct secret *new_recovery(void)
{
    struct secret *key = secret_new_random(LFS_KEY_BYTES);
    struct secret *text = key ? recovery_format(secret_const(key)) : NULL;
    secret_free(key);
    return text;
}

/* fill_slot with a key of its own where one is to be made. */
static int make_slot(const struct keystore *ks, struct keystore_slot *s, const struct slot_make *m,
                     const uint8_t store_key[static LFS_KEY_BYTES], struct secret **recovery,
                     struct key_why *why)
{
    bool make = m->c.type == CRED_RECOVERY && !m->c.secret;
    struct secret *made = make ? new_recovery() : NULL;
    if (make && !made)
        return -ENOMEM;
    int r = fill_slot(ks, s, m, store_key, make ? made : m->c.secret, why);
    if (r) {
        free(s->blob);
        secret_free(made);
    } else if (made) {
        *recovery = made;
    }
    return r;
}

int slot_append(struct keystore *ks, const struct slot_make *m, const uint8_t store_key[static LFS_KEY_BYTES],
                struct secret **recovery, struct key_why *why)
{
    if (ks->slot_count == KEYSTORE_SLOTS_MAX || ks->next_slot > KEYSTORE_SLOT_ID_MAX) {
        key_why_set(why, "the key store has no room for another slot");
        return -ENOSPC;
    }
    struct keystore_slot s = {.id = ks->next_slot};
    int r = label_set(s.label, m->label, why);
    if (!r)
        r = make_slot(ks, &s, m, store_key, recovery, why);
    if (r)
        return r;
    ks->slots[ks->slot_count++] = s;
    ks->next_slot++;
    return 0;
}

int slot_replace(struct keystore *ks, uint32_t at, const struct slot_make *m,
                 const uint8_t store_key[static LFS_KEY_BYTES], struct secret **recovery, struct key_why *why)
{
    struct keystore_slot s = {.id = ks->slots[at].id};
    memcpy(s.label, ks->slots[at].label, sizeof s.label);
    int r = make_slot(ks, &s, m, store_key, recovery, why);
    if (r)
        return r;
    free(ks->slots[at].blob);
    ks->slots[at] = s;
    return 0;
}

/* out has the private key. */
static int open_box(const struct keystore_slot *s, struct slot_opened *out)
{
    return crypto_box_seal_open(out->store_key, s->store_key, sizeof s->store_key, s->public_key,
                                out->private_key)
               ? LFS_ERR_AUTH
               : 0;
}

static bool pair_fits(const struct keystore_slot *s, const uint8_t private_key[static 32])
{
    uint8_t public_key[KEYSTORE_PUBLIC_BYTES];
    crypto_scalarmult_base(public_key, private_key);
    return memcmp(public_key, s->public_key, sizeof public_key) == 0;
}

static int open_recipient(const struct keystore_slot *s, const struct secret *secret, struct slot_opened *out)
{
    if (secret_len(secret) != sizeof out->private_key || !pair_fits(s, secret_const(secret)))
        return LFS_ERR_PASSPHRASE;
    memcpy(out->private_key, secret_const(secret), sizeof out->private_key);
    out->knows_signer = false;
    return open_box(s, out);
}

int slot_open(const struct keystore *ks, const struct keystore_slot *s, const struct secret *secret,
              struct slot_opened *out, struct key_why *why)
{
    const struct slot_type *t = slot_type_find(s->type);
    if (!t)
        return LFS_ERR_UNSUPPORTED;
    if (!t->derive)
        return open_recipient(s, secret, out);
    uint8_t *mem = locked_alloc(LFS_KEY_BYTES + SEALED_PLAIN);
    if (!mem)
        return -ENOMEM;
    struct wrap_what what = wrap_of_slot(ks, s);
    int r = t->derive(s, secret, mem, why);
    if (!r && unwrap_key(&what, mem, s->sealed, sizeof s->sealed, mem + LFS_KEY_BYTES))
        r = LFS_ERR_PASSPHRASE;
    if (!r) {
        memcpy(out->private_key, mem + LFS_KEY_BYTES, 32);
        memcpy(out->signing_public, mem + LFS_KEY_BYTES + 32, KEYSTORE_PUBLIC_BYTES);
        out->knows_signer = true;
        r = pair_fits(s, out->private_key) ? open_box(s, out) : LFS_ERR_AUTH;
    }
    locked_free(mem);
    return r;
}
