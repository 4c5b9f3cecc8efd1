#include "fs/view/longnames.h"

#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define PLACES 16384u /* a power of two; at most 5 MiB in all */

struct place {
    uint8_t key[16]; /* of directory and stored name */
    char *plain;     /* NULL: empty */
};

struct longnames {
    pthread_mutex_t lock; /* guards places */
    uint8_t salt[16];     /* places of names are not to be had by choosing names */
    struct place places[PLACES];
};

struct longnames *longnames_new(void)
{
    struct longnames *l = calloc(1, sizeof *l);
    if (!l)
        return NULL;
    pthread_mutex_init(&l->lock, NULL);
    randombytes_buf(l->salt, sizeof l->salt);
    return l;
}

void longnames_free(struct longnames *l)
{
    if (!l)
        return;
    for (size_t i = 0; i < PLACES; i++)
        free(l->places[i].plain);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

static struct place *place_of(struct longnames *l, const uint8_t *dir_id, const char *stored,
                              uint8_t key[static 16])
{
    crypto_generichash_state st;
    crypto_generichash_init(&st, l->salt, sizeof l->salt, 16);
    crypto_generichash_update(&st, dir_id, ID_BYTES);
    crypto_generichash_update(&st, (const uint8_t *)stored, strlen(stored));
    crypto_generichash_final(&st, key, 16);
    return &l->places[(key[0] | key[1] << 8) & (PLACES - 1)];
}

void longnames_note(struct longnames *l, const uint8_t dir_id[static ID_BYTES], const char *stored,
                    const char *plain)
{
    uint8_t key[16];
    struct place *p = place_of(l, dir_id, stored, key);
    pthread_mutex_lock(&l->lock);
    if (!p->plain || memcmp(p->key, key, sizeof key) != 0) {
        free(p->plain);
        p->plain = strdup(plain);
        memcpy(p->key, key, sizeof key);
    }
    pthread_mutex_unlock(&l->lock);
}

bool longnames_find(struct longnames *l, const uint8_t dir_id[static ID_BYTES], const char *stored,
                    char plain[static NAME_PLAIN_MAX + 1])
{
    uint8_t key[16];
    struct place *p = place_of(l, dir_id, stored, key);
    pthread_mutex_lock(&l->lock);
    bool found = p->plain && memcmp(p->key, key, sizeof key) == 0;
    if (found)
        strcpy(plain, p->plain);
    pthread_mutex_unlock(&l->lock);
    return found;
}
