#include "fs/format/siv_key.h"

#include <sodium.h>
#include <string.h>

#define HALF (SIV_KEY_BYTES / 2) /* the first for S2V, the second for CTR */

static const uint8_t zero[SIV_BLOCK];

int siv_key_init(struct siv_key *k, struct siv_secret *s)
{
    *k = (struct siv_key){EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_new(), s};
    return k->mac && k->ctr ? 0 : -1;
}

void siv_key_clear(struct siv_key *k)
{
    EVP_CIPHER_CTX_free(k->mac);
    EVP_CIPHER_CTX_free(k->ctr);
}

void siv_key_wipe(struct siv_key *k)
{
    sodium_memzero(k->s, sizeof *k->s);
    EVP_CIPHER_CTX_reset(k->mac); /* wipes the key schedule */
    EVP_CIPHER_CTX_reset(k->ctr);
}

/* ---- CMAC (RFC 4493) ---- */

static void xor_block(uint8_t *to, const uint8_t *with)
{
    for (unsigned i = 0; i < SIV_BLOCK; i++)
        to[i] ^= with[i];
}

/* In GF(2^128), without a branch on what is secret. */
static void twice(const uint8_t in[static SIV_BLOCK], uint8_t out[static SIV_BLOCK])
{
    uint8_t carry = (uint8_t) - (in[0] >> 7) & 0x87;
    for (unsigned i = 0; i + 1 < SIV_BLOCK; i++)
        out[i] = (uint8_t)(in[i] << 1 | in[i + 1] >> 7);
    out[SIV_BLOCK - 1] = (uint8_t)(in[SIV_BLOCK - 1] << 1 ^ carry);
}

/* buf, of whole blocks, becomes its CBC encryption from a zero IV. */
static bool cbc(struct siv_key *k, uint8_t *buf, size_t len)
{
    int n;
    return EVP_EncryptInit_ex2(k->mac, NULL, NULL, zero, NULL) == 1 &&
           EVP_EncryptUpdate(k->mac, buf, &n, buf, (int)len) == 1 && (size_t)n == len;
}

/* buf has room for the message made up to whole blocks, and is spent. len >= 1. */
static bool cmac(struct siv_key *k, uint8_t *buf, size_t len, uint8_t out[static SIV_BLOCK])
{
    size_t whole = (len + SIV_BLOCK - 1) / SIV_BLOCK * SIV_BLOCK;
    memset(buf + len, 0, whole - len);
    if (whole > len)
        buf[len] = 0x80;
    xor_block(buf + whole - SIV_BLOCK, k->s->subkey[whole > len]);
    bool ok = cbc(k, buf, whole);
    memcpy(out, buf + whole - SIV_BLOCK, SIV_BLOCK);
    return ok;
}

/* ---- S2V (RFC 5297, section 2.4) ---- */

static bool prepare(struct siv_key *k)
{
    struct siv_secret *s = k->s;
    uint8_t block[SIV_BLOCK] = {0};
    bool ok = cbc(k, block, SIV_BLOCK);
    twice(block, s->subkey[0]);
    twice(s->subkey[0], s->subkey[1]);
    memset(block, 0, sizeof block);
    ok = ok && cmac(k, block, SIV_BLOCK, block);
    twice(block, s->start);
    sodium_memzero(block, sizeof block);
    return ok;
}

bool siv_key_load(struct siv_key *k, const uint8_t key[static SIV_KEY_BYTES])
{
    sodium_memzero(k->s, sizeof *k->s);
    bool ok = EVP_EncryptInit_ex2(k->mac, EVP_aes_256_cbc(), key, zero, NULL) == 1 &&
              EVP_EncryptInit_ex2(k->ctr, EVP_aes_256_ctr(), key + HALF, zero, NULL) == 1 && prepare(k);
    memcpy(k->s->key, key, SIV_KEY_BYTES);
    k->s->used = ok;
    if (!ok)
        siv_key_wipe(k);
    return ok;
}

static bool bind(struct siv_key *k, const void *ad, size_t len)
{
    struct siv_secret *s = k->s;
    uint8_t buf[SIV_LEN_MAX];
    if (s->ad_len == len && memcmp(s->ad, ad, len) == 0)
        return true;
    s->ad_len = 0;
    memcpy(buf, ad, len);
    bool ok = cmac(k, buf, len, s->bound);
    xor_block(s->bound, s->start);
    if (ok && len <= sizeof s->ad) {
        memcpy(s->ad, ad, len);
        s->ad_len = len;
    }
    return ok;
}

static bool vector(struct siv_key *k, const uint8_t *text, size_t len, uint8_t out[static SIV_BLOCK])
{
    uint8_t buf[SIV_LEN_MAX];
    size_t used = len;
    memcpy(buf, text, len);
    if (len >= SIV_BLOCK) {
        xor_block(buf + len - SIV_BLOCK, k->s->bound);
    } else {
        uint8_t doubled[SIV_BLOCK];
        twice(k->s->bound, doubled);
        memset(buf + len, 0, SIV_BLOCK - len);
        buf[len] = 0x80;
        xor_block(buf, doubled);
        used = SIV_BLOCK;
    }
    bool ok = cmac(k, buf, used, out);
    sodium_memzero(buf, used);
    return ok;
}

static bool crypt(struct siv_key *k, const uint8_t tag[static SIV_TAG], const uint8_t *in, size_t len,
                  uint8_t *out)
{
    uint8_t counter[SIV_TAG];
    int n;
    memcpy(counter, tag, SIV_TAG);
    counter[8] &= 0x7f;
    counter[12] &= 0x7f;
    return EVP_EncryptInit_ex2(k->ctr, NULL, NULL, counter, NULL) == 1 &&
           EVP_EncryptUpdate(k->ctr, out, &n, in, (int)len) == 1;
}

bool siv_key_seal(struct siv_key *k, const void *ad, size_t ad_len, const uint8_t *text, size_t len,
                  uint8_t *out)
{
    uint8_t tag[SIV_TAG];
    if (!bind(k, ad, ad_len) || !vector(k, text, len, tag) || !crypt(k, tag, text, len, out + SIV_TAG))
        return false;
    memcpy(out, tag, SIV_TAG);
    return true;
}

bool siv_key_open(struct siv_key *k, const void *ad, size_t ad_len, const uint8_t *in, size_t len,
                  uint8_t *text, bool *fits)
{
    uint8_t tag[SIV_TAG];
    if (!bind(k, ad, ad_len) || !crypt(k, in, in + SIV_TAG, len, text) || !vector(k, text, len, tag))
        return false;
    *fits = sodium_memcmp(tag, in, SIV_TAG) == 0;
    return true;
}
