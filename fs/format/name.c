#include "latchfs/name.h"

#include "latchfs/err.h"
#include "latchfs/symlink.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define SIV_TAG 16
#define ENCODED_MIN 23u /* of a name of one byte */
#define HASH_CHARS 43u  /* base64url of 32 bytes */

void name_keys_derive(const uint8_t name_key[static LFS_KEY_BYTES], struct name_keys *out)
{
    static const char context[] = "latchfsN";
    crypto_kdf_derive_from_key(out->siv, SIV_KEY_BYTES, NAME_SUB_SIV, context, name_key);
    crypto_kdf_derive_from_key(out->dirrec, LFS_KEY_BYTES, NAME_SUB_DIRREC, context, name_key);
    crypto_kdf_derive_from_key(out->symlink, LFS_KEY_BYTES, NAME_SUB_SYMLINK, context, name_key);
    crypto_kdf_derive_from_key(out->xattr, LFS_KEY_BYTES, NAME_SUB_XATTR, context, name_key);
}

static bool is_name(const char *plain, size_t len)
{
    bool dots = (len == 1 && plain[0] == '.') || (len == 2 && plain[0] == '.' && plain[1] == '.');
    return len > 0 && len <= NAME_PLAIN_MAX && !dots && !memchr(plain, '/', len) && !memchr(plain, '\0', len);
}

int name_encrypt(const struct name_keys *k, const uint8_t dir_id[static ID_BYTES], const char *plain,
                 struct cipher_name *out)
{
    uint8_t raw[SIV_TAG + NAME_PLAIN_MAX];
    size_t len = strnlen(plain, NAME_PLAIN_MAX + 1);
    if (len > NAME_PLAIN_MAX)
        return -ENAMETOOLONG;
    if (!is_name(plain, len))
        return LFS_ERR_MISUSE;
    int err = siv_seal(k->siv, dir_id, ID_BYTES, plain, len, raw);
    if (err)
        return err;
    size_t n = b64_encode(raw, SIV_TAG + len, out->encoded);
    out->is_long = n > NAME_CIPHER_MAX;
    if (out->is_long)
        name_long_stored(out->encoded, n, out->stored);
    else
        memcpy(out->stored, out->encoded, n + 1);
    return 0;
}

int name_decrypt(const struct name_keys *k, const uint8_t dir_id[static ID_BYTES], const char *encoded,
                 size_t len, char plain[static NAME_PLAIN_MAX + 1])
{
    uint8_t raw[SIV_TAG + NAME_PLAIN_MAX];
    char name[NAME_PLAIN_MAX];
    size_t n;
    if (len < ENCODED_MIN || len > NAME_ENCODED_MAX || b64_decode(encoded, len, raw, &n))
        return LFS_ERR_CORRUPT;
    int err = siv_open(k->siv, dir_id, ID_BYTES, raw, n, (uint8_t *)name);
    if (err)
        return err;
    n -= SIV_TAG;
    if (!is_name(name, n))
        return LFS_ERR_CORRUPT;
    memcpy(plain, name, n);
    plain[n] = '\0';
    return 0;
}

void name_long_stored(const char *encoded, size_t len, char stored[static NAME_CIPHER_MAX + 1])
{
    uint8_t hash[32];
    char text[HASH_CHARS + 1];
    crypto_generichash(hash, sizeof hash, (const uint8_t *)encoded, len, NULL, 0);
    b64_encode(hash, sizeof hash, text);
    snprintf(stored, NAME_CIPHER_MAX + 1, LONG_PREFIX "%s", text);
}

static bool begins(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

static enum stored_kind long_kind(const char *hash)
{
    size_t len = strnlen(hash, NAME_CIPHER_MAX);
    if (len < HASH_CHARS || !b64_is_whole(hash, HASH_CHARS))
        return STORED_FOREIGN;
    if (len == HASH_CHARS)
        return STORED_LONG;
    return strcmp(hash + HASH_CHARS, LONG_NAME_SUFFIX) == 0 ? STORED_LONG_SIDECAR : STORED_FOREIGN;
}

enum stored_kind name_stored_kind(const char *stored)
{
    size_t len = strnlen(stored, NAME_CIPHER_MAX + 1);
    if (len > NAME_CIPHER_MAX)
        return STORED_FOREIGN;
    if (!begins(stored, RESERVED_PREFIX))
        return len >= ENCODED_MIN && b64_is_whole(stored, len) ? STORED_NAME : STORED_FOREIGN;
    if (begins(stored, TMP_PREFIX))
        return STORED_TMP;
    if (begins(stored, LONG_PREFIX))
        return long_kind(stored + strlen(LONG_PREFIX));
    if (begins(stored, LONG_LINK_PREFIX) && !symlink_is_sidecar(stored, len))
        return STORED_FOREIGN;
    return STORED_OURS;
}
