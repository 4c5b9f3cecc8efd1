/* One slot: an X25519 key pair to whose public key the key store key is sealed. The private key, with the
 * public signing key, is sealed by the slot's secret; of a recipient's slot only the recipient has it. */
#ifndef KEYD_SLOT_H
#define KEYD_SLOT_H

#include "latchfs/keyslots.h"
#include "slot_type.h"

/* What opening a slot gives. Keep in locked memory. */
struct slot_opened {
    uint8_t private_key[32];
    uint8_t signing_public[KEYSTORE_PUBLIC_BYTES];
    bool knows_signer; /* else signing_public is not set */
    uint8_t store_key[LFS_KEY_BYTES];
};

/* Appends a slot (*recovery: the text of the key that was made, if one was). */
int slot_append(struct keystore *ks, const struct slot_make *m, const uint8_t store_key[static LFS_KEY_BYTES],
                struct secret **recovery, struct key_why *why);

/* Makes slot `at` anew: id and label stay. */
int slot_replace(struct keystore *ks, uint32_t at, const struct slot_make *m,
                 const uint8_t store_key[static LFS_KEY_BYTES], struct secret **recovery,
                 struct key_why *why);

/* LFS_ERR_PASSPHRASE if the secret does not open it; LFS_ERR_AUTH if what it holds contradicts itself. */
int slot_open(const struct keystore *ks, const struct keystore_slot *s, const struct secret *secret,
              struct slot_opened *out, struct key_why *why);

/* Seals the key store key to the slot's public key. */
int slot_seal_store_key(struct keystore_slot *s, const uint8_t store_key[static LFS_KEY_BYTES]);

/* Sets the label; LFS_ERR_DENIED for what is none. NULL or "" takes it away. */
int label_set(char to[static KEYSTORE_LABEL_MAX + 1], const char *label, struct key_why *why);

#endif
