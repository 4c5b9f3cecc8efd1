#include "fs/mount/control_check.h"

#include "fs/mount/findings.h"
#include "fs/mount/wipe.h"
#include "latchfs/err.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define END_DEADLINE_S 10

struct checks {
    struct volume *vol;
    atomic_bool stop;
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t ended;
    pthread_t thread;
    bool joinable;
    bool locked;  /* a lock has stopped it */
    time_t asked; /* by CLOCK_MONOTONIC, when somebody last did */
    struct check_options options;
    char subtree[PATH_MAX], resume[PATH_MAX];
    struct mount_check_status status;
    struct findings findings;
};

/* ---- what the check tells ---- */

static void note_finding(const struct check_finding *f, void *arg)
{
    struct checks *c = arg;
    pthread_mutex_lock(&c->lock);
    findings_add(&c->findings, f);
    pthread_mutex_unlock(&c->lock);
}

static time_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec;
}

static void note_progress(const struct check_progress *p, void *arg)
{
    struct checks *c = arg;
    pthread_mutex_lock(&c->lock);
    c->status.progress = *p;
    if (now() - c->asked > CHECK_ASKED_SECONDS) /* the command that wanted it was killed */
        checks_stop(c);
    pthread_mutex_unlock(&c->lock);
}

static void note_position(const char *where, const struct check_progress *p, void *arg)
{
    struct checks *c = arg;
    pthread_mutex_lock(&c->lock);
    c->status.progress = *p;
    if (strlen(where) < sizeof c->status.position) /* else a later check goes on a little before */
        strcpy(c->status.position, where);
    pthread_mutex_unlock(&c->lock);
}

static void *run(void *arg)
{
    struct checks *c = arg;
    struct check_progress p = {0};
    int r = check_volume(c->vol, &c->options, &p);
    wipe_thread();
    pthread_mutex_lock(&c->lock);
    if (!r || p.entries)
        c->status.progress = p;
    c->status.result = r == -EINTR && c->locked ? LFS_ERR_NOKEY : r;
    c->status.running = false;
    pthread_cond_broadcast(&c->ended);
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* ---- life ---- */

struct checks *checks_new(struct volume *v)
{
    struct checks *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&c->ended, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&c->lock, NULL);
    findings_init(&c->findings);
    c->vol = v;
    return c;
}

/* The one before has ended; its thread has nothing left to do. */
static void join_locked(struct checks *c)
{
    if (c->joinable)
        pthread_join(c->thread, NULL);
    c->joinable = false;
}

static int start_locked(struct checks *c, const struct mountctl_request *q, const char *subtree)
{
    if (c->status.running)
        return LFS_ERR_BUSY;
    join_locked(c);
    findings_forget(&c->findings);
    findings_restart(&c->findings);
    atomic_store(&c->stop, false);
    c->locked = false;
    c->asked = now();
    strcpy(c->subtree, subtree);
    strcpy(c->resume, q->resume);
    c->options = (struct check_options){
        .flags = q->flags,
        .subtree = *c->subtree ? c->subtree : NULL,
        .workers = q->workers,
        .bytes_per_second = q->bytes_per_second,
        .resume = *c->resume ? c->resume : NULL,
        .stop = &c->stop,
        .finding = note_finding,
        .progress = note_progress,
        .position = note_position,
        .arg = c,
    };
    c->status = (struct mount_check_status){.serial = c->status.serial + 1, .running = true};
    int r = -pthread_create(&c->thread, NULL, run, c);
    c->joinable = !r;
    if (r) {
        c->status.running = false;
        c->status.result = r;
    }
    return r;
}

int checks_start(struct checks *c, const struct mountctl_request *q, const char *subtree)
{
    pthread_mutex_lock(&c->lock);
    int r = start_locked(c, q, subtree);
    pthread_mutex_unlock(&c->lock);
    return r;
}

void checks_status(struct checks *c, struct mount_check_status *out)
{
    pthread_mutex_lock(&c->lock);
    c->asked = now();
    *out = c->status;
    pthread_mutex_unlock(&c->lock);
}

int checks_answer_findings(struct checks *c, uint64_t after, uint8_t *out, size_t size)
{
    struct mount_findings *f = calloc(1, sizeof *f);
    if (!f)
        return -ENOMEM;
    pthread_mutex_lock(&c->lock);
    c->asked = now();
    f->serial = c->status.serial;
    findings_after(&c->findings, after, f);
    int n = mountctl_encode_findings(f, out, size); /* it points into what the lock guards */
    pthread_mutex_unlock(&c->lock);
    free(f);
    return n;
}

void checks_stop(struct checks *c)
{
    atomic_store(&c->stop, true);
}

void checks_end(struct checks *c)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += END_DEADLINE_S;
    pthread_mutex_lock(&c->lock);
    if (c->status.running) {
        c->locked = true;
        checks_stop(c);
        while (c->status.running && pthread_cond_timedwait(&c->ended, &c->lock, &until) == 0)
            ;
    }
    findings_forget(&c->findings);
    pthread_mutex_unlock(&c->lock);
}

void checks_join(struct checks *c)
{
    if (!c)
        return;
    checks_stop(c);
    join_locked(c);
}

void checks_free(struct checks *c)
{
    if (!c)
        return;
    checks_join(c);
    findings_forget(&c->findings);
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->ended);
    free(c);
}
