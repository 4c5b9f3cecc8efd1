#include "peer_exe.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* A process whose exec(2) closes a file of a filesystem that does not answer can't be asked, for as long as
 * its owner likes. So a thread asks, and is left behind then. */
#define DEADLINE_NS 500000000
#define LEFT_MAX 4u /* then nobody is asked, until one of these has ended */

struct question {
    pid_t pid;
    char exe[PEER_EXE_MAX];
    sem_t done;
    atomic_int owners; /* the last one frees it */
};

static atomic_uint asking;

static void question_put(struct question *q)
{
    if (atomic_fetch_sub(&q->owners, 1) > 1)
        return;
    sem_destroy(&q->done);
    free(q);
}

static void *ask(void *arg)
{
    struct question *q = arg;
    char link[64];
    snprintf(link, sizeof link, "/proc/%d/exe", (int)q->pid);
    ssize_t n = readlink(link, q->exe, sizeof q->exe - 1);
    q->exe[n > 0 ? n : 0] = '\0';
    sem_post(&q->done);
    question_put(q);
    atomic_fetch_sub(&asking, 1);
    return NULL;
}

/* NULL: no thread asks. */
static struct question *question_begin(pid_t pid)
{
    pthread_t thread;
    struct question *q = calloc(1, sizeof *q);
    if (!q)
        return NULL;
    q->pid = pid;
    sem_init(&q->done, 0, 0);
    atomic_init(&q->owners, 2);
    if (atomic_fetch_add(&asking, 1) < LEFT_MAX && pthread_create(&thread, NULL, ask, q) == 0) {
        pthread_detach(thread);
        return q;
    }
    atomic_fetch_sub(&asking, 1);
    atomic_store(&q->owners, 1);
    question_put(q);
    return NULL;
}

static bool question_wait(struct question *q)
{
    struct timespec until;
    int r;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += DEADLINE_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    do
        r = sem_clockwait(&q->done, CLOCK_MONOTONIC, &until);
    while (r && errno == EINTR);
    return r == 0;
}

void peer_exe(pid_t pid, char *exe, size_t size)
{
    struct question *q = question_begin(pid);
    exe[0] = '\0';
    if (!q)
        return;
    if (question_wait(q))
        snprintf(exe, size, "%s", q->exe);
    question_put(q);
}
