/* Planted faults, in tamper_driver_faulty alone: TAMPER_FAULT names the check that always says yes. The
 * linker's --wrap puts these in front of the store's own. */
#include "latchfs/aead.h"
#include "latchfs/dirrec.h"
#include "latchfs/header.h"
#include "latchfs/store.h"

#include <stdlib.h>
#include <string.h>

struct file;

static bool planted(const char *name)
{
    const char *fault = getenv("TAMPER_FAULT");
    return fault && !strcmp(fault, name);
}

int __real_aead_open(struct aead *a, const uint8_t nonce[static NONCE_BYTES], const void *ad, size_t ad_len,
                     const uint8_t *in, size_t len, uint8_t *out, const uint8_t tag[static TAG_BYTES]);
int __wrap_aead_open(struct aead *a, const uint8_t nonce[static NONCE_BYTES], const void *ad, size_t ad_len,
                     const uint8_t *in, size_t len, uint8_t *out, const uint8_t tag[static TAG_BYTES]);
int __wrap_aead_open(struct aead *a, const uint8_t nonce[static NONCE_BYTES], const void *ad, size_t ad_len,
                     const uint8_t *in, size_t len, uint8_t *out, const uint8_t tag[static TAG_BYTES])
{
    int r = __real_aead_open(a, nonce, ad, ad_len, in, len, out, tag);
    return planted("content") ? 0 : r;
}

int __real_header_check_mac(const struct file_header *h, const uint8_t mac_key[static LFS_KEY_BYTES]);
int __wrap_header_check_mac(const struct file_header *h, const uint8_t mac_key[static LFS_KEY_BYTES]);
int __wrap_header_check_mac(const struct file_header *h, const uint8_t mac_key[static LFS_KEY_BYTES])
{
    return planted("header") ? 0 : __real_header_check_mac(h, mac_key);
}

int __real_dirrec_check(const uint8_t in[static DIRREC_BYTES], const struct name_keys *k);
int __wrap_dirrec_check(const uint8_t in[static DIRREC_BYTES], const struct name_keys *k);
int __wrap_dirrec_check(const uint8_t in[static DIRREC_BYTES], const struct name_keys *k)
{
    return planted("record") ? 0 : __real_dirrec_check(in, k);
}

bool __real_dirrec_is_at(const struct dirrec *d, const uint8_t parent[static ID_BYTES], const char *stored);
bool __wrap_dirrec_is_at(const struct dirrec *d, const uint8_t parent[static ID_BYTES], const char *stored);
bool __wrap_dirrec_is_at(const struct dirrec *d, const uint8_t parent[static ID_BYTES], const char *stored)
{
    return planted("place") || __real_dirrec_is_at(d, parent, stored);
}

int __real_home_check(struct node *n, const struct file_header *h);
int __wrap_home_check(struct node *n, const struct file_header *h);
int __wrap_home_check(struct node *n, const struct file_header *h)
{
    return planted("directory") ? 0 : __real_home_check(n, h);
}

int __real_seal_check_loaded(struct file *f, int fd);
int __wrap_seal_check_loaded(struct file *f, int fd);
int __wrap_seal_check_loaded(struct file *f, int fd)
{
    return planted("seal") ? 0 : __real_seal_check_loaded(f, fd);
}

int __real_crypto_sign_verify_detached(const unsigned char *sig, const unsigned char *m,
                                       unsigned long long len, const unsigned char *pk);
int __wrap_crypto_sign_verify_detached(const unsigned char *sig, const unsigned char *m,
                                       unsigned long long len, const unsigned char *pk);
int __wrap_crypto_sign_verify_detached(const unsigned char *sig, const unsigned char *m,
                                       unsigned long long len, const unsigned char *pk)
{
    return planted("signature") ? 0 : __real_crypto_sign_verify_detached(sig, m, len, pk);
}
