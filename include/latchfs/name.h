/* Names: AES-SIV (RFC 5297, 64-byte key) over the plaintext name, associated data = directory id, then
 * base64url without padding. A name whose encoding is over 255 bytes stands as latchfs.long.<hash>, the
 * encoding itself in the sidecar latchfs.long.<hash>.name. */
#ifndef LATCHFS_NAME_H
#define LATCHFS_NAME_H

#include "latchfs/format.h"
#include "latchfs/secret.h"

#include <stdbool.h>

/* Subkeys of a name key (32 bytes), by crypto_kdf with context "latchfsN"; the SIV key has 64 bytes. */
enum name_subkey {
    NAME_SUB_SIV = 1,
    NAME_SUB_DIRREC = 2,
    NAME_SUB_SYMLINK = 3,
    NAME_SUB_XATTR = 4,
    NAME_SUB_LABEL = 5, /* the name of the protected directory itself, in the key store */
};
#define SIV_KEY_BYTES 64u

struct name_keys { /* keep in locked memory */
    uint8_t siv[SIV_KEY_BYTES];
    uint8_t dirrec[LFS_KEY_BYTES];
    uint8_t symlink[LFS_KEY_BYTES];
    uint8_t xattr[LFS_KEY_BYTES]; /* values of directories' extended attributes; their names use siv */
};
void name_keys_derive(const uint8_t name_key[static LFS_KEY_BYTES], struct name_keys *out);

/* 16 + NAME_PLAIN_MAX bytes encoded: at most 362 characters. */
#define NAME_ENCODED_MAX 362u

/* AES-SIV of any short string (names, xattr names): out gets SIV 16 | ciphertext len. len >= 1. ad: one
 * component, not empty. Keyed contexts are cached by thread. */
int siv_seal(const uint8_t key[static SIV_KEY_BYTES], const void *ad, size_t ad_len, const void *in,
             size_t len, uint8_t *out);
/* in_len >= 16; out gets in_len - 16 bytes. LFS_ERR_AUTH: out is then zeroed. */
int siv_open(const uint8_t key[static SIV_KEY_BYTES], const void *ad, size_t ad_len, const uint8_t *in,
             size_t in_len, uint8_t *out);

/* Wipes the keys that siv_seal and siv_open have cached, in every thread. Call it when keys are dropped. A
 * thread's own cache is wiped when the thread ends. */
void siv_forget(void);

/* Encrypts one name into its encoding (NUL-terminated). *is_long: the encoding is over NAME_CIPHER_MAX, so
 * that stored gets latchfs.long.<hash>; otherwise stored == encoded. Refuses "", ".", "..", names over 255
 * bytes (-ENAMETOOLONG) and names with '/' or NUL (LFS_ERR_MISUSE). */
struct cipher_name {
    char encoded[NAME_ENCODED_MAX + 1];
    char stored[NAME_CIPHER_MAX + 1];
    bool is_long;
};
int name_encrypt(const struct name_keys *k, const uint8_t dir_id[static ID_BYTES], const char *plain,
                 struct cipher_name *out);

/* Decrypts an encoding (the stored name itself, or the contents of a long name's sidecar). plain gets a
 * NUL-terminated name. LFS_ERR_CORRUPT (not base64url, too long, plaintext with '/' or NUL, or "." or ".."),
 * LFS_ERR_AUTH. */
int name_decrypt(const struct name_keys *k, const uint8_t dir_id[static ID_BYTES], const char *encoded,
                 size_t len, char plain[static NAME_PLAIN_MAX + 1]);

/* The stored form of a long encoding: "latchfs.long." + base64url of BLAKE2b-256 of the encoding. */
void name_long_stored(const char *encoded, size_t len, char stored[static NAME_CIPHER_MAX + 1]);

/* What a name in a ciphertext directory is, by its form alone. OURS: every other latchfs.*, symlink sidecars
 * too. FOREIGN: nothing we make, a malformed latchfs.long.* or latchfs.link.* among them. */
enum stored_kind { STORED_NAME, STORED_LONG, STORED_LONG_SIDECAR, STORED_OURS, STORED_TMP, STORED_FOREIGN };
enum stored_kind name_stored_kind(const char *stored);

/* base64url without padding (RFC 4648 section 5). Decoding is strict: no padding, no stray bits.
 * out of decode has room for len * 3 / 4 bytes. */
size_t b64_encode(const void *data, size_t len, char *out); /* writes a NUL; returns the length */
int b64_decode(const char *text, size_t len, uint8_t *out, size_t *out_len);
bool b64_is_whole(const char *text, size_t len); /* whether decoding would succeed */

#endif
