/* One edit under way: what its parts share. */
#ifndef KEYD_EDIT_H
#define KEYD_EDIT_H

#include "latchfs/keyslots.h"
#include "store_dir.h"

struct edit {
    struct keystore *ks;
    struct keystore_keys *keys;
    const struct key_edit *e;
    unsigned kdf_ms;
    const struct held_source *held;
    uint64_t now;
    struct edit_secrets { /* locked memory */
        struct dir_scratch scratch;
        uint8_t dir_key[LFS_KEY_BYTES], fresh_key[LFS_KEY_BYTES], name_key[LFS_KEY_BYTES];
    } * mem;
    struct key_edit_result result;
    struct held_blobs fresh;
    struct key_why *why;
};

/* Each makes its change in ks and keys, or refuses: LFS_ERR_DENIED, -ENOENT, -ENOSPC. */
int edit_slot_add(struct edit *e);
int edit_slot_remove(struct edit *e);
int edit_slot_replace(struct edit *e);
int edit_slot_label(struct edit *e);
int edit_master_rotate(struct edit *e);
int edit_master_retire(struct edit *e);
int edit_master_destroy(struct edit *e);
int edit_dir_add(struct edit *e);
int edit_dir_name(struct edit *e);
int edit_dir_rotate(struct edit *e);
int edit_dir_finish(struct edit *e);
int edit_dir_accept(struct edit *e);
int edit_dir_destroy(struct edit *e);
int edit_dir_shred(struct edit *e);
int edit_backup_add(struct edit *e);
int edit_backup_remove(struct edit *e);
int edit_environment(struct edit *e);

/* Says why and answers LFS_ERR_DENIED, or another error. */
int edit_deny(struct edit *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int edit_refuse(struct edit *e, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The directory that the edit is about and that is not shredded, or NULL with *err. */
struct keystore_dir *edit_dir(struct edit *e, int *err);

/* A registered backup that may hold headers of this version (pd), or wrapped keys (pd NULL: of masters). */
const struct keystore_backup *backup_needing(const struct keystore *ks, const uint8_t *pd, uint32_t version);

/* LFS_ERR_DENIED: this backup needs the version that was to be destroyed. */
int edit_needed(struct edit *e, const struct keystore_backup *b, uint32_t version);

/* Draws a new key store key, wraps everything by it and seals it to every slot. */
int replace_store_key(struct keystore *ks, struct keystore_keys *keys);

/* Wraps the signing key and every master key by k->store_key. */
int wrap_by_store_key(struct keystore *ks, const struct keystore_keys *k);

/* Wraps a fresh random key, which key gets. */
struct wrap_what;
int wrap_fresh(const struct wrap_what *w, const uint8_t kek[static LFS_KEY_BYTES], uint8_t *key,
               uint8_t blob[static KEYSTORE_WRAPPED_BYTES]);

/* keystore_verify; tolerant: held keys that are not here are passed over. */
int store_verify(const struct keystore *ks, const struct keystore_keys *keys, const struct held_source *held,
                 bool tolerant, struct key_why *why);

#endif
