#include "fs/mount/wiping.h"

#include "latchfs/err.h"

#include <time.h>

#define DEADLINE_S 20

void wiping_init(struct wiping *w)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&w->followed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&w->lock, NULL);
    atomic_init(&w->order, 0);
    w->first = NULL;
}

void wiping_clear(struct wiping *w)
{
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->followed);
}

void wiping_join(struct wiping *w, struct wiper *one)
{
    pthread_mutex_lock(&w->lock);
    one->wiped = atomic_load(&w->order);
    one->next = w->first;
    w->first = one;
    pthread_mutex_unlock(&w->lock);
}

void wiping_leave(struct wiping *w, struct wiper *one)
{
    pthread_mutex_lock(&w->lock);
    struct wiper **at = &w->first;
    while (*at != one)
        at = &(*at)->next;
    *at = one->next;
    pthread_cond_signal(&w->followed);
    pthread_mutex_unlock(&w->lock);
}

uint64_t wiping_order(struct wiping *w)
{
    return atomic_fetch_add(&w->order, 1) + 1;
}

static bool all_followed(const struct wiping *w, uint64_t order)
{
    for (const struct wiper *one = w->first; one; one = one->next)
        if (one->wiped < order)
            return false;
    return true;
}

int wiping_wait(struct wiping *w, uint64_t order)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += DEADLINE_S;
    int err = 0;
    pthread_mutex_lock(&w->lock);
    while (!err && !all_followed(w, order))
        err = pthread_cond_timedwait(&w->followed, &w->lock, &until);
    pthread_mutex_unlock(&w->lock);
    return err ? LFS_ERR_TIMEOUT : 0;
}

bool wiping_is_due(const struct wiping *w, const struct wiper *one, uint64_t *order)
{
    *order = atomic_load(&w->order);
    return *order != one->wiped;
}

void wiping_followed(struct wiping *w, struct wiper *one, uint64_t order)
{
    pthread_mutex_lock(&w->lock);
    one->wiped = order;
    pthread_cond_signal(&w->followed);
    pthread_mutex_unlock(&w->lock);
}
