#include "latchfs/aside.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <time.h>

#define SECOND_NS UINT64_C(1000000000)

struct question {
    struct aside *kind;
    void *arg; /* NULL: the caller has it again */
    sem_t done;
    atomic_int owners; /* the last one frees it */
};

static void put(struct question *q)
{
    if (atomic_fetch_sub(&q->owners, 1) > 1)
        return;
    if (q->arg)
        q->kind->drop(q->arg);
    sem_destroy(&q->done);
    free(q);
}

static void *run(void *arg)
{
    struct question *q = arg;
    struct aside *kind = q->kind;
    kind->ask(q->arg);
    sem_post(&q->done);
    put(q);
    atomic_fetch_sub(&kind->asking, 1);
    return NULL;
}

static bool begin(struct question *q)
{
    pthread_t thread;
    if (atomic_fetch_add(&q->kind->asking, 1) < ASIDE_LEFT_MAX &&
        pthread_create(&thread, NULL, run, q) == 0) {
        pthread_detach(thread);
        return true;
    }
    atomic_fetch_sub(&q->kind->asking, 1);
    atomic_store(&q->owners, 1);
    return false;
}

static bool wait_for(struct question *q, uint64_t deadline_ns)
{
    struct timespec until;
    int r;
    clock_gettime(CLOCK_MONOTONIC, &until);
    uint64_t ns = (uint64_t)until.tv_nsec + deadline_ns;
    until.tv_sec += (time_t)(ns / SECOND_NS);
    until.tv_nsec = (long)(ns % SECOND_NS);
    do
        r = sem_clockwait(&q->done, CLOCK_MONOTONIC, &until);
    while (r && errno == EINTR);
    return r == 0;
}

bool aside_ask(struct aside *kind, void *arg, uint64_t deadline_ns)
{
    struct question *q = calloc(1, sizeof *q);
    if (!q) {
        kind->drop(arg);
        return false;
    }
    q->kind = kind;
    q->arg = arg;
    sem_init(&q->done, 0, 0);
    atomic_init(&q->owners, 2);
    bool answered = begin(q) && wait_for(q, deadline_ns);
    if (answered)
        q->arg = NULL;
    put(q);
    return answered;
}
