#include "latchfs/name.h"

#include "latchfs/err.h"

#include <limits.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

/* Loading a SIV key costs libcrypto four times as much as copying a context that has it, and a context is
 * spent after one message. So every thread keeps a few keyed contexts and copies. All caches hang on one
 * list, so that siv_forget reaches those of other threads. */
#define SLOTS 4
#define SIV_TAG 16

struct slot_key { /* in locked memory: after a fork all slots read as unused */
    bool used;
    uint8_t key[SIV_KEY_BYTES];
};

struct cache {
    pthread_mutex_t lock; /* guards all below; contended only by siv_forget and fork */
    struct slot_key *keys;
    EVP_CIPHER_CTX *keyed[SLOTS];
    EVP_CIPHER_CTX *work;
    unsigned next_victim;
    struct cache *prev, *next; /* guarded by list_lock, which is taken before lock */
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static struct cache *list;
static pthread_key_t thread_end;
static bool thread_end_ok;
static EVP_CIPHER *cipher;
static __thread struct cache *mine;

static void wipe_cache(struct cache *c)
{
    sodium_memzero(c->keys, SLOTS * sizeof *c->keys);
    for (int i = 0; i < SLOTS; i++)
        EVP_CIPHER_CTX_reset(c->keyed[i]); /* wipes the key schedule */
    EVP_CIPHER_CTX_reset(c->work);
}

static void cache_free(struct cache *c)
{
    for (int i = 0; i < SLOTS; i++)
        EVP_CIPHER_CTX_free(c->keyed[i]);
    EVP_CIPHER_CTX_free(c->work);
    locked_free(c->keys);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

static void at_thread_end(void *p)
{
    struct cache *c = p;
    pthread_mutex_lock(&list_lock);
    if (c->prev)
        c->prev->next = c->next;
    else
        list = c->next;
    if (c->next)
        c->next->prev = c->prev;
    pthread_mutex_unlock(&list_lock);
    mine = NULL;
    cache_free(c);
}

/* All caches are at rest while the process forks; the child then drops the keys, and the caches of threads
 * that it does not have. */
static void before_fork(void)
{
    pthread_mutex_lock(&list_lock);
    for (struct cache *c = list; c; c = c->next)
        pthread_mutex_lock(&c->lock);
}

static void after_fork(void)
{
    for (struct cache *c = list; c; c = c->next)
        pthread_mutex_unlock(&c->lock);
    pthread_mutex_unlock(&list_lock);
}

static void in_child(void)
{
    struct cache *next;
    for (struct cache *c = list; c; c = next) {
        next = c->next;
        pthread_mutex_init(&c->lock, NULL);
        if (c == mine)
            wipe_cache(c);
        else
            cache_free(c);
    }
    list = mine;
    if (mine)
        mine->prev = mine->next = NULL;
    pthread_mutex_init(&list_lock, NULL);
}

static void set_up(void)
{
    cipher = EVP_CIPHER_fetch(NULL, "AES-256-SIV", NULL);
    thread_end_ok = pthread_key_create(&thread_end, at_thread_end) == 0;
    pthread_atfork(before_fork, after_fork, in_child);
}

static struct cache *cache_new(void)
{
    struct cache *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    pthread_mutex_init(&c->lock, NULL);
    c->keys = locked_alloc(SLOTS * sizeof *c->keys);
    bool ok = c->keys && (c->work = EVP_CIPHER_CTX_new()) != NULL;
    for (int i = 0; i < SLOTS && ok; i++)
        ok = (c->keyed[i] = EVP_CIPHER_CTX_new()) != NULL;
    if (!ok || pthread_setspecific(thread_end, c) != 0) {
        cache_free(c);
        return NULL;
    }
    pthread_mutex_lock(&list_lock);
    c->next = list;
    if (list)
        list->prev = c;
    list = c;
    pthread_mutex_unlock(&list_lock);
    return c;
}

static struct cache *my_cache(void)
{
    if (mine)
        return mine;
    pthread_once(&once, set_up);
    if (cipher && thread_end_ok)
        mine = cache_new();
    return mine;
}

void siv_forget(void)
{
    pthread_mutex_lock(&list_lock);
    for (struct cache *c = list; c; c = c->next) {
        pthread_mutex_lock(&c->lock);
        wipe_cache(c);
        pthread_mutex_unlock(&c->lock);
    }
    pthread_mutex_unlock(&list_lock);
}

/* The context that holds key; loads it over the oldest slot when none does. */
static EVP_CIPHER_CTX *keyed_context(struct cache *c, const uint8_t *key)
{
    for (int i = 0; i < SLOTS; i++)
        if (c->keys[i].used && sodium_memcmp(c->keys[i].key, key, SIV_KEY_BYTES) == 0)
            return c->keyed[i];
    unsigned i = c->next_victim;
    c->next_victim = (i + 1) % SLOTS;
    c->keys[i].used = false;
    if (EVP_CipherInit_ex2(c->keyed[i], cipher, key, NULL, 1, NULL) != 1)
        return NULL;
    memcpy(c->keys[i].key, key, SIV_KEY_BYTES);
    c->keys[i].used = true;
    return c->keyed[i];
}

static bool load(struct cache *c, const uint8_t *key, int enc, const void *ad, size_t ad_len)
{
    int n;
    EVP_CIPHER_CTX *keyed = keyed_context(c, key);
    return keyed && EVP_CIPHER_CTX_copy(c->work, keyed) == 1 &&
           EVP_CipherInit_ex2(c->work, NULL, NULL, NULL, enc, NULL) == 1 &&
           EVP_CipherUpdate(c->work, NULL, &n, ad, (int)ad_len) == 1;
}

int siv_seal(const uint8_t key[static SIV_KEY_BYTES], const void *ad, size_t ad_len, const void *in,
             size_t len, uint8_t *out)
{
    struct cache *c = my_cache();
    int n;
    if (!c)
        return LFS_ERR_UNSUPPORTED;
    if (len == 0 || len > INT_MAX || ad_len == 0 || ad_len > INT_MAX)
        return LFS_ERR_MISUSE;
    pthread_mutex_lock(&c->lock);
    bool ok = load(c, key, 1, ad, ad_len) &&
              EVP_CipherUpdate(c->work, out + SIV_TAG, &n, in, (int)len) == 1 &&
              EVP_CIPHER_CTX_ctrl(c->work, EVP_CTRL_AEAD_GET_TAG, SIV_TAG, out) == 1;
    pthread_mutex_unlock(&c->lock);
    return ok ? 0 : LFS_ERR_MISUSE;
}

static bool open_locked(struct cache *c, const uint8_t *in, size_t len, uint8_t *out)
{
    uint8_t tag[SIV_TAG];
    int n;
    memcpy(tag, in, SIV_TAG); /* the call takes no const */
    return EVP_CIPHER_CTX_ctrl(c->work, EVP_CTRL_AEAD_SET_TAG, SIV_TAG, tag) == 1 &&
           EVP_CipherUpdate(c->work, out, &n, in + SIV_TAG, (int)len) == 1;
}

int siv_open(const uint8_t key[static SIV_KEY_BYTES], const void *ad, size_t ad_len, const uint8_t *in,
             size_t in_len, uint8_t *out)
{
    struct cache *c = my_cache();
    if (!c)
        return LFS_ERR_UNSUPPORTED;
    if (in_len < SIV_TAG || in_len > INT_MAX || ad_len == 0 || ad_len > INT_MAX)
        return LFS_ERR_MISUSE;
    if (in_len == SIV_TAG)
        return LFS_ERR_AUTH; /* siv_seal makes no empty messages */
    pthread_mutex_lock(&c->lock);
    bool loaded = load(c, key, 0, ad, ad_len);
    bool fits = loaded && open_locked(c, in, in_len - SIV_TAG, out);
    pthread_mutex_unlock(&c->lock);
    if (!fits)
        sodium_memzero(out, in_len - SIV_TAG);
    return fits ? 0 : loaded ? LFS_ERR_AUTH : LFS_ERR_MISUSE;
}
