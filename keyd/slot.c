#include "slot.h"

#include "latchfs/err.h"
#include "recovery.h"
#include "slot_type.h"
#include "wrap.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define SEALED_PLAIN 64u /* private key | public signing key */

int slot_seal_store_key(struct keystore_slot *s, const uint8_t store_key[static LFS_KEY_BYTES])
{
    return crypto_box_seal(s->store_key, store_key, LFS_KEY_BYTES, s->public_key) ? LFS_ERR_MISUSE : 0;
}

/* s has its parameters. mem: LFS_KEY_BYTES + SEALED_PLAIN of locked memory. */
static int seal_pair(const struct keystore *ks, struct keystore_slot *s, const struct slot_type *t,
                     const struct secret *secret, uint8_t *mem, struct key_why *why)
{
    uint8_t *kek = mem, *plain = mem + LFS_KEY_BYTES;
    int r = t->derive(s, secret, kek, why);
    if (r)
        return r;
    crypto_box_keypair(s->public_key, plain);
    memcpy(plain + 32, ks->signing_public, KEYSTORE_PUBLIC_BYTES);
    struct wrap_what what = wrap_of_slot(ks, s);
    return wrap_key(&what, kek, plain, SEALED_PLAIN, s->sealed);
}

static int fill_slot(const struct keystore *ks, struct keystore_slot *s, const struct slot_make *m,
                     const uint8_t store_key[static LFS_KEY_BYTES], const struct secret *secret,
                     struct key_why *why)
{
    const struct slot_type *t = slot_type_find(m->c.type);
    if (!t || !secret)
        return LFS_ERR_MISUSE;
    if (m->label && m->label[0] && !keystore_label_ok(m->label)) {
        key_why_set(why, "a label has 1 to %u letters, digits, spaces and . _ @ + -", KEYSTORE_LABEL_MAX);
        return LFS_ERR_DENIED;
    }
    if (m->label)
        snprintf(s->label, sizeof s->label, "%s", m->label);
    s->type = t->type;
    s->created = (uint64_t)time(NULL);
    randombytes_buf(s->salt, sizeof s->salt);
    int r = t->prepare(s, secret, m->fast, m->kdf_ms, why);
    uint8_t *mem = r ? NULL : locked_alloc(LFS_KEY_BYTES + SEALED_PLAIN);
    if (!r)
        r = mem ? seal_pair(ks, s, t, secret, mem, why) : -ENOMEM;
    locked_free(mem);
    return r ? r : slot_seal_store_key(s, store_key);
}

static struct secret *new_recovery(void)
{
    struct secret *key = secret_new_random(LFS_KEY_BYTES);
    struct secret *text = key ? recovery_format(secret_const(key)) : NULL;
    secret_free(key);
    return text;
}

int slot_append(struct keystore *ks, const struct slot_make *m, const uint8_t store_key[static LFS_KEY_BYTES],
                struct secret **recovery, struct key_why *why)
{
    if (ks->slot_count == KEYSTORE_SLOTS_MAX || ks->next_slot > KEYSTORE_SLOT_ID_MAX) {
        key_why_set(why, "the key store has no room for another slot");
        return -ENOSPC;
    }
    struct keystore_slot s = {.id = ks->next_slot};
    bool make = m->c.type == CRED_RECOVERY && !m->c.secret;
    struct secret *made = make ? new_recovery() : NULL;
    if (make && !made)
        return -ENOMEM;
    int r = fill_slot(ks, &s, m, store_key, make ? made : m->c.secret, why);
    if (r) {
        secret_free(made);
        return r;
    }
    ks->slots[ks->slot_count++] = s;
    ks->next_slot++;
    if (made)
        *recovery = made;
    return 0;
}

static int open_box(const struct keystore_slot *s, struct slot_opened *out)
{
    uint8_t public_key[32];
    crypto_scalarmult_base(public_key, out->private_key);
    if (memcmp(public_key, s->public_key, sizeof public_key) != 0)
        return LFS_ERR_AUTH;
    if (crypto_box_seal_open(out->store_key, s->store_key, sizeof s->store_key, s->public_key,
                             out->private_key))
        return LFS_ERR_AUTH;
    return 0;
}

int slot_open(const struct keystore *ks, const struct keystore_slot *s, const struct secret *secret,
              struct slot_opened *out, struct key_why *why)
{
    const struct slot_type *t = slot_type_find(s->type);
    if (!t)
        return LFS_ERR_UNSUPPORTED;
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
        r = open_box(s, out);
    }
    locked_free(mem);
    return r;
}
