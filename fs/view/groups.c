#include "fs/view/groups.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define PLACES 24u /* of half a megabyte; more than there are workers */

enum state { EMPTY, MAKING, READY };

struct place {
    struct group g; /* first, so that a group leads to its place */
    enum state state;
    unsigned held;
    uint64_t used;
};

struct groups {
    pthread_mutex_t lock; /* guards the states of all places; an image belongs to who makes or holds it */
    pthread_cond_t changed;
    uint64_t clock;
    struct place places[PLACES];
};

struct stamp stamp_of(const struct stat *st)
{
    return (struct stamp){.dev = st->st_dev,
                          .ino = st->st_ino,
                          .size = (uint64_t)st->st_size,
                          .mtime = st->st_mtim,
                          .ctime = st->st_ctim};
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

bool stamp_same(const struct stamp *a, const struct stamp *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->size == b->size && same_time(&a->mtime, &b->mtime) &&
           same_time(&a->ctime, &b->ctime);
}

static bool same_key(const struct group_key *a, const struct group_key *b)
{
    return a->group == b->group && a->owner == b->owner && a->size == b->size &&
           a->dir_version == b->dir_version && memcmp(a->id, b->id, ID_BYTES) == 0 &&
           stamp_same(&a->stamp, &b->stamp);
}

struct groups *groups_new(void)
{
    struct groups *g = calloc(1, sizeof *g);
    if (!g)
        return NULL;
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->changed, NULL);
    return g;
}

void groups_free(struct groups *g)
{
    if (!g)
        return;
    for (unsigned i = 0; i < PLACES; i++)
        free(g->places[i].g.image);
    pthread_cond_destroy(&g->changed);
    pthread_mutex_destroy(&g->lock);
    free(g);
}

static struct place *find(struct groups *g, const struct group_key *key)
{
    for (unsigned i = 0; i < PLACES; i++)
        if (g->places[i].state != EMPTY && same_key(&g->places[i].g.key, key))
            return &g->places[i];
    return NULL;
}

static struct place *oldest(struct groups *g)
{
    struct place *best = NULL;
    for (unsigned i = 0; i < PLACES; i++) {
        struct place *p = &g->places[i];
        if (p->state != MAKING && !p->held && (!best || p->state == EMPTY || p->used < best->used))
            best = p;
        if (best && best->state == EMPTY)
            break;
    }
    return best;
}

/* With memory for its image, or NULL: every place is in use, or memory is out. */
static struct place *take_place(struct groups *g, const struct group_key *key)
{
    struct place *p = oldest(g);
    if (!p)
        return NULL;
    if (!p->g.image)
        p->g.image = malloc(GROUP_BYTES);
    p->state = p->g.image ? MAKING : EMPTY;
    p->g.key = *key;
    return p->g.image ? p : NULL;
}

struct group *groups_get(struct groups *g, const struct group_key *key, struct group **make)
{
    struct place *p, *mine = NULL;
    pthread_mutex_lock(&g->lock);
    while ((p = find(g, key)) && p->state == MAKING)
        pthread_cond_wait(&g->changed, &g->lock);
    if (p) {
        p->held++;
        p->used = ++g->clock;
    } else if (make) {
        mine = take_place(g, key);
    }
    pthread_mutex_unlock(&g->lock);
    if (make)
        *make = mine ? &mine->g : NULL;
    return p ? &p->g : NULL;
}

void groups_made(struct groups *g, struct group *made, uint64_t owner, bool ok)
{
    struct place *p = (struct place *)made;
    pthread_mutex_lock(&g->lock);
    p->state = ok ? READY : EMPTY;
    p->held = ok;
    p->g.key.owner = owner;
    p->used = ++g->clock;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

void groups_put(struct groups *g, struct group *held)
{
    struct place *p = (struct place *)held;
    pthread_mutex_lock(&g->lock);
    p->held--;
    pthread_mutex_unlock(&g->lock);
}
