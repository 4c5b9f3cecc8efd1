/* Opening what the key store has of one protected directory. */
#ifndef KEYD_STORE_DIR_H
#define KEYD_STORE_DIR_H

#include "latchfs/keyslots.h"

/* Locked memory for the keys on the way to a directory key. */
struct dir_scratch {
    uint8_t master[LFS_KEY_BYTES];
    uint8_t
        outer[LFS_KEY_BYTES]; /* what the store's blob holds: the directory key, or what opens a held one */
};

/* Opens the store's blob of one version into t->outer. LFS_ERR_AUTH, or the error of lookup. */
int dirkey_outer(const struct keystore *ks, const struct keystore_dir *d, const struct keystore_dirkey *k,
                 master_lookup *lookup, void *arg, struct dir_scratch *t);

/* From there to the directory key. LFS_ERR_NOKEY if it is held and not here. */
int dirkey_inner(const struct keystore *ks, const struct keystore_dir *d, uint32_t version,
                 const struct held_source *held, const struct dir_scratch *t,
                 uint8_t key[static LFS_KEY_BYTES]);

/* The directory key of one version, in one step. */
int dirkey_open(const struct keystore *ks, const struct keystore_dir *d, const struct keystore_dirkey *k,
                master_lookup *lookup, void *arg, const struct held_source *held, struct dir_scratch *t,
                uint8_t key[static LFS_KEY_BYTES]);

/* The directory's name, under its name key. Open gives "" if it has none; LFS_ERR_AUTH, LFS_ERR_CORRUPT. */
int label_seal(const struct keystore *ks, struct keystore_dir *d,
               const uint8_t name_key[static LFS_KEY_BYTES], const char *label);
int label_open(const struct keystore *ks, const struct keystore_dir *d,
               const uint8_t name_key[static LFS_KEY_BYTES], char label[static KEYSTORE_LABEL_MAX + 1]);

#endif
