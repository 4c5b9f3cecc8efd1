#include "worker.h"

#include "latchfs/err.h"

#include <errno.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

struct worker {
    pthread_t thread;
    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t more;
    struct job *queue, **queue_end;
    struct job *done, **done_end;
    unsigned count; /* queued, running and done */
    struct job *running;
    uid_t served; /* whose job was begun last */
    bool stop;
    int event;
};

void job_clear(struct job *j)
{
    proto_msg_clear(&j->q);
    proto_in_clear(&j->in);
    keystore_free(j->ks);
    keystore_keys_free(j->keys);
    free(j->ini);
    secret_free(j->recovery);
    key_edit_result_clear(&j->made);
    sodium_memzero(&j->blobs, sizeof j->blobs);
}

void job_free(struct job *j)
{
    if (!j)
        return;
    job_clear(j);
    free(j);
}

static void put(struct job ***end, struct job *j)
{
    j->next = NULL;
    **end = j;
    *end = &j->next;
}

static struct job *take(struct job **first, struct job ***end)
{
    struct job *j = *first;
    if (!j)
        return NULL;
    *first = j->next;
    if (!*first)
        *end = first;
    return j;
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static struct job *unlink_job(struct worker *w, struct job **at)
{
    struct job *j = *at;
    *at = j->next;
    if (!*at)
        w->queue_end = at;
    return j;
}

/* The oldest of another user than the last one, if there is any. */
static struct job *take_in_turn(struct worker *w)
{
    for (struct job **at = &w->queue; *at; at = &(*at)->next)
        if ((*at)->uid != w->served)
            return unlink_job(w, at);
    return w->queue ? unlink_job(w, &w->queue) : NULL;
}

static void run(struct job *j)
{
    if (now_ms() - j->queued < WORKER_WAIT_MS) {
        j->run(j);
        return;
    }
    j->result = LFS_ERR_TIMEOUT;
    snprintf(j->why.text, sizeof j->why.text, "too many unlocks are waiting");
}

static void *work(void *arg)
{
    struct worker *w = arg;
    uint64_t one = 1;
    pthread_mutex_lock(&w->lock);
    while (!w->stop) {
        struct job *j = take_in_turn(w);
        if (!j) {
            pthread_cond_wait(&w->more, &w->lock);
            continue;
        }
        w->running = j;
        w->served = j->uid;
        pthread_mutex_unlock(&w->lock);
        run(j);
        pthread_mutex_lock(&w->lock);
        w->running = NULL;
        put(&w->done_end, j);
        ssize_t n = write(w->event, &one, sizeof one);
        (void)n; /* an eventfd refuses only when it is readable anyway */
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

int worker_start(struct worker **out)
{
    struct worker *w = calloc(1, sizeof *w);
    if (!w)
        return -ENOMEM;
    w->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    w->queue_end = &w->queue;
    w->done_end = &w->done;
    int r = w->event < 0 ? errno : 0;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->more, NULL);
    if (!r)
        r = pthread_create(&w->thread, NULL, work, w);
    if (r) {
        if (w->event >= 0)
            close(w->event);
        free(w);
        return -r;
    }
    *out = w;
    return 0;
}

void worker_stop(struct worker *w)
{
    struct job *j;
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_signal(&w->more);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    while ((j = take(&w->queue, &w->queue_end)) || (j = take(&w->done, &w->done_end)))
        job_free(j);
    close(w->event);
    pthread_cond_destroy(&w->more);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

static unsigned count_of_user(const struct worker *w, uid_t uid)
{
    unsigned n = w->running && w->running->uid == uid;
    for (const struct job *j = w->queue; j; j = j->next)
        n += j->uid == uid;
    return n;
}

int worker_add(struct worker *w, struct job *j)
{
    pthread_mutex_lock(&w->lock);
    bool full = w->count >= WORKER_JOBS_MAX || count_of_user(w, j->uid) >= WORKER_JOBS_OF_USER;
    if (!full) {
        w->count++;
        j->queued = now_ms();
        put(&w->queue_end, j);
        pthread_cond_signal(&w->more);
    }
    pthread_mutex_unlock(&w->lock);
    return full ? LFS_ERR_BUSY : 0;
}

struct job *worker_cancel(struct worker *w, uint64_t conn_id)
{
    struct job *j = NULL;
    pthread_mutex_lock(&w->lock);
    for (struct job **at = &w->queue; *at && !j; at = j ? at : &(*at)->next)
        if ((*at)->conn_id == conn_id) {
            j = unlink_job(w, at);
            w->count--;
        }
    pthread_mutex_unlock(&w->lock);
    return j;
}

static bool revoke_job(struct job *j, const uint8_t *volume_id)
{
    if ((j->q.type != P_UNLOCK && j->q.type != P_ADMIN) ||
        (volume_id && memcmp(j->q.volume, volume_id, ID_BYTES) != 0))
        return false;
    j->revoked = true;
    return true;
}

bool worker_revoke(struct worker *w, const uint8_t *volume_id)
{
    pthread_mutex_lock(&w->lock);
    bool any = w->running && revoke_job(w->running, volume_id);
    for (struct job *j = w->queue; j; j = j->next)
        any = revoke_job(j, volume_id) || any;
    for (struct job *j = w->done; j; j = j->next)
        any = revoke_job(j, volume_id) || any;
    pthread_mutex_unlock(&w->lock);
    return any;
}

int worker_fd(const struct worker *w)
{
    return w->event;
}

struct job *worker_done(struct worker *w)
{
    uint64_t n;
    pthread_mutex_lock(&w->lock);
    struct job *j = take(&w->done, &w->done_end);
    if (j)
        w->count--;
    if (!w->done && read(w->event, &n, sizeof n) < 0)
        n = 0; /* was not readable */
    pthread_mutex_unlock(&w->lock);
    return j;
}

bool worker_idle(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    bool idle = w->count == 0;
    pthread_mutex_unlock(&w->lock);
    return idle;
}
