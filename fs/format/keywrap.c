#include "latchfs/keywrap.h"

#include "latchfs/err.h"

#include <sodium.h>
#include <string.h>

#define WRAP_NONCE crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
_Static_assert(KEYWRAP_OVERHEAD == WRAP_NONCE + crypto_aead_xchacha20poly1305_ietf_ABYTES, "nonce and tag");
_Static_assert(KEYWRAP_NONCE_BYTES == WRAP_NONCE, "nonce");
_Static_assert(LFS_KEY_BYTES == crypto_aead_xchacha20poly1305_ietf_KEYBYTES, "key");

int keywrap_seal(const uint8_t kek[static LFS_KEY_BYTES], const void *ad, size_t ad_len, const uint8_t *key,
                 size_t len, uint8_t *blob)
{
    uint8_t nonce[WRAP_NONCE];
    randombytes_buf(nonce, sizeof nonce);
    return keywrap_seal_with(kek, nonce, ad, ad_len, key, len, blob);
}

int keywrap_seal_with(const uint8_t kek[static LFS_KEY_BYTES],
                      const uint8_t nonce[static KEYWRAP_NONCE_BYTES], const void *ad, size_t ad_len,
                      const uint8_t *key, size_t len, uint8_t *blob)
{
    memcpy(blob, nonce, WRAP_NONCE);
    int r = crypto_aead_xchacha20poly1305_ietf_encrypt(blob + WRAP_NONCE, NULL, key, len, ad, ad_len, NULL,
                                                       blob, kek);
    return r ? LFS_ERR_MISUSE : 0;
}

int keywrap_open(const uint8_t kek[static LFS_KEY_BYTES], const void *ad, size_t ad_len, const uint8_t *blob,
                 size_t blob_len, uint8_t *key)
{
    if (blob_len < KEYWRAP_OVERHEAD)
        return LFS_ERR_CORRUPT;
    int r = crypto_aead_xchacha20poly1305_ietf_decrypt(key, NULL, NULL, blob + WRAP_NONCE,
                                                       blob_len - WRAP_NONCE, ad, ad_len, blob, kek);
    return r ? LFS_ERR_AUTH : 0;
}
