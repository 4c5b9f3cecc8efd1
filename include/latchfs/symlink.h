/* Symbolic link targets. Blob: random id 16 | nonce 12 | ciphertext | tag 16, AES-256-GCM or ChaCha20-
 * Poly1305 by the volume's suite, key NAME_SUB_SYMLINK, associated data: KIND_SYMLINK, suite, directory id,
 * random id. Stored base64url as the backing link's target. An encoding over the limit of the backing
 * filesystem (SYMLINK_STORED_MAX) goes into a sidecar file latchfs.link.<32 hex> in the link's directory,
 * whose name is then the backing link's target. */
#ifndef LATCHFS_SYMLINK_H
#define LATCHFS_SYMLINK_H

#include "latchfs/aead.h"
#include "latchfs/name.h"

#define SYMLINK_OVERHEAD 44u
#define SYMLINK_BLOB_MAX (SYMLINK_PLAIN_MAX + SYMLINK_OVERHEAD)
#define SYMLINK_ENCODED_MAX 5519u /* of SYMLINK_BLOB_MAX bytes */
#define SYMLINK_STORED_MAX 4095u

/* Both load the symlink key into a: set your own again afterwards. LFS_ERR_UNSUPPORTED for an unknown
 * suite. */

/* encoded gets a NUL-terminated text. target: 1..SYMLINK_PLAIN_MAX bytes, else -ENAMETOOLONG / MISUSE. */
int symlink_encrypt(struct aead *a, enum suite suite, const struct name_keys *k,
                    const uint8_t dir_id[static ID_BYTES], const char *target,
                    char encoded[static SYMLINK_ENCODED_MAX + 1]);
/* The same with a given id and nonce, for the reverse view: they must be derived from everything that is
 * sealed. */
int symlink_encrypt_with(struct aead *a, enum suite suite, const struct name_keys *k,
                         const uint8_t dir_id[static ID_BYTES], const uint8_t link_id[static ID_BYTES],
                         const uint8_t nonce[static NONCE_BYTES], const char *target,
                         char encoded[static SYMLINK_ENCODED_MAX + 1]);
int symlink_decrypt(struct aead *a, enum suite suite, const struct name_keys *k,
                    const uint8_t dir_id[static ID_BYTES], const char *encoded, size_t len,
                    char target[static SYMLINK_PLAIN_MAX + 1]);

/* Length of the plaintext for an encoding of encoded_len characters (no decryption), or LFS_ERR_CORRUPT. */
int symlink_plain_len(size_t encoded_len);

/* True if a backing target names a sidecar (exact form latchfs.link.<32 lower-case hex>). */
bool symlink_is_sidecar(const char *stored, size_t len);

#endif
