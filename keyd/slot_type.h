/* Slot types: how a secret becomes the 32-byte key that seals a slot. */
#ifndef KEYD_SLOT_TYPE_H
#define KEYD_SLOT_TYPE_H

#include "latchfs/keyslots.h"

struct slot_type {
    uint8_t type; /* enum keystore_slot_type, the same number as enum credential_type */
    /* Refuses a secret unfit for a new slot, and fills the slot's parameters. */
    int (*prepare)(struct keystore_slot *s, const struct secret *secret, bool fast, unsigned kdf_ms,
                   struct key_why *why);
    int (*derive)(const struct keystore_slot *s, const struct secret *secret,
                  uint8_t kek[static LFS_KEY_BYTES], struct key_why *why);
};

/* NULL if unknown. */
const struct slot_type *slot_type_find(unsigned type);

void key_why_set(struct key_why *why, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
