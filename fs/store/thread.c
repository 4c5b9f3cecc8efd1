/* What every worker thread keeps for itself. */
#include "fs/store/volume.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct thread_state {
    struct aead *aead;
    uint8_t *scratch;
    struct record inline_record; /* of length 0: nothing is kept */
    uint8_t inline_cipher[INLINE_MAX];
};

static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void state_free(void *p)
{
    struct thread_state *t = p;
    aead_free(t->aead);
    if (t->scratch)
        munmap(t->scratch, SCRATCH_BYTES);
    free(t);
}

static void make_key(void)
{
    pthread_key_create(&key, state_free);
}

static struct thread_state *state(void)
{
    pthread_once(&once, make_key);
    struct thread_state *t = pthread_getspecific(key);
    if (!t) {
        t = calloc(1, sizeof *t);
        if (t && pthread_setspecific(key, t)) {
            free(t);
            t = NULL;
        }
    }
    return t;
}

struct aead *thread_aead(void)
{
    struct thread_state *t = state();
    if (t && !t->aead)
        t->aead = aead_new();
    return t ? t->aead : NULL;
}

uint8_t *thread_scratch(void)
{
    struct thread_state *t = state();
    if (!t || t->scratch)
        return t ? t->scratch : NULL;
    void *at = mmap(NULL, SCRATCH_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return NULL;
    return t->scratch = at;
}

void thread_keep_inline(const struct record *rec, const uint8_t *cipher)
{
    struct thread_state *t = rec->length <= INLINE_MAX ? state() : NULL;
    if (!t)
        return;
    t->inline_record = *rec;
    memcpy(t->inline_cipher, cipher, rec->length);
}

static bool is_same(const struct record *a, const struct record *b)
{
    return a->length == b->length && a->epoch == b->epoch && memcmp(a->nonce, b->nonce, NONCE_BYTES) == 0 &&
           memcmp(a->tag, b->tag, TAG_BYTES) == 0;
}

bool thread_take_inline(const struct record *rec, uint8_t *cipher)
{
    struct thread_state *t = state();
    if (!t || !rec->length || !is_same(rec, &t->inline_record))
        return false;
    memcpy(cipher, t->inline_cipher, rec->length);
    t->inline_record = (struct record){0};
    return true;
}

void volume_wipe_thread(void)
{
    pthread_once(&once, make_key);
    struct thread_state *t = pthread_getspecific(key);
    if (!t)
        return;
    aead_free(t->aead); /* what a context keeps of the last message goes too */
    t->aead = NULL;
    if (t->scratch && madvise(t->scratch, SCRATCH_BYTES, MADV_DONTNEED)) /* else it is all zero now */
        sodium_memzero(t->scratch, SCRATCH_BYTES);
}

void thread_forget_key(void)
{
    struct aead *a = thread_aead();
    if (a)
        aead_clear_key(a);
}
