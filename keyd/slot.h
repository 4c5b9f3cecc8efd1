/* One slot: an X25519 key pair whose private key, with the public signing key, is sealed by the slot's
 * secret. */
#ifndef KEYD_SLOT_H
#define KEYD_SLOT_H

#include "latchfs/keyslots.h"

/* What opening a slot gives. Keep in locked memory. */
struct slot_opened {
    uint8_t private_key[32];
    uint8_t signing_public[KEYSTORE_PUBLIC_BYTES];
    uint8_t store_key[LFS_KEY_BYTES];
};

/* Appends a slot that c opens (c->secret NULL with CRED_RECOVERY: a new key, its text in *recovery). */
struct slot_make {
    struct credential c;
    const char *label; /* or NULL */
    bool fast;
    unsigned kdf_ms;
};
int slot_append(struct keystore *ks, const struct slot_make *m, const uint8_t store_key[static LFS_KEY_BYTES],
                struct secret **recovery, struct key_why *why);

/* LFS_ERR_PASSPHRASE if the secret does not open it; LFS_ERR_CORRUPT if what it holds contradicts itself. */
int slot_open(const struct keystore *ks, const struct keystore_slot *s, const struct secret *secret,
              struct slot_opened *out, struct key_why *why);

/* Seals the key store key to the slot's public key. */
int slot_seal_store_key(struct keystore_slot *s, const uint8_t store_key[static LFS_KEY_BYTES]);

#endif
