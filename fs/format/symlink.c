#include "latchfs/symlink.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#define AD_BYTES (2 + 2 * ID_BYTES)
#define LINK_DIGITS 32u

/* random id 16 | nonce 12 | ciphertext | tag 16 */
#define NONCE_AT ID_BYTES
#define CIPHER_AT (NONCE_AT + NONCE_BYTES)
_Static_assert(CIPHER_AT + TAG_BYTES == SYMLINK_OVERHEAD, "parts of the blob");

static void encode_ad(enum suite suite, const uint8_t *dir_id, const uint8_t *link_id, uint8_t *out)
{
    struct wcur w = wcur_over(out, AD_BYTES);
    wcur_u8(&w, KIND_SYMLINK);
    wcur_u8(&w, (uint8_t)suite);
    wcur_bytes(&w, dir_id, ID_BYTES);
    wcur_bytes(&w, link_id, ID_BYTES);
}

int symlink_encrypt(struct aead *a, enum suite suite, const struct name_keys *k,
                    const uint8_t dir_id[static ID_BYTES], const char *target,
                    char encoded[static SYMLINK_ENCODED_MAX + 1])
{
    uint8_t link_id[ID_BYTES], nonce[NONCE_BYTES];
    randombytes_buf(link_id, sizeof link_id);
    aead_nonce(a, nonce);
    return symlink_encrypt_with(a, suite, k, dir_id, link_id, nonce, target, encoded);
}

int symlink_encrypt_with(struct aead *a, enum suite suite, const struct name_keys *k,
                         const uint8_t dir_id[static ID_BYTES], const uint8_t link_id[static ID_BYTES],
                         const uint8_t nonce[static NONCE_BYTES], const char *target,
                         char encoded[static SYMLINK_ENCODED_MAX + 1])
{
    uint8_t blob[SYMLINK_BLOB_MAX], ad[AD_BYTES];
    size_t len = strnlen(target, SYMLINK_PLAIN_MAX + 1);
    if (len > SYMLINK_PLAIN_MAX)
        return -ENAMETOOLONG;
    if (len == 0)
        return LFS_ERR_MISUSE;
    int err = aead_set_key(a, suite, k->symlink);
    if (err)
        return err;
    memcpy(blob, link_id, ID_BYTES);
    memcpy(blob + NONCE_AT, nonce, NONCE_BYTES);
    encode_ad(suite, dir_id, blob, ad);
    err = aead_seal(a, blob + NONCE_AT, ad, sizeof ad, (const uint8_t *)target, len, blob + CIPHER_AT,
                    blob + CIPHER_AT + len);
    if (!err)
        b64_encode(blob, len + SYMLINK_OVERHEAD, encoded);
    return err;
}

int symlink_decrypt(struct aead *a, enum suite suite, const struct name_keys *k,
                    const uint8_t dir_id[static ID_BYTES], const char *encoded, size_t len,
                    char target[static SYMLINK_PLAIN_MAX + 1])
{
    uint8_t blob[SYMLINK_BLOB_MAX], ad[AD_BYTES], plain[SYMLINK_PLAIN_MAX];
    size_t n;
    int plain_len = symlink_plain_len(len);
    if (plain_len < 0 || b64_decode(encoded, len, blob, &n))
        return LFS_ERR_CORRUPT;
    int err = aead_set_key(a, suite, k->symlink);
    if (err)
        return err;
    n = (size_t)plain_len;
    encode_ad(suite, dir_id, blob, ad);
    err = aead_open(a, blob + NONCE_AT, ad, sizeof ad, blob + CIPHER_AT, n, plain, blob + CIPHER_AT + n);
    if (err)
        return err;
    if (memchr(plain, '\0', n))
        return LFS_ERR_CORRUPT;
    memcpy(target, plain, n);
    target[n] = '\0';
    return 0;
}

int symlink_plain_len(size_t encoded_len)
{
    if (encoded_len > SYMLINK_ENCODED_MAX || encoded_len % 4 == 1)
        return LFS_ERR_CORRUPT;
    size_t blob = encoded_len * 3 / 4;
    return blob > SYMLINK_OVERHEAD ? (int)(blob - SYMLINK_OVERHEAD) : LFS_ERR_CORRUPT;
}

bool symlink_is_sidecar(const char *stored, size_t len)
{
    size_t prefix = strlen(LONG_LINK_PREFIX);
    if (len != prefix + LINK_DIGITS || memcmp(stored, LONG_LINK_PREFIX, prefix) != 0)
        return false;
    for (size_t i = prefix; i < len; i++) {
        char c = stored[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return false;
    }
    return true;
}
