/* Bulk AEAD: AES-256-GCM or ChaCha20-Poly1305 of libcrypto (NIST SP 800-38D, RFC 8439), 96-bit random nonce
 * per message, 128-bit tag. A struct aead belongs to one thread at a time; keep one per worker. */
#ifndef LATCHFS_AEAD_H
#define LATCHFS_AEAD_H

#include "latchfs/format.h"
#include "latchfs/secret.h"

struct aead;

struct aead *aead_new(void); /* NULL when memory is out */
void aead_free(struct aead *a);
void aead_freep(struct aead **a);

/* Loads suite and key for the calls that follow. Cheap (a key schedule); call it once per file and request.
 * LFS_ERR_UNSUPPORTED for an unknown suite. */
int aead_set_key(struct aead *a, enum suite suite, const uint8_t key[static LFS_KEY_BYTES]);

/* Forgets the key. */
void aead_clear_key(struct aead *a);

/* Draws a nonce from the thread's pool (filled from the system in bulk; never repeats after fork). */
void aead_nonce(struct aead *a, uint8_t nonce[static NONCE_BYTES]);

/* out and in may be the same memory; len >= 0 bytes. */
int aead_seal(struct aead *a, const uint8_t nonce[static NONCE_BYTES], const void *ad, size_t ad_len,
              const uint8_t *in, size_t len, uint8_t *out, uint8_t tag[static TAG_BYTES]);

/* LFS_ERR_AUTH when the tag does not fit; out is then zeroed. */
int aead_open(struct aead *a, const uint8_t nonce[static NONCE_BYTES], const void *ad, size_t ad_len,
              const uint8_t *in, size_t len, uint8_t *out, const uint8_t tag[static TAG_BYTES]);

/* The suite for a new volume on this processor: AES where it has AES instructions, else ChaCha20. */
enum suite aead_best_suite(void);
const char *suite_name(int suite); /* "aes-256-gcm", "chacha20-poly1305", or NULL if unknown */
int suite_by_name(const char *name, enum suite *out); /* also "auto"; LFS_ERR_UNSUPPORTED */

#endif
