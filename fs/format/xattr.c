#include "latchfs/xattr.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"

#include <errno.h>
#include <string.h>

#define SIV_TAG 16
#define NAME_AD_BYTES (1 + ID_BYTES)
#define VALUE_AD_MAX (4 + ID_BYTES + XATTR_PLAIN_MAX)
#define PREFIX_LEN (sizeof XATTR_STORED_PREFIX - 1)
#define STORED_MAX 255u

/* A directory's id is also what its children's names are bound to: the kind keeps the two apart. */
static void encode_name_ad(const uint8_t *owner_id, uint8_t out[static NAME_AD_BYTES])
{
    out[0] = KIND_XATTR;
    memcpy(out + 1, owner_id, ID_BYTES);
}

static int name_length(const char *name, size_t *len)
{
    *len = strnlen(name, XATTR_PLAIN_MAX + 1);
    if (*len > XATTR_PLAIN_MAX)
        return -ENAMETOOLONG;
    return *len == 0 ? LFS_ERR_MISUSE : 0;
}

int xattr_name_encrypt(const struct name_keys *k, const uint8_t owner_id[static ID_BYTES], const char *name,
                       char stored[static 256])
{
    uint8_t raw[SIV_TAG + XATTR_PLAIN_MAX], ad[NAME_AD_BYTES];
    size_t len;
    int err = name_length(name, &len);
    if (err)
        return err;
    encode_name_ad(owner_id, ad);
    err = siv_seal(k->siv, ad, sizeof ad, name, len, raw);
    if (err)
        return err;
    memcpy(stored, XATTR_STORED_PREFIX, PREFIX_LEN);
    b64_encode(raw, SIV_TAG + len, stored + PREFIX_LEN);
    return 0;
}

int xattr_name_decrypt(const struct name_keys *k, const uint8_t owner_id[static ID_BYTES], const char *stored,
                       char name[static XATTR_PLAIN_MAX + 1])
{
    uint8_t raw[STORED_MAX], plain[XATTR_PLAIN_MAX], ad[NAME_AD_BYTES];
    size_t len = strnlen(stored, STORED_MAX + 1), n;
    if (len > STORED_MAX || len < PREFIX_LEN || memcmp(stored, XATTR_STORED_PREFIX, PREFIX_LEN) != 0)
        return LFS_ERR_CORRUPT;
    if (b64_decode(stored + PREFIX_LEN, len - PREFIX_LEN, raw, &n) || n <= SIV_TAG)
        return LFS_ERR_CORRUPT;
    encode_name_ad(owner_id, ad);
    int err = siv_open(k->siv, ad, sizeof ad, raw, n, plain);
    if (err)
        return err;
    n -= SIV_TAG;
    if (memchr(plain, '\0', n))
        return LFS_ERR_CORRUPT;
    memcpy(name, plain, n);
    name[n] = '\0';
    return 0;
}

static int encode_value_ad(const struct xattr_owner *o, const char *name, uint8_t out[static VALUE_AD_MAX],
                           size_t *ad_len)
{
    size_t len;
    int err = name_length(name, &len);
    if (err)
        return err;
    if (o->epoch == 0 || (o->kind != KIND_XATTR && o->kind != KIND_DIR_XATTR))
        return LFS_ERR_MISUSE;
    struct wcur w = wcur_over(out, VALUE_AD_MAX);
    wcur_u8(&w, o->kind);
    wcur_u8(&w, o->suite);
    wcur_u16(&w, o->epoch);
    wcur_bytes(&w, o->id, ID_BYTES);
    wcur_bytes(&w, name, len);
    *ad_len = wcur_used(&w);
    return 0;
}

int xattr_value_seal(struct aead *a, const struct xattr_owner *o, const char *name, const uint8_t *value,
                     size_t len, uint8_t *out)
{
    uint8_t nonce[NONCE_BYTES];
    aead_nonce(a, nonce);
    return xattr_value_seal_with(a, o, name, nonce, value, len, out);
}

int xattr_value_seal_with(struct aead *a, const struct xattr_owner *o, const char *name,
                          const uint8_t nonce[static NONCE_BYTES], const uint8_t *value, size_t len,
                          uint8_t *out)
{
    uint8_t ad[VALUE_AD_MAX];
    size_t ad_len;
    int err = encode_value_ad(o, name, ad, &ad_len);
    if (err)
        return err;
    uint8_t *cipher = out + NONCE_BYTES;
    memcpy(out, nonce, NONCE_BYTES);
    err = aead_seal(a, out, ad, ad_len, value, len, cipher, cipher + len);
    struct wcur w = wcur_over(cipher + len + TAG_BYTES, 2);
    wcur_u16(&w, o->epoch);
    return err;
}

int xattr_value_epoch(const uint8_t *stored, size_t len)
{
    if (len < XATTR_OVERHEAD)
        return LFS_ERR_CORRUPT;
    struct rcur c = rcur_over(stored + len - 2, 2);
    int epoch = rcur_u16(&c);
    return epoch ? epoch : LFS_ERR_CORRUPT;
}

int xattr_value_open(struct aead *a, const struct xattr_owner *o, const char *name, const uint8_t *stored,
                     size_t len, uint8_t *out)
{
    uint8_t ad[VALUE_AD_MAX];
    size_t ad_len;
    int epoch = xattr_value_epoch(stored, len);
    if (epoch < 0)
        return epoch;
    int err = encode_value_ad(o, name, ad, &ad_len);
    if (err)
        return err;
    if (epoch != o->epoch)
        return LFS_ERR_AUTH;
    size_t n = len - XATTR_OVERHEAD;
    const uint8_t *cipher = stored + NONCE_BYTES;
    return aead_open(a, stored, ad, ad_len, cipher, n, out, cipher + n);
}
