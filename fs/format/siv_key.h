/* AES-SIV (RFC 5297, AES-256, one component of associated data) under one key, out of libcrypto's AES-CBC and
 * AES-CTR. libcrypto's own AES-SIV spends a context with each message, and copying one costs several times
 * what the message does. Used by siv.c only. */
#ifndef LATCHFS_SIV_KEY_H
#define LATCHFS_SIV_KEY_H

#include "latchfs/name.h"

#include <openssl/evp.h>

#define SIV_TAG 16
#define SIV_BLOCK 16

/* What follows from a key, and from the associated data used last. In locked memory; all zeros: no key. */
struct siv_secret {
    bool used;
    uint8_t key[SIV_KEY_BYTES];
    uint8_t subkey[2][SIV_BLOCK]; /* of CMAC: for a last block that is whole, and for one that is not */
    uint8_t start[SIV_BLOCK];     /* of S2V, doubled once */
    size_t ad_len;                /* 0: none is kept */
    uint8_t ad[SIV_BLOCK];        /* only short ones are */
    uint8_t bound[SIV_BLOCK];     /* S2V up to the associated data */
};

struct siv_key {
    EVP_CIPHER_CTX *mac, *ctr;
    struct siv_secret *s; /* the owner's */
};

/* -1: memory is out; to be cleared all the same. */
int siv_key_init(struct siv_key *k, struct siv_secret *s);
void siv_key_clear(struct siv_key *k);
/* False, and no key is in it, if libcrypto can't. */
bool siv_key_load(struct siv_key *k, const uint8_t key[static SIV_KEY_BYTES]);
void siv_key_wipe(struct siv_key *k);

/* Of a loaded key; lengths are 1 to SIV_LEN_MAX. False: libcrypto can't. */
bool siv_key_seal(struct siv_key *k, const void *ad, size_t ad_len, const uint8_t *text, size_t len,
                  uint8_t *out);
/* *fits: the tag is right; otherwise text is worth nothing. */
bool siv_key_open(struct siv_key *k, const void *ad, size_t ad_len, const uint8_t *in, size_t len,
                  uint8_t *text, bool *fits);

#endif
