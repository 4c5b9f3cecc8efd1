/* Slot types: how a secret becomes the 32-byte key that seals a slot. */
#ifndef KEYD_SLOT_TYPE_H
#define KEYD_SLOT_TYPE_H

#include "latchfs/keyslots.h"

/* What a new slot is made of. */
struct slot_make {
    struct credential c; /* secret NULL with CRED_RECOVERY: a new key is made */
    const char *label;   /* or NULL */
    bool fast;
    unsigned kdf_ms;
};

struct slot_type {
    uint8_t type; /* enum keystore_slot_type, the same number as enum credential_type */
    /* Refuses what is unfit for a new slot, and fills the slot's parameters. */
    int (*prepare)(struct keystore_slot *s, const struct slot_make *m, const struct secret *secret,
                   struct key_why *why);
    /* NULL: the secret is the slot's private key itself. */
    int (*derive)(const struct keystore_slot *s, const struct secret *secret,
                  uint8_t kek[static LFS_KEY_BYTES], struct key_why *why);
};

/* NULL if unknown. */
const struct slot_type *slot_type_find(unsigned type);

void key_why_set(struct key_why *why, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
