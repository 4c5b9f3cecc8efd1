#include "latchfs/record.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"

#include <sodium.h>
#include <string.h>

#define CONTENT_AD_BYTES 28

bool record_is_hole(const struct record *r)
{
    return r->length == 0 && r->epoch == 0 && sodium_is_zero(r->nonce, NONCE_BYTES) &&
           sodium_is_zero(r->tag, TAG_BYTES);
}

void record_encode(const struct record *r, uint8_t out[static RECORD_BYTES])
{
    struct wcur w = wcur_over(out, RECORD_BYTES);
    wcur_bytes(&w, r->nonce, NONCE_BYTES);
    wcur_bytes(&w, r->tag, TAG_BYTES);
    wcur_u16(&w, r->length);
    wcur_u16(&w, r->epoch);
}

int record_decode(const uint8_t in[static RECORD_BYTES], struct record *out)
{
    struct record r;
    struct rcur c = rcur_over(in, RECORD_BYTES);
    rcur_bytes(&c, r.nonce, NONCE_BYTES);
    rcur_bytes(&c, r.tag, TAG_BYTES);
    r.length = rcur_u16(&c);
    r.epoch = rcur_u16(&c);
    bool complete = r.length != 0 && r.length <= PAGE_BYTES && r.epoch != 0;
    if (!complete && !record_is_hole(&r))
        return LFS_ERR_CORRUPT;
    *out = r;
    return 0;
}

static bool length_fits(uint8_t kind, size_t len)
{
    return kind == KIND_INLINE ? len <= INLINE_MAX : len >= 1 && len <= PAGE_BYTES;
}

static void encode_ad(const struct content_ad *ad, uint8_t out[static CONTENT_AD_BYTES])
{
    struct wcur w = wcur_over(out, CONTENT_AD_BYTES);
    wcur_u8(&w, ad->kind);
    wcur_u8(&w, ad->suite);
    wcur_u16(&w, ad->epoch);
    wcur_bytes(&w, ad->file_id, ID_BYTES);
    wcur_u64(&w, ad->index);
}

int record_seal(struct aead *a, const struct content_ad *ad, const uint8_t *plain, size_t len,
                uint8_t *cipher, struct record *out)
{
    uint8_t nonce[NONCE_BYTES];
    aead_nonce(a, nonce);
    return record_seal_with(a, ad, nonce, plain, len, cipher, out);
}

int record_seal_with(struct aead *a, const struct content_ad *ad, const uint8_t nonce[static NONCE_BYTES],
                     const uint8_t *plain, size_t len, uint8_t *cipher, struct record *out)
{
    uint8_t bytes[CONTENT_AD_BYTES];
    struct record r = {.length = (uint16_t)len, .epoch = ad->epoch};
    if (!length_fits(ad->kind, len) || ad->epoch == 0)
        return LFS_ERR_MISUSE;
    encode_ad(ad, bytes);
    memcpy(r.nonce, nonce, NONCE_BYTES);
    int err = aead_seal(a, r.nonce, bytes, sizeof bytes, plain, len, cipher, r.tag);
    if (!err)
        *out = r;
    return err;
}

int record_open(struct aead *a, const struct content_ad *ad, const struct record *r, const uint8_t *cipher,
                uint8_t *plain)
{
    uint8_t bytes[CONTENT_AD_BYTES];
    if (!length_fits(ad->kind, r->length) || ad->epoch == 0 || ad->epoch != r->epoch)
        return LFS_ERR_MISUSE;
    encode_ad(ad, bytes);
    return aead_open(a, r->nonce, bytes, sizeof bytes, cipher, r->length, plain, r->tag);
}
