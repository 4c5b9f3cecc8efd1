#include "fs/mount/crew.h"

#include "fs/mount/crew_int.h"
#include "latchfs/buf.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>

_Static_assert(RING_PAYLOAD_BYTES >= REQUEST_BYTES_MAX, "the kernel asks for it");

void hand_own(struct hand *h, struct ring_entry *e)
{
    e->next = h->entries;
    h->entries = e;
    h->owned++;
}

void hand_disown(struct hand *h, struct ring_entry *e)
{
    struct ring_entry **at = &h->entries;
    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
    h->owned--;
}

/* ---- what is needed before INIT ---- */

static int add_entry(struct hand *h, unsigned queue)
{
    struct ring_entry *e;
    int r = ring_entry_new(queue, &e);
    if (r)
        return r;
    hand_own(h, e);
    atomic_fetch_add(&h->crew->spread, 1);
    atomic_fetch_add(&h->crew->free[queue], 1);
    return 0;
}

static int hand_init(struct hand *h, struct crew *c, unsigned number)
{
    *h = (struct hand){.crew = c, .number = number, .wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    int r = h->wake < 0 ? -errno : ring_new(&h->ring);
    for (unsigned q = 0; q < c->plan.queues && !r; q++)
        if (crew_plan_serves(&c->plan, number, q))
            r = add_entry(h, q);
    return r;
}

static void hand_clear(struct hand *h)
{
    ring_free(h->ring);
    for (struct ring_entry *e; (e = h->entries);) {
        h->entries = e->next;
        ring_entry_free(e);
    }
    lfs_close_fd(&h->wake);
}

static int make_hands(struct crew *c)
{
    unsigned n = crew_plan_threads(&c->plan);
    int r = 0;
    c->hands = calloc(n, sizeof *c->hands);
    c->free = calloc(c->plan.queues, sizeof *c->free);
    if (!c->hands || !c->free)
        return -ENOMEM;
    for (; c->count < n && !r; c->count++)
        r = hand_init(&c->hands[c->count], c, c->count);
    return r;
}

int crew_new(struct crew **out)
{
    struct crew *c = calloc(1, sizeof *c);
    if (!c)
        return -ENOMEM;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->reported, NULL);
    crew_wait_init(c);
    int r = crew_plan_here(&c->plan);
    if (!r)
        r = make_hands(c);
    if (r)
        crew_free(c);
    else
        *out = c;
    return r;
}

/* ---- threads ---- */

void crew_report(struct crew *c, int err)
{
    pthread_mutex_lock(&c->lock);
    c->reports++;
    if (err && !c->failed)
        c->failed = err;
    pthread_cond_signal(&c->reported);
    pthread_mutex_unlock(&c->lock);
}

static int start_next(struct crew *c)
{
    struct hand *h = &c->hands[c->started];
    wiping_join(c->wiping, &h->wiper);
    int err = pthread_create(&h->thread, NULL, hand_run, h);
    if (err)
        wiping_leave(c->wiping, &h->wiper);
    else
        c->started++;
    return -err;
}

static int all_reported(struct crew *c)
{
    pthread_mutex_lock(&c->lock);
    while (c->reports < c->started)
        pthread_cond_wait(&c->reported, &c->lock);
    int r = c->failed;
    pthread_mutex_unlock(&c->lock);
    return r;
}

/* The first one alone: as long as a queue has no entry, the kernel may still refuse without harm. */
int crew_start(struct crew *c, const struct workers_of *of, struct wiping *wiping)
{
    c->of = *of;
    c->wiping = wiping;
    int r = start_next(c);
    if (!r)
        r = all_reported(c);
    while (!r && c->started < c->count)
        r = start_next(c);
    int failed = all_reported(c);
    return r ? r : failed;
}

void crew_wake(struct crew *c)
{
    for (unsigned i = 0; c && i < c->started; i++)
        eventfd_write(c->hands[i].wake, 1);
}

void crew_free(struct crew *c)
{
    if (!c)
        return;
    for (unsigned i = 0; i < c->started; i++)
        pthread_join(c->hands[i].thread, NULL);
    for (unsigned i = 0; i < c->count; i++)
        hand_clear(&c->hands[i]);
    crew_wait_clear(c);
    pthread_cond_destroy(&c->reported);
    pthread_mutex_destroy(&c->lock);
    free(c->hands);
    free(c->free);
    free(c);
}
