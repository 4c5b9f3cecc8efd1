#include "fs/store/ahead.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the queue and every state; a leaf */
static pthread_cond_t asked = PTHREAD_COND_INITIALIZER;
static pthread_cond_t done = PTHREAD_COND_INITIALIZER;
static struct ahead *queue;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool running;

static void *reader(void *none)
{
    pthread_mutex_lock(&lock);
    for (;;) {
        struct ahead *a = queue;
        if (!a) {
            pthread_cond_wait(&asked, &lock);
            continue;
        }
        queue = a->next;
        a->state = AHEAD_READING;
        pthread_mutex_unlock(&lock);
        ssize_t n = getdents64(a->fd, a->buf, AHEAD_BYTES);
        pthread_mutex_lock(&lock);
        a->len = n;
        a->state = AHEAD_READY;
        pthread_cond_broadcast(&done);
    }
    return none;
}

/* It lives as long as the process. Signals are for others. */
static void start(void)
{
    sigset_t all, before;
    pthread_t thread;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    running = pthread_create(&thread, NULL, reader, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (running)
        pthread_detach(thread);
}

void ahead_ask(struct ahead *a, int fd)
{
    pthread_once(&once, start);
    if (!a->buf)
        a->buf = malloc(AHEAD_BYTES);
    off_t at = lseek(fd, 0, SEEK_CUR);
    if (!running || !a->buf || at < 0)
        return;
    a->first = (uint64_t)at;
    a->fd = fd;
    a->next = NULL;
    pthread_mutex_lock(&lock);
    struct ahead **last = &queue;
    while (*last)
        last = &(*last)->next;
    *last = a;
    a->state = AHEAD_ASKED;
    pthread_cond_signal(&asked);
    pthread_mutex_unlock(&lock);
}

static void leave_queue(struct ahead *a)
{
    for (struct ahead **at = &queue; *at; at = &(*at)->next)
        if (*at == a) {
            *at = a->next;
            return;
        }
}

bool ahead_take(struct ahead *a)
{
    pthread_mutex_lock(&lock);
    if (a->state == AHEAD_ASKED)
        leave_queue(a);
    while (a->state == AHEAD_READING)
        pthread_cond_wait(&done, &lock);
    bool ready = a->state == AHEAD_READY && a->len >= 0;
    a->state = AHEAD_NONE;
    pthread_mutex_unlock(&lock);
    return ready;
}

void ahead_clear(struct ahead *a)
{
    ahead_take(a);
    free(a->buf);
    a->buf = NULL;
}
