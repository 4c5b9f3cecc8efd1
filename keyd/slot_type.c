#include "slot_type.h"

#include "kdf.h"
#include "latchfs/err.h"
#include "recovery.h"

#include <errno.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void key_why_set(struct key_why *why, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why->text, sizeof why->text, fmt, ap);
    va_end(ap);
}

/* ---- passphrase ---- */

static int passphrase_prepare(struct keystore_slot *s, const struct slot_make *m, const struct secret *secret,
                              struct key_why *why)
{
    s->fast = m->fast;
    if (!m->fast)
        return kdf_calibrate(m->kdf_ms, &s->kdf_ops, &s->kdf_kib);
    s->kdf_ops = KEYSTORE_KDF_OPS_MIN;
    s->kdf_kib = KEYSTORE_KDF_KIB_MIN;
    return 0;
}

static int passphrase_derive(const struct keystore_slot *s, const struct secret *secret,
                             uint8_t kek[static LFS_KEY_BYTES], struct key_why *why)
{
    int r = crypto_pwhash(kek, LFS_KEY_BYTES, (const char *)secret_const(secret), secret_len(secret), s->salt,
                          s->kdf_ops, (size_t)s->kdf_kib * 1024, crypto_pwhash_ALG_ARGON2ID13);
    if (r == 0)
        return 0;
    key_why_set(why, "no memory for Argon2id, which needs %u MiB", s->kdf_kib / 1024);
    return -ENOMEM;
}

/* ---- key file, recovery key, command: strong secrets, no stretching ---- */

static int hash_strong(const struct keystore_slot *s,
                       const char personal[static crypto_generichash_blake2b_PERSONALBYTES], const void *in,
                       size_t len, uint8_t kek[static LFS_KEY_BYTES])
{
    return crypto_generichash_blake2b_salt_personal(kek, LFS_KEY_BYTES, in, len, NULL, 0, s->salt,
                                                    (const uint8_t *)personal)
               ? LFS_ERR_MISUSE
               : 0;
}

static int keyfile_prepare(struct keystore_slot *s, const struct slot_make *m, const struct secret *secret,
                           struct key_why *why)
{
    if (secret_len(secret) >= KEYFILE_MIN && secret_len(secret) <= KEYFILE_MAX)
        return 0;
    key_why_set(why, "a key file has %u to %u bytes", KEYFILE_MIN, KEYFILE_MAX);
    return LFS_ERR_DENIED;
}

static int keyfile_derive(const struct keystore_slot *s, const struct secret *secret,
                          uint8_t kek[static LFS_KEY_BYTES], struct key_why *why)
{
    return hash_strong(s, "latchfs-keyfile", secret_const(secret), secret_len(secret), kek);
}

static int recovery_prepare(struct keystore_slot *s, const struct slot_make *m, const struct secret *secret,
                            struct key_why *why)
{
    uint8_t *key = locked_alloc(LFS_KEY_BYTES);
    int r = key ? recovery_parse(secret, key, why) : -ENOMEM;
    locked_free(key);
    return r;
}

static int recovery_derive(const struct keystore_slot *s, const struct secret *secret,
                           uint8_t kek[static LFS_KEY_BYTES], struct key_why *why)
{
    uint8_t *key = locked_alloc(LFS_KEY_BYTES);
    int r = key ? recovery_parse(secret, key, why) : -ENOMEM;
    if (!r)
        r = hash_strong(s, "latchfs-recovery", key, LFS_KEY_BYTES, kek);
    locked_free(key);
    return r;
}

static int command_prepare(struct keystore_slot *s, const struct slot_make *m, const struct secret *secret,
                           struct key_why *why)
{
    const struct credential *c = &m->c;
    if (secret_len(secret) != LFS_KEY_BYTES || !c->command || !c->blob)
        return LFS_ERR_MISUSE;
    if (!keystore_command_ok(c->command)) {
        key_why_set(why, "the name of a command has 1 to %u of a-z 0-9 - and begins with a letter",
                    KEYSTORE_COMMAND_MAX);
        return LFS_ERR_DENIED;
    }
    if (c->blob_len < 1 || c->blob_len > KEYSTORE_BLOB_MAX) {
        key_why_set(why, "what the command answered has %zu bytes; 1 to %u are possible", c->blob_len,
                    KEYSTORE_BLOB_MAX);
        return LFS_ERR_DENIED;
    }
    s->blob = malloc(c->blob_len);
    if (!s->blob)
        return -ENOMEM;
    memcpy(s->blob, c->blob, c->blob_len);
    s->blob_len = (uint32_t)c->blob_len;
    snprintf(s->command, sizeof s->command, "%s", c->command);
    return 0;
}

static int command_derive(const struct keystore_slot *s, const struct secret *secret,
                          uint8_t kek[static LFS_KEY_BYTES], struct key_why *why)
{
    if (secret_len(secret) == LFS_KEY_BYTES)
        return hash_strong(s, "latchfs-command", secret_const(secret), LFS_KEY_BYTES, kek);
    key_why_set(why, "a command answers %u bytes, this one answered %zu", LFS_KEY_BYTES, secret_len(secret));
    return LFS_ERR_PASSPHRASE;
}

/* ---- recipient: a public key, no secret is here ---- */

static int recipient_prepare(struct keystore_slot *s, const struct slot_make *m, const struct secret *secret,
                             struct key_why *why)
{
    if (!m->c.public_key)
        return LFS_ERR_MISUSE;
    memcpy(s->public_key, m->c.public_key, KEYSTORE_PUBLIC_BYTES);
    return 0;
}

static const struct slot_type types[] = {
    {SLOT_PASSPHRASE, passphrase_prepare, passphrase_derive}, {SLOT_KEYFILE, keyfile_prepare, keyfile_derive},
    {SLOT_RECOVERY, recovery_prepare, recovery_derive},       {SLOT_RECIPIENT, recipient_prepare, NULL},
    {SLOT_COMMAND, command_prepare, command_derive},
};

const struct slot_type *slot_type_find(unsigned type)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].type == type)
            return &types[i];
    return NULL;
}
