/* Extended attributes. Stored name: "user.latchfs." + base64url(AES-SIV(name)), associated data = KIND_XATTR,
 * owner id (the kind, since a directory's id alone is what its children's names are bound to). Stored value:
 * nonce 12 | ciphertext | tag 16 | epoch u16, associated data: kind, suite, epoch, owner id, name. Owner: a
 * file (key FILE_SUB_XATTR, epoch of its file key, KIND_XATTR) or a directory (key of NAME_SUB_XATTR, epoch
 * 1, KIND_DIR_XATTR). Names use the SIV key of the protected directory. */
#ifndef LATCHFS_XATTR_H
#define LATCHFS_XATTR_H

#include "latchfs/aead.h"
#include "latchfs/name.h"

#define XATTR_STORED_PREFIX "user.latchfs."
#define XATTR_PLAIN_MAX 165u /* so that the stored name fits 255 */
#define XATTR_OVERHEAD 30u

struct xattr_owner {
    uint8_t kind; /* KIND_XATTR or KIND_DIR_XATTR */
    uint8_t suite;
    uint16_t epoch;
    const uint8_t *id; /* ID_BYTES */
};

/* stored: NUL-terminated. -ENAMETOOLONG over XATTR_PLAIN_MAX. */
int xattr_name_encrypt(const struct name_keys *k, const uint8_t owner_id[static ID_BYTES], const char *name,
                       char stored[static 256]);
/* LFS_ERR_CORRUPT, LFS_ERR_AUTH; name gets at most XATTR_PLAIN_MAX + 1 bytes. */
int xattr_name_decrypt(const struct name_keys *k, const uint8_t owner_id[static ID_BYTES], const char *stored,
                       char name[static XATTR_PLAIN_MAX + 1]);

/* The key is loaded in a. out has len + XATTR_OVERHEAD bytes. */
int xattr_value_seal(struct aead *a, const struct xattr_owner *o, const char *name, const uint8_t *value,
                     size_t len, uint8_t *out);
/* The same with a given nonce, for the reverse view: it must be derived from everything that is sealed. */
int xattr_value_seal_with(struct aead *a, const struct xattr_owner *o, const char *name,
                          const uint8_t nonce[static NONCE_BYTES], const uint8_t *value, size_t len,
                          uint8_t *out);
/* Epoch that a stored value names (LFS_ERR_CORRUPT when too short), to choose the key by. */
int xattr_value_epoch(const uint8_t *stored, size_t len);
/* out has len - XATTR_OVERHEAD bytes. */
int xattr_value_open(struct aead *a, const struct xattr_owner *o, const char *name, const uint8_t *stored,
                     size_t len, uint8_t *out);

#endif
