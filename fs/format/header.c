#include "latchfs/header.h"

#include "latchfs/aead.h"
#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/keywrap.h"

#include <sodium.h>
#include <string.h>

#define MAGIC "LATCHFIL"
#define MAGIC_BYTES 8
#define MAC_BYTES 32
#define MAC_OFFSET (HEADER_BYTES - MAC_BYTES)
#define RESERVED_BYTES 32
#define WRAP_AD_BYTES 50

static void encode_place(struct wcur *w, const struct key_place *p)
{
    wcur_u16(w, p->epoch);
    wcur_zeros(w, 6);
    if (p->epoch)
        wcur_bytes(w, p->wrapped, WRAPPED_KEY_BYTES);
    else
        wcur_zeros(w, WRAPPED_KEY_BYTES);
}

static void encode_seal(struct wcur *w, const struct file_header *h)
{
    wcur_u8(w, h->seal_state);
    wcur_zeros(w, 7);
    wcur_u64(w, h->seal_generation);
    if (h->seal_state == SEAL_SEALED)
        wcur_bytes(w, h->seal_root, sizeof h->seal_root);
    else
        wcur_zeros(w, sizeof h->seal_root);
}

void header_encode(const struct file_header *h, uint8_t out[static HEADER_BYTES])
{
    struct wcur w = wcur_over(out, HEADER_BYTES);
    uint8_t rec[RECORD_BYTES] = {0};
    wcur_bytes(&w, MAGIC, MAGIC_BYTES);
    wcur_u16(&w, FORMAT_VERSION);
    wcur_u8(&w, h->suite);
    wcur_u8(&w, h->state);
    wcur_u16(&w, h->flags);
    wcur_zeros(&w, 2);
    wcur_bytes(&w, h->file_id, ID_BYTES);
    wcur_bytes(&w, h->pd_id, ID_BYTES);
    wcur_u32(&w, h->key_version);
    wcur_zeros(&w, 4);
    encode_place(&w, &h->place[0]);
    encode_place(&w, &h->place[1]);
    wcur_u64(&w, h->size);
    wcur_u64(&w, h->chunk_writes);
    wcur_u64(&w, h->generation);
    encode_seal(&w, h);
    if (h->state == FILE_INLINE)
        record_encode(&h->inline_record, rec);
    wcur_bytes(&w, rec, sizeof rec);
    wcur_bytes(&w, h->home[0], sizeof h->home);
    wcur_zeros(&w, RESERVED_BYTES);
    wcur_bytes(&w, h->mac, MAC_BYTES);
}

/* Each of the following reads its part and tells whether it is possible. */

static bool decode_place(struct rcur *c, struct key_place *p)
{
    p->epoch = rcur_u16(c);
    bool ok = rcur_zeros(c, 6);
    rcur_bytes(c, p->wrapped, WRAPPED_KEY_BYTES);
    return ok && (p->epoch != 0 || sodium_is_zero(p->wrapped, WRAPPED_KEY_BYTES));
}

static bool decode_seal(struct rcur *c, struct file_header *h)
{
    h->seal_state = rcur_u8(c);
    bool ok = rcur_zeros(c, 7);
    h->seal_generation = rcur_u64(c);
    rcur_bytes(c, h->seal_root, sizeof h->seal_root);
    if (h->seal_state == SEAL_OPEN)
        return ok && sodium_is_zero(h->seal_root, sizeof h->seal_root);
    return ok && h->seal_state == SEAL_SEALED;
}

/* An inline record may have length 0, which record_decode refuses: an empty message, or none yet. */
static bool decode_inline(struct rcur *c, struct record *r)
{
    rcur_bytes(c, r->nonce, NONCE_BYTES);
    rcur_bytes(c, r->tag, TAG_BYTES);
    r->length = rcur_u16(c);
    r->epoch = rcur_u16(c);
    return r->epoch != 0 || record_is_hole(r);
}

static bool decode_homes(struct rcur *c, struct file_header *h)
{
    bool ok = true;
    rcur_bytes(c, h->home[0], sizeof h->home);
    for (unsigned i = 1; i < HEADER_HOMES; i++)
        ok = ok && (!sodium_is_zero(h->home[i - 1], ID_BYTES) || sodium_is_zero(h->home[i], ID_BYTES));
    return ok;
}

static bool decode_identity(struct rcur *c, struct file_header *h)
{
    bool ok = rcur_zeros(c, 2);
    rcur_bytes(c, h->file_id, ID_BYTES);
    rcur_bytes(c, h->pd_id, ID_BYTES);
    h->key_version = rcur_u32(c);
    return rcur_zeros(c, 4) && ok && h->key_version != 0;
}

static bool content_fits(const struct file_header *h)
{
    const struct record *r = &h->inline_record;
    if (h->state == FILE_PAGED)
        return h->size <= FILE_SIZE_MAX && record_is_hole(r);
    return h->state == FILE_INLINE && h->size <= INLINE_MAX && r->length == h->size &&
           (r->epoch == 0 || header_place(h, r->epoch) >= 0);
}

