#include "latchfs/aead.h"

#include "latchfs/err.h"

#include <limits.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

static const struct {
    enum suite suite;
    const char *name;
    const char *cipher; /* as libcrypto calls it */
} suites[] = {
    {SUITE_AES_256_GCM, "aes-256-gcm", "AES-256-GCM"},
    {SUITE_CHACHA20_POLY1305, "chacha20-poly1305", "ChaCha20-Poly1305"},
};
#define SUITES (sizeof suites / sizeof suites[0])
#define POOL_NONCES 340 /* with the counters just under a 4 KiB block of the arena */

/* In the arena, whose pages read as zeros after fork: then left is 0 and the child draws its own. */
struct pool {
    uint32_t left;
    uint32_t forks;
    uint8_t nonces[POOL_NONCES][NONCE_BYTES];
};

struct aead {
    EVP_CIPHER_CTX *ctx[SUITES];
    EVP_CIPHER_CTX *loaded; /* one of ctx, or NULL when there is no key */
    bool keyed[SUITES];     /* had a key since it was last cleared */
    struct pool *pool;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static EVP_CIPHER *ciphers[SUITES];
static uint32_t forks; /* counted in the child: a second guard, for kernels without MADV_WIPEONFORK */

static void count_fork(void)
{
    __atomic_add_fetch(&forks, 1, __ATOMIC_RELAXED);
}

static void fetch_ciphers(void)
{
    for (size_t i = 0; i < SUITES; i++)
        ciphers[i] = EVP_CIPHER_fetch(NULL, suites[i].cipher, NULL);
    pthread_atfork(NULL, NULL, count_fork);
}

struct aead *aead_new(void)
{
    pthread_once(&once, fetch_ciphers);
    struct aead *a = calloc(1, sizeof *a);
    if (!a)
        return NULL;
    a->pool = locked_alloc(sizeof *a->pool);
    bool ok = a->pool != NULL;
    for (size_t i = 0; i < SUITES && ok; i++) {
        a->ctx[i] = EVP_CIPHER_CTX_new();
        ok = ciphers[i] && a->ctx[i] && EVP_CipherInit_ex2(a->ctx[i], ciphers[i], NULL, NULL, 1, NULL) == 1;
    }
    if (!ok) {
        aead_free(a);
        return NULL;
    }
    return a;
}

void aead_free(struct aead *a)
{
    if (!a)
        return;
    for (size_t i = 0; i < SUITES; i++)
        EVP_CIPHER_CTX_free(a->ctx[i]); /* wipes the key schedule */
    locked_free(a->pool);
    free(a);
}

void aead_freep(struct aead **a)
{
    aead_free(*a);
    *a = NULL;
}

int aead_set_key(struct aead *a, enum suite suite, const uint8_t key[static LFS_KEY_BYTES])
{
    for (size_t i = 0; i < SUITES; i++) {
        if (suites[i].suite != suite)
            continue;
        a->keyed[i] = true;
        if (EVP_CipherInit_ex2(a->ctx[i], NULL, key, NULL, -1, NULL) != 1)
            return LFS_ERR_MISUSE;
        a->loaded = a->ctx[i];
        return 0;
    }
    return LFS_ERR_UNSUPPORTED;
}

void aead_clear_key(struct aead *a)
{
    /* A zero key and nonce overwrite the schedule and what derives from it, without the allocation that a
     * reset would cost at the next set_key. */
    static const uint8_t zero[LFS_KEY_BYTES];
    for (size_t i = 0; i < SUITES; i++)
        if (a->keyed[i])
            EVP_CipherInit_ex2(a->ctx[i], NULL, zero, zero, 1, NULL);
    memset(a->keyed, 0, sizeof a->keyed);
    a->loaded = NULL;
}

/* libsodium asks the kernel 256 bytes at a time; whole pools save most of these calls. */
static void draw(void *out, size_t len)
{
    if (getrandom(out, len, 0) != (ssize_t)len)
        randombytes_buf(out, len);
}

void aead_nonce(struct aead *a, uint8_t nonce[static NONCE_BYTES])
{
    struct pool *p = a->pool;
    uint32_t now = __atomic_load_n(&forks, __ATOMIC_RELAXED);
    if (p->left == 0 || p->forks != now) {
        draw(p->nonces, sizeof p->nonces);
        p->left = POOL_NONCES;
        p->forks = now;
    }
    memcpy(nonce, p->nonces[--p->left], NONCE_BYTES);
}

/* Everything but the tag: the direction is set with the nonce. */
static bool run(EVP_CIPHER_CTX *ctx, int enc, const uint8_t *nonce, const void *ad, size_t ad_len,
                const uint8_t *in, size_t len, uint8_t *out)
{
    int n;
    if (EVP_CipherInit_ex2(ctx, NULL, NULL, nonce, enc, NULL) != 1)
        return false;
    if (ad_len > 0 && EVP_CipherUpdate(ctx, NULL, &n, ad, (int)ad_len) != 1)
        return false;
    return len == 0 || (EVP_CipherUpdate(ctx, out, &n, in, (int)len) == 1 && n == (int)len);
}

int aead_seal(struct aead *a, const uint8_t nonce[static NONCE_BYTES], const void *ad, size_t ad_len,
              const uint8_t *in, size_t len, uint8_t *out, uint8_t tag[static TAG_BYTES])
{
    uint8_t rest[16];
    int n;
    if (!a->loaded || len > INT_MAX || ad_len > INT_MAX)
        return LFS_ERR_MISUSE;
    if (!run(a->loaded, 1, nonce, ad, ad_len, in, len, out) || EVP_CipherFinal_ex(a->loaded, rest, &n) != 1 ||
        EVP_CIPHER_CTX_ctrl(a->loaded, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, tag) != 1)
        return LFS_ERR_MISUSE;
    return 0;
}

int aead_open(struct aead *a, const uint8_t nonce[static NONCE_BYTES], const void *ad, size_t ad_len,
              const uint8_t *in, size_t len, uint8_t *out, const uint8_t tag[static TAG_BYTES])
{
    uint8_t rest[16], want[TAG_BYTES];
    int n;
    if (!a->loaded || len > INT_MAX || ad_len > INT_MAX)
        return LFS_ERR_MISUSE;
    memcpy(want, tag, TAG_BYTES); /* the call takes no const */
    if (run(a->loaded, 0, nonce, ad, ad_len, in, len, out) &&
        EVP_CIPHER_CTX_ctrl(a->loaded, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES, want) == 1 &&
        EVP_CipherFinal_ex(a->loaded, rest, &n) == 1)
        return 0;
    if (len > 0)
        sodium_memzero(out, len);
    return LFS_ERR_AUTH;
}

enum suite aead_best_suite(void)
{
#if defined(__x86_64__) || defined(__i386__)
    bool aes = __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
#elif defined(__aarch64__)
    unsigned long cap = getauxval(AT_HWCAP);
    bool aes = (cap & HWCAP_AES) && (cap & HWCAP_PMULL);
#else
    bool aes = false;
#endif
    return aes ? SUITE_AES_256_GCM : SUITE_CHACHA20_POLY1305;
}

const char *suite_name(int suite)
{
    for (size_t i = 0; i < SUITES; i++)
        if ((int)suites[i].suite == suite)
            return suites[i].name;
    return NULL;
}

int suite_by_name(const char *name, enum suite *out)
{
    if (strcmp(name, "auto") == 0) {
        *out = aead_best_suite();
        return 0;
    }
    for (size_t i = 0; i < SUITES; i++) {
        if (strcmp(suites[i].name, name) == 0) {
            *out = suites[i].suite;
            return 0;
        }
    }
    return LFS_ERR_UNSUPPORTED;
}
