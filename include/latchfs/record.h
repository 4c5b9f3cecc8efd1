/* The 32-byte record of a chunk: nonce 12 | tag 16 | length u16 | key epoch u16. All zero: a hole. */
#ifndef LATCHFS_RECORD_H
#define LATCHFS_RECORD_H

#include "latchfs/aead.h"
#include "latchfs/format.h"

#include <stdbool.h>

struct record {
    uint8_t nonce[NONCE_BYTES];
    uint8_t tag[TAG_BYTES];
    uint16_t length; /* of plaintext and ciphertext, 1..4096; 0 only in a hole and an empty inline record */
    uint16_t epoch;  /* of the file key, 1.. */
};

bool record_is_hole(const struct record *r);
void record_encode(const struct record *r, uint8_t out[static RECORD_BYTES]);

/* LFS_ERR_CORRUPT for a length above 4096, or one that is neither hole nor complete (length 0 or epoch 0). */
int record_decode(const uint8_t in[static RECORD_BYTES], struct record *out);

/* What every content message is bound to. Encoded: kind u8, suite u8, epoch u16, file id 16, index u64. */
struct content_ad {
    uint8_t kind; /* enum content_kind */
    uint8_t suite;
    uint16_t epoch;
    const uint8_t *file_id; /* ID_BYTES */
    uint64_t index;         /* chunk; 0 for KIND_INLINE */
};

/* Encrypts len bytes (1..4096, or 0..3584 for KIND_INLINE) under the key loaded in a, with a fresh nonce;
 * fills *out. */
int record_seal(struct aead *a, const struct content_ad *ad, const uint8_t *plain, size_t len,
                uint8_t *cipher, struct record *out);

/* The same with a given nonce, for the reverse view: it must be derived from everything that is sealed. */
int record_seal_with(struct aead *a, const struct content_ad *ad, const uint8_t nonce[static NONCE_BYTES],
                     const uint8_t *plain, size_t len, uint8_t *cipher, struct record *out);

/* Decrypts r->length bytes. LFS_ERR_AUTH when they do not fit. Not for holes. */
int record_open(struct aead *a, const struct content_ad *ad, const struct record *r, const uint8_t *cipher,
                uint8_t *plain);

#endif
