/* Workers, and the bounded queue of files before them. Jobs are taken in the order of the walk; the place of
 * the check is behind the last of those that are done without a gap. */
#include "fs/store/check_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WORKERS_DEFAULT 2u
#define WORKERS_MAX 8u
#define SLOTS 64u

struct slot {
    struct check_job job;
    char *position;            /* malloc'ed, NULL when memory was out */
    struct check_progress sum; /* of it, and of what the walk passed before and behind it */
    bool done;
};

struct check_queue {
    struct check *c;
    pthread_mutex_t lock; /* guards all that follows; check.lock may be taken inside */
    pthread_cond_t changed;
    struct slot slot[SLOTS];
    size_t first, next, end;       /* [first, next) are taken, [next, end) wait; all modulo SLOTS */
    char *place;                   /* what was done without a gap, */
    struct check_progress settled; /* and how much that was */
    bool finish;
    unsigned threads;
    pthread_t thread[WORKERS_MAX];
};

static struct slot *slot_at(struct check_queue *q, size_t i)
{
    return &q->slot[i % SLOTS];
}

/* The first ones that are done go. The place that is new then, for the caller to tell and free. */
static char *retire(struct check_queue *q, struct check_progress *settled)
{
    bool moved = false;
    while (q->first < q->next && slot_at(q, q->first)->done) {
        struct slot *s = slot_at(q, q->first++);
        check_progress_sum(&q->settled, &s->sum);
        if (s->position) {
            free(q->place);
            q->place = s->position;
            moved = true;
        }
        *s = (struct slot){0};
    }
    *settled = q->settled;
    pthread_cond_broadcast(&q->changed);
    return moved ? strdup(q->place) : NULL;
}

static void tell_place(struct check *c, char *where, const struct check_progress *settled)
{
    if (where)
        check_place(c, where, settled, false);
    free(where);
}

/* What was not done in a run that ends early is no place to have come to. */
static void work(struct check_queue *q, size_t i)
{
    struct check_job job = slot_at(q, i)->job;
    struct check_progress own = {0}, settled;
    pthread_mutex_unlock(&q->lock);
    check_count_for(&own);
    bool done = check_file_job(q->c, &job);
    check_count_for(NULL);
    pthread_mutex_lock(&q->lock);
    check_progress_sum(&slot_at(q, i)->sum, &own);
    slot_at(q, i)->done = done;
    char *where = done ? retire(q, &settled) : NULL;
    pthread_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->lock);
    tell_place(q->c, where, &settled);
    pthread_mutex_lock(&q->lock);
}

static void *run(void *arg)
{
    struct check_queue *q = arg;
    pthread_mutex_lock(&q->lock);
    for (;;) {
        if (q->next < q->end)
            work(q, q->next++);
        else if (q->finish)
            break;
        else
            pthread_cond_wait(&q->changed, &q->lock);
    }
    pthread_mutex_unlock(&q->lock);
    return NULL;
}

int queue_start(struct check *c)
{
    unsigned want = c->o->workers ? c->o->workers : WORKERS_DEFAULT;
    struct check_queue *q = calloc(1, sizeof *q);
    if (!q)
        return -ENOMEM;
    q->c = c;
    c->q = q;
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->changed, NULL);
    int r = 0;
    for (want = want < WORKERS_MAX ? want : WORKERS_MAX; !r && q->threads < want; q->threads += !r)
        r = -pthread_create(&q->thread[q->threads], NULL, run, q);
    return q->threads ? 0 : r;
}

/* What the walk counted since the last time goes to the slot. */
static void take_walked(struct check *c, struct check_progress *sum)
{
    check_progress_sum(sum, &c->walked);
    c->walked = (struct check_progress){0};
}

/* After a stop slots stay taken for ever, so a full queue must not be waited for then. */
void queue_push(struct check *c, const struct check_job *job, char *position)
{
    struct check_queue *q = c->q;
    pthread_mutex_lock(&q->lock);
    while (q->end - q->first == SLOTS && (q->next < q->end || !check_stopped(c)))
        pthread_cond_wait(&q->changed, &q->lock);
    bool room = q->end - q->first < SLOTS;
    if (room) {
        struct slot *s = slot_at(q, q->end++);
        *s = (struct slot){.job = *job, .position = position};
        take_walked(c, &s->sum);
    }
    pthread_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->lock);
    if (!room) {
        free(position);
        check_file_job(c, job); /* which only lets go of it */
    }
}

void queue_settle(struct check *c)
{
    struct check_queue *q = c->q;
    pthread_mutex_lock(&q->lock);
    take_walked(c, q->first < q->end ? &slot_at(q, q->end - 1)->sum : &q->settled);
    pthread_mutex_unlock(&q->lock);
}

void queue_passed(struct check *c, const char *position)
{
    struct check_queue *q = c->q;
    char *copy = strdup(position), *where = NULL, *old;
    pthread_mutex_lock(&q->lock);
    struct slot *last = q->first < q->end ? slot_at(q, q->end - 1) : NULL;
    char **at = last ? &last->position : &q->place;
    take_walked(c, last ? &last->sum : &q->settled);
    struct check_progress settled = q->settled;
    old = *at;
    if (copy)
        *at = copy;
    if (copy && !last)
        where = strdup(copy);
    pthread_mutex_unlock(&q->lock);
    if (copy)
        free(old);
    tell_place(c, where, &settled);
}

void queue_finish(struct check *c)
{
    struct check_queue *q = c->q;
    if (!q)
        return;
    pthread_mutex_lock(&q->lock);
    q->finish = true;
    pthread_cond_broadcast(&q->changed);
    pthread_mutex_unlock(&q->lock);
    for (unsigned i = 0; i < q->threads; i++)
        pthread_join(q->thread[i], NULL);
    if (q->place)
        check_place(c, q->place, &q->settled, true);
    for (size_t i = 0; i < SLOTS; i++)
        free(q->slot[i].position);
    free(q->place);
    pthread_mutex_destroy(&q->lock);
    pthread_cond_destroy(&q->changed);
    free(q);
    c->q = NULL;
}
