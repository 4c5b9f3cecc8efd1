#include "latchfs/name.h"

#include "latchfs/err.h"

#include <gcrypt.h>
#include <limits.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

/* Loading a key costs more than a message. So every thread keeps a few handles of libgcrypt that have one.
 * All caches hang on one list, so that siv_forget reaches those of other threads. */
#define SLOTS 4
#define SIV_TAG 16
#define GCRYPT_MIN "1.10.0" /* the first that has SIV */

struct slot_key { /* in locked memory: after a fork all slots read as unused */
    bool used;
    uint8_t key[SIV_KEY_BYTES];
};

struct cache {
    pthread_mutex_t lock; /* guards all below; contended only by siv_forget and fork */
    struct slot_key *keys;
    gcry_cipher_hd_t keyed[SLOTS]; /* NULL: none yet */
    unsigned next_victim;
    struct cache *prev, *next; /* guarded by list_lock, which is taken before lock */
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static struct cache *list;
static pthread_key_t thread_end;
static bool usable;
static __thread struct cache *mine;

static void wipe_cache(struct cache *c)
{
    sodium_memzero(c->keys, SLOTS * sizeof *c->keys);
    for (int i = 0; i < SLOTS; i++) {
        gcry_cipher_close(c->keyed[i]); /* wipes the key schedule */
        c->keyed[i] = NULL;
    }
}

static void cache_free(struct cache *c)
{
    for (int i = 0; i < SLOTS; i++)
        gcry_cipher_close(c->keyed[i]);
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
    /* The cache guards its keys itself; libgcrypt's locked pool is small and would be a second one. */
    usable = gcry_check_version(GCRYPT_MIN) != NULL && !gcry_control(GCRYCTL_DISABLE_SECMEM, 0) &&
             !gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0) &&
             pthread_key_create(&thread_end, at_thread_end) == 0;
    pthread_atfork(before_fork, after_fork, in_child);
}

static struct cache *cache_new(void)
{
    struct cache *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    pthread_mutex_init(&c->lock, NULL);
    c->keys = locked_alloc(SLOTS * sizeof *c->keys);
    if (!c->keys || pthread_setspecific(thread_end, c) != 0) {
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
    if (usable)
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

/* No branch depends on the keys, and eight bytes at a time: it is done for each name. */
static bool same_key(const uint8_t a[static SIV_KEY_BYTES], const uint8_t b[static SIV_KEY_BYTES])
{
    uint64_t x, y, differ = 0;
    for (size_t i = 0; i < SIV_KEY_BYTES; i += sizeof x) {
        memcpy(&x, a + i, sizeof x);
        memcpy(&y, b + i, sizeof y);
        differ |= x ^ y;
    }
    return differ == 0;
}
/* The handle that holds key; loads it over the oldest slot when none does. */
static gcry_cipher_hd_t keyed_handle(struct cache *c, const uint8_t *key)
{
    for (int i = 0; i < SLOTS; i++)
        if (c->keys[i].used && same_key(c->keys[i].key, key))
            return c->keyed[i];
    unsigned i = c->next_victim;
    c->next_victim = (i + 1) % SLOTS;
    c->keys[i].used = false;
    if (!c->keyed[i] && gcry_cipher_open(&c->keyed[i], GCRY_CIPHER_AES256, GCRY_CIPHER_MODE_SIV, 0))
        return NULL;
    if (gcry_cipher_setkey(c->keyed[i], key, SIV_KEY_BYTES))
        return NULL;
    memcpy(c->keys[i].key, key, SIV_KEY_BYTES);
    c->keys[i].used = true;
    return c->keyed[i];
}

/* A handle at the beginning of a message, after its associated data; NULL if that fails. */
static gcry_cipher_hd_t begin(struct cache *c, const uint8_t *key, const void *ad, size_t ad_len)
{
    gcry_cipher_hd_t h = keyed_handle(c, key);
    return h && !gcry_cipher_reset(h) && !gcry_cipher_authenticate(h, ad, ad_len) ? h : NULL;
}

int siv_seal(const uint8_t key[static SIV_KEY_BYTES], const void *ad, size_t ad_len, const void *in,
             size_t len, uint8_t *out)
{
    struct cache *c = my_cache();
    if (!c)
        return LFS_ERR_UNSUPPORTED;
    if (len == 0 || len > INT_MAX || ad_len == 0 || ad_len > INT_MAX)
        return LFS_ERR_MISUSE;
    pthread_mutex_lock(&c->lock);
    gcry_cipher_hd_t h = begin(c, key, ad, ad_len);
    bool ok =
        h && !gcry_cipher_encrypt(h, out + SIV_TAG, len, in, len) && !gcry_cipher_gettag(h, out, SIV_TAG);
    pthread_mutex_unlock(&c->lock);
    return ok ? 0 : LFS_ERR_MISUSE;
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
    size_t len = in_len - SIV_TAG;
    pthread_mutex_lock(&c->lock);
    gcry_cipher_hd_t h = begin(c, key, ad, ad_len);
    uint8_t tag[SIV_TAG]; /* libgcrypt's macro takes no constant */
    memcpy(tag, in, sizeof tag);
    bool fits = h && !gcry_cipher_set_decryption_tag(h, tag, sizeof tag) &&
                !gcry_cipher_decrypt(h, out, len, in + SIV_TAG, len);
    pthread_mutex_unlock(&c->lock);
    if (!fits)
        sodium_memzero(out, len);
    return fits ? 0 : h ? LFS_ERR_AUTH : LFS_ERR_MISUSE;
}
