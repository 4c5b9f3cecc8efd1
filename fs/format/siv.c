#include "fs/format/siv_key.h"

#include "latchfs/err.h"

#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

/* Loading a key costs many times what a name does, so every thread keeps a few that are loaded. All caches
 * hang on one list, so that siv_forget reaches those of other threads. */
#define SLOTS 4

struct cache {
    pthread_mutex_t lock;       /* guards all below; contended only by siv_forget and fork */
    struct siv_secret *secrets; /* in locked memory: after a fork all slots read as unused */
    struct siv_key slot[SLOTS];
    unsigned next_victim;
    struct cache *prev, *next; /* guarded by list_lock, which is taken before lock */
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static struct cache *list;
static pthread_key_t thread_end;
static bool thread_end_ok;
static __thread struct cache *mine;

static void wipe_cache(struct cache *c)
{
    for (int i = 0; i < SLOTS; i++)
        siv_key_wipe(&c->slot[i]);
}

static void cache_free(struct cache *c)
{
    for (int i = 0; i < SLOTS; i++)
        siv_key_clear(&c->slot[i]);
    locked_free(c->secrets);
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
    thread_end_ok = pthread_key_create(&thread_end, at_thread_end) == 0;
    pthread_atfork(before_fork, after_fork, in_child);
}

static struct cache *cache_new(void)
{
    struct cache *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    pthread_mutex_init(&c->lock, NULL);
    c->secrets = locked_alloc(SLOTS * sizeof *c->secrets);
    bool ok = c->secrets != NULL;
    for (int i = 0; i < SLOTS && ok; i++)
        ok = siv_key_init(&c->slot[i], &c->secrets[i]) == 0;
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
    if (thread_end_ok)
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

/* The slot that holds key; loads it over the oldest when none does. NULL: libcrypto can't. */
static struct siv_key *slot_of(struct cache *c, const uint8_t *key)
{
    for (int i = 0; i < SLOTS; i++)
        if (c->secrets[i].used && sodium_memcmp(c->secrets[i].key, key, SIV_KEY_BYTES) == 0)
            return &c->slot[i];
    struct siv_key *k = &c->slot[c->next_victim];
    c->next_victim = (c->next_victim + 1) % SLOTS;
    return siv_key_load(k, key) ? k : NULL;
}

static bool is_length(size_t len)
{
    return len > 0 && len <= SIV_LEN_MAX;
}

int siv_seal(const uint8_t key[static SIV_KEY_BYTES], const void *ad, size_t ad_len, const void *in,
             size_t len, uint8_t *out)
{
    struct cache *c = my_cache();
    if (!c)
        return LFS_ERR_UNSUPPORTED;
    if (!is_length(len) || !is_length(ad_len))
        return LFS_ERR_MISUSE;
    pthread_mutex_lock(&c->lock);
    struct siv_key *k = slot_of(c, key);
    bool ok = k && siv_key_seal(k, ad, ad_len, in, len, out);
    pthread_mutex_unlock(&c->lock);
    return ok ? 0 : LFS_ERR_MISUSE;
}

int siv_open(const uint8_t key[static SIV_KEY_BYTES], const void *ad, size_t ad_len, const uint8_t *in,
             size_t in_len, uint8_t *out)
{
    struct cache *c = my_cache();
    bool fits = false;
    if (!c)
        return LFS_ERR_UNSUPPORTED;
    if (in_len < SIV_TAG || in_len > SIV_TAG + SIV_LEN_MAX || !is_length(ad_len))
        return LFS_ERR_MISUSE;
    if (in_len == SIV_TAG)
        return LFS_ERR_AUTH; /* siv_seal makes no empty messages */
    pthread_mutex_lock(&c->lock);
    struct siv_key *k = slot_of(c, key);
    bool ok = k && siv_key_open(k, ad, ad_len, in, in_len - SIV_TAG, out, &fits);
    pthread_mutex_unlock(&c->lock);
    if (!fits)
        sodium_memzero(out, in_len - SIV_TAG);
    return fits ? 0 : ok ? LFS_ERR_AUTH : LFS_ERR_MISUSE;
}
