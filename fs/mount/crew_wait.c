#include "fs/mount/crew_int.h"
#include "fs/mount/parking.h"

#include <time.h>

/* How long crew_reserve waits each time for threads that are in a request. */
#define TURN_MS 30

void crew_wait_init(struct crew *c)
{
    c->last = &c->first;
    c->most = parking_bytes_max();
}

void crew_wait_clear(struct crew *c)
{
    for (struct ring_entry *e; (e = c->first);) {
        c->first = e->next;
        ring_entry_wipe(e);
        ring_entry_free(e);
    }
}

static size_t weight(const struct ring_entry *e)
{
    return sizeof *e + sizeof *e->headers + e->headers->payload_bytes;
}

static bool append(struct crew *c, struct ring_entry *e)
{
    pthread_mutex_lock(&c->lock);
    bool room = weight(e) <= c->most - c->bytes;
    if (room) {
        e->next = NULL;
        *c->last = e;
        c->last = &e->next;
        c->bytes += weight(e);
        atomic_fetch_add(&c->waiting, 1);
    }
    pthread_mutex_unlock(&c->lock);
    return room;
}

static struct ring_entry *take(struct crew *c)
{
    pthread_mutex_lock(&c->lock);
    struct ring_entry *e = c->first;
    if (e) {
        c->first = e->next;
        if (!c->first)
            c->last = &c->first;
        c->bytes -= weight(e);
        atomic_fetch_sub(&c->waiting, 1);
    }
    pthread_mutex_unlock(&c->lock);
    return e;
}

/* The kernel hands a request that found no entry only to an entry whose answer it gets (6.18), not to one
 * that is added then. So a queue keeps as many as may be asked for before a thread gets to add one. */
static unsigned reserve_of(const struct crew_plan *p)
{
    return p->per_home * CREW_RESERVE;
}

static void add(struct hand *h, struct ring_entry *e)
{
    hand_own(h, e);
    atomic_fetch_add(&h->crew->spread, 1);
    atomic_fetch_add(&h->crew->free[e->queue], 1);
    ring_register(h->ring, h->crew->of.fd, e);
}

bool crew_wait_put(struct hand *h, struct ring_entry *e)
{
    _Atomic unsigned *left = &h->crew->free[e->queue];
    struct ring_entry *fresh = NULL;
    bool put = atomic_fetch_sub(left, 1) > reserve_of(&h->crew->plan) || !ring_entry_new(e->queue, &fresh);
    unsigned queue = e->queue;
    if (put) {
        hand_disown(h, e);
        put = append(h->crew, e); /* from here on it may be another's */
        if (!put)
            hand_own(h, e);
    }
    if (!put) {
        atomic_fetch_add(&h->crew->free[queue], 1);
        ring_entry_free(fresh);
    } else if (fresh) {
        add(h, fresh);
    }
    return put;
}

/* So many that all are taken by somebody, and one thread does not end up with most of them. */
static bool may_take(const struct hand *h)
{
    return h->owned <= atomic_load(&h->crew->spread) / h->crew->count;
}

void crew_wait_answer(struct hand *h)
{
    struct crew *c = h->crew;
    while (atomic_load(&c->waiting) && may_take(h) && request_try_change(&c->of)) {
        struct ring_entry *e = take(c);
        if (e) {
            hand_own(h, e);
            atomic_fetch_add(&c->free[e->queue], 1);
            hand_answer(h, e, true);
        }
        request_end_change(&c->of);
        hand_settle(h);
    }
}

/* ---- entries for many that wait ---- */

/* Without memory for one there is one less. */
static void make_one(struct hand *h)
{
    struct ring_entry *e;
    if (ring_entry_new(crew_plan_home(&h->crew->plan, h->number), &e))
        return;
    add(h, e);
    hand_settle(h);
}

/* A thread that comes late makes all that it missed. */
void crew_wait_reserve(struct hand *h)
{
    struct crew *c = h->crew;
    unsigned more = atomic_load(&c->reserve) - h->reserved;
    if (!more)
        return;
    for (unsigned i = 0; i < more; i++)
        make_one(h);
    h->reserved += more;
    pthread_mutex_lock(&c->lock);
    c->reserved += more;
    pthread_cond_signal(&c->reported);
    pthread_mutex_unlock(&c->lock);
}

/* Every thread has had its turn, or the time is over. */
static void await_turn(struct crew *c)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += TURN_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    int r = 0;
    pthread_mutex_lock(&c->lock);
    while (!r && c->reserved < c->count * atomic_load(&c->reserve))
        r = pthread_cond_clockwait(&c->reported, &c->lock, CLOCK_MONOTONIC, &until);
    pthread_mutex_unlock(&c->lock);
}

/* The kernel takes the entry that was given last. One of each thread in turn: else those of one thread would
 * lie together, and what comes at once would be answered one after the other. */
void crew_reserve(struct crew *c)
{
    while (c && atomic_load(&c->reserve) < CREW_RESERVE) {
        atomic_fetch_add(&c->reserve, 1);
        crew_wake(c);
        await_turn(c);
    }
}