int header_decode(const uint8_t in[static HEADER_BYTES], struct file_header *out)
{
    struct file_header h;
    struct rcur c = rcur_over(in, HEADER_BYTES);
    const uint8_t *magic = rcur_view(&c, MAGIC_BYTES);
    if (!magic || memcmp(magic, MAGIC, MAGIC_BYTES) != 0)
        return LFS_ERR_CORRUPT;
    if (rcur_u16(&c) != FORMAT_VERSION)
        return LFS_ERR_UNSUPPORTED;
    h.suite = rcur_u8(&c);
    h.state = rcur_u8(&c);
    h.flags = rcur_u16(&c);
    if (!suite_name(h.suite) || h.flags != 0)
        return LFS_ERR_UNSUPPORTED;
    bool ok = decode_identity(&c, &h);
    ok = decode_place(&c, &h.place[0]) && ok;
    ok = decode_place(&c, &h.place[1]) && ok && h.place[0].epoch != h.place[1].epoch;
    h.size = rcur_u64(&c);
    h.chunk_writes = rcur_u64(&c);
    h.generation = rcur_u64(&c);
    ok = decode_seal(&c, &h) && ok;
    ok = decode_inline(&c, &h.inline_record) && ok && content_fits(&h);
    ok = decode_homes(&c, &h) && ok;
    ok = rcur_zeros(&c, RESERVED_BYTES) && ok;
    rcur_bytes(&c, h.mac, MAC_BYTES);
    if (!ok || !rcur_done(&c))
        return LFS_ERR_CORRUPT;
    *out = h;
    return 0;
}

int header_newest(const struct file_header *h)
{
    return h->place[1].epoch > h->place[0].epoch;
}

int header_place(const struct file_header *h, uint16_t epoch)
{
    for (int i = 0; i < 2; i++)
        if (epoch != 0 && h->place[i].epoch == epoch)
            return i;
    return -1;
}

void file_subkey(const uint8_t file_key[static LFS_KEY_BYTES], enum file_subkey which,
                 uint8_t out[static LFS_KEY_BYTES])
{
    crypto_kdf_derive_from_key(out, LFS_KEY_BYTES, which, "latchfsF", file_key);
}

static void encode_wrap_ad(const struct file_header *h, int i, uint16_t epoch,
                           uint8_t out[static WRAP_AD_BYTES])
{
    struct wcur w = wcur_over(out, WRAP_AD_BYTES);
    wcur_bytes(&w, MAGIC, MAGIC_BYTES);
    wcur_u16(&w, FORMAT_VERSION);
    wcur_u8(&w, h->suite);
    wcur_bytes(&w, h->file_id, ID_BYTES);
    wcur_bytes(&w, h->pd_id, ID_BYTES);
    wcur_u32(&w, h->key_version);
    wcur_u8(&w, (uint8_t)i);
    wcur_u16(&w, epoch);
}

int header_wrap_key(struct file_header *h, int i, uint16_t epoch, const uint8_t dir_key[static LFS_KEY_BYTES],
                    const uint8_t file_key[static LFS_KEY_BYTES])
{
    uint8_t nonce[KEYWRAP_NONCE_BYTES];
    randombytes_buf(nonce, sizeof nonce);
    return header_wrap_key_with(h, i, epoch, nonce, dir_key, file_key);
}

int header_wrap_key_with(struct file_header *h, int i, uint16_t epoch,
                         const uint8_t nonce[static KEYWRAP_NONCE_BYTES],
                         const uint8_t dir_key[static LFS_KEY_BYTES],
                         const uint8_t file_key[static LFS_KEY_BYTES])
{
    uint8_t ad[WRAP_AD_BYTES];
    struct key_place p = {.epoch = epoch};
    if (i < 0 || i > 1 || epoch == 0)
        return LFS_ERR_MISUSE;
    encode_wrap_ad(h, i, epoch, ad);
    int err = keywrap_seal_with(dir_key, nonce, ad, sizeof ad, file_key, LFS_KEY_BYTES, p.wrapped);
    if (!err)
        h->place[i] = p;
    return err;
}

int header_unwrap_key(const struct file_header *h, int i, const uint8_t dir_key[static LFS_KEY_BYTES],
                      uint8_t file_key[static LFS_KEY_BYTES])
{
    uint8_t ad[WRAP_AD_BYTES];
    if (i < 0 || i > 1 || h->place[i].epoch == 0)
        return LFS_ERR_MISUSE;
    encode_wrap_ad(h, i, h->place[i].epoch, ad);
    return keywrap_open(dir_key, ad, sizeof ad, h->place[i].wrapped, WRAPPED_KEY_BYTES, file_key);
}

static void compute_mac(const struct file_header *h, const uint8_t mac_key[static LFS_KEY_BYTES],
                        uint8_t mac[static MAC_BYTES])
{
    uint8_t bytes[HEADER_BYTES];
    header_encode(h, bytes);
    crypto_generichash(mac, MAC_BYTES, bytes, MAC_OFFSET, mac_key, LFS_KEY_BYTES);
}

void header_set_mac(struct file_header *h, const uint8_t mac_key[static LFS_KEY_BYTES])
{
    compute_mac(h, mac_key, h->mac);
}

int header_check_mac(const struct file_header *h, const uint8_t mac_key[static LFS_KEY_BYTES])
{
    uint8_t mac[MAC_BYTES];
    compute_mac(h, mac_key, mac);
    return sodium_memcmp(mac, h->mac, MAC_BYTES) ? LFS_ERR_AUTH : 0;
}
