/* Associated data of every wrapped key in the key store: what it is, whose, which version, wrapped by which.
 */
#ifndef KEYD_WRAP_H
#define KEYD_WRAP_H

#include "latchfs/keystore.h"

#define WRAP_AD_BYTES 56u

struct wrap_what {
    const char *kind;      /* at most 16 characters */
    const uint8_t *volume; /* ID_BYTES */
    const uint8_t *dir;    /* ID_BYTES, or NULL: zeros */
    uint32_t version;      /* of what is wrapped; slot-key: slot id */
    uint32_t wrapped_by;   /* version of the wrapping key, 0 if it has none; slot-key: slot type */
};

int wrap_key(const struct wrap_what *w, const uint8_t kek[static LFS_KEY_BYTES], const uint8_t *key,
             size_t len, uint8_t *blob);
int unwrap_key(const struct wrap_what *w, const uint8_t kek[static LFS_KEY_BYTES], const uint8_t *blob,
               size_t blob_len, uint8_t *key);

/* What each place of the key store holds. */
struct wrap_what wrap_of_slot(const struct keystore *ks, const struct keystore_slot *s);
struct wrap_what wrap_of_signing(const struct keystore *ks);
struct wrap_what wrap_of_master(const struct keystore *ks, uint32_t version);
struct wrap_what wrap_of_journal(const struct keystore *ks);
struct wrap_what wrap_of_dirkey(const struct keystore *ks, const struct keystore_dir *d,
                                const struct keystore_dirkey *k);
struct wrap_what wrap_of_held(const struct keystore *ks, const struct keystore_dir *d, uint32_t version);
struct wrap_what wrap_of_label(const struct keystore *ks, const struct keystore_dir *d);
struct wrap_what wrap_of_names(const struct keystore *ks, const struct keystore_dir *d);

#endif
