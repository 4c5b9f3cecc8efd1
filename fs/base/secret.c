#include "latchfs/secret.h"

#include <errno.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

/* Blocks of powers of two from 64 bytes to SLAB_BYTES, carved from locked slabs, one free list per class.
 * The class stands in the 16 bytes before the block. */
#define SLAB_BYTES (128u * 1024)
#define MIN_SHIFT 6
#define CLASSES 12 /* 64 B .. 128 KiB */
#define HEAD 16

struct block {
    uint32_t class;
    uint32_t pad;
    struct block *next; /* while free */
};

struct secret {
    size_t len;
    uint8_t bytes[];
};

static pthread_mutex_t arena_lock = PTHREAD_MUTEX_INITIALIZER;
static struct block *free_list[CLASSES];
static uint8_t *slab_at;
static size_t slab_left;
static bool lock_failed;

static bool new_slab(void)
{
    void *p = mmap(NULL, SLAB_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return false;
    if (mlock(p, SLAB_BYTES))
        lock_failed = true;
    madvise(p, SLAB_BYTES, MADV_DONTDUMP);
    madvise(p, SLAB_BYTES, MADV_WIPEONFORK);
    slab_at = p;
    slab_left = SLAB_BYTES;
    return true;
}

static struct block *carve(unsigned class)
{
    size_t size = (size_t)1 << (class + MIN_SHIFT);
    if (free_list[class]) {
        struct block *b = free_list[class];
        free_list[class] = b->next;
        return b;
    }
    if (slab_left < size && !new_slab())
        return NULL;
    struct block *b = (struct block *)(void *)slab_at;
    slab_at += size;
    slab_left -= size;
    return b;
}

void *locked_alloc(size_t len)
{
    unsigned class = 0;
    while (class < CLASSES && ((size_t)1 << (class + MIN_SHIFT)) < len + HEAD)
        class ++;
    if (class == CLASSES)
        return NULL;
    pthread_mutex_lock(&arena_lock);
    struct block *b = carve(class);
    pthread_mutex_unlock(&arena_lock);
    if (!b)
        return NULL;
    b->class = class;
    b->next = NULL;
    return memset((uint8_t *)b + HEAD, 0, len);
}

void locked_free(void *p)
{
    if (!p)
        return;
    struct block *b = (struct block *)(void *)((uint8_t *)p - HEAD);
    sodium_memzero(p, ((size_t)1 << (b->class + MIN_SHIFT)) - HEAD);
    pthread_mutex_lock(&arena_lock);
    b->next = free_list[b->class];
    free_list[b->class] = b;
    pthread_mutex_unlock(&arena_lock);
}

struct secret *secret_new(size_t len)
{
    if (len == 0 || len > 65536)
        return NULL;
    struct secret *s = locked_alloc(sizeof *s + len);
    if (s)
        s->len = len;
    return s;
}

struct secret *secret_new_copy(const void *data, size_t len)
{
    struct secret *s = secret_new(len);
    if (s)
        memcpy(s->bytes, data, len);
    return s;
}

struct secret *secret_new_random(size_t len)
{
    struct secret *s = secret_new(len);
    if (s)
        randombytes_buf(s->bytes, len);
    return s;
}

void secret_free(struct secret *s)
{
    locked_free(s);
}

void secret_freep(struct secret **s)
{
    secret_free(*s);
    *s = NULL;
}

uint8_t *secret_bytes(struct secret *s)
{
    return s->bytes;
}

const uint8_t *secret_const(const struct secret *s)
{
    return s->bytes;
}

size_t secret_len(const struct secret *s)
{
    return s->len;
}

bool secret_equal(const struct secret *a, const struct secret *b)
{
    return a->len == b->len && sodium_memcmp(a->bytes, b->bytes, a->len) == 0;
}

int secret_harden_process(void)
{
    struct rlimit none = {0, 0};
    if (sodium_init() < 0)
        return -EIO;
    if (setrlimit(RLIMIT_CORE, &none) || prctl(PR_SET_DUMPABLE, 0))
        return -errno;
    return 0;
}

bool secret_memory_is_locked(void)
{
    return !lock_failed;
}
