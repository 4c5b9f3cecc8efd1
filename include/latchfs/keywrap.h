/* Key wrapping: XChaCha20-Poly1305 (libsodium crypto_aead_xchacha20poly1305_ietf), random 192-bit nonce in
 * front. Blob: nonce 24 | ciphertext | tag 16. */
#ifndef LATCHFS_KEYWRAP_H
#define LATCHFS_KEYWRAP_H

#include "latchfs/secret.h"

#define KEYWRAP_OVERHEAD 40u
#define KEYWRAP_NONCE_BYTES 24u

/* blob has len + KEYWRAP_OVERHEAD bytes. */
int keywrap_seal(const uint8_t kek[static LFS_KEY_BYTES], const void *ad, size_t ad_len, const uint8_t *key,
                 size_t len, uint8_t *blob);
/* The same with a given nonce, for the reverse view: it must be derived from everything that is sealed. */
int keywrap_seal_with(const uint8_t kek[static LFS_KEY_BYTES],
                      const uint8_t nonce[static KEYWRAP_NONCE_BYTES], const void *ad, size_t ad_len,
                      const uint8_t *key, size_t len, uint8_t *blob);
/* key receives blob_len - KEYWRAP_OVERHEAD bytes; LFS_ERR_AUTH, LFS_ERR_CORRUPT when too short. */
int keywrap_open(const uint8_t kek[static LFS_KEY_BYTES], const void *ad, size_t ad_len, const uint8_t *blob,
                 size_t blob_len, uint8_t *key);

#endif
