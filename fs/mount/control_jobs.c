#include "fs/mount/control_jobs.h"

#include "fs/mount/wipe.h"
#include "latchfs/err.h"
#include "latchfs/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define END_DEADLINE_S 10

struct jobs {
    struct volume *vol;
    atomic_bool stop;
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t ended;
    pthread_t thread;
    bool joinable;
    struct rotate_options options;
    struct mount_job_status status;
};

typedef int job_fn(struct volume *v, const struct rotate_options *o, struct rotate_progress *out);
static job_fn *const functions[] = {
    [MOUNT_JOB_REWRAP] = volume_rewrap,
    [MOUNT_JOB_REENCRYPT] = volume_reencrypt,
    [MOUNT_JOB_SCAN] = volume_scan_versions,
};

static void note_progress(const struct rotate_progress *p, void *arg)
{
    struct jobs *j = arg;
    pthread_mutex_lock(&j->lock);
    j->status.progress = *p;
    pthread_mutex_unlock(&j->lock);
}

static void *run(void *arg)
{
    struct jobs *j = arg;
    struct rotate_progress p = {0};
    int r = functions[j->status.job](j->vol, &j->options, &p);
    wipe_thread();
    pthread_mutex_lock(&j->lock);
    if (!r || p.files)
        j->status.progress = p;
    j->status.result = r;
    j->status.running = false;
    pthread_cond_broadcast(&j->ended);
    pthread_mutex_unlock(&j->lock);
    return NULL;
}

struct jobs *jobs_new(struct volume *v)
{
    struct jobs *j = calloc(1, sizeof *j);
    if (!j)
        return NULL;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&j->ended, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&j->lock, NULL);
    j->vol = v;
    return j;
}

/* The one before has ended; its thread has nothing left to do. */
static void join_locked(struct jobs *j)
{
    if (j->joinable)
        pthread_join(j->thread, NULL);
    j->joinable = false;
}

struct active {
    const uint8_t *pd_id;
    uint32_t version;
};

static void find_active(const struct pd_status *st, void *arg)
{
    struct active *a = arg;
    if (memcmp(st->id, a->pd_id, ID_BYTES) == 0)
        a->version = st->active;
}

static bool has_version(struct volume *v, const uint8_t pd_id[static ID_BYTES], uint32_t version)
{
    struct active a = {.pd_id = pd_id};
    volume_pd_each(v, find_active, &a);
    if (a.version < version)
        log_warn("a rotation to key version %u was refused: the mount has version %u (0: locked)",
                 (unsigned)version, (unsigned)a.version);
    return a.version >= version;
}

int jobs_start(struct jobs *j, enum mount_job job, const uint8_t pd_id[static ID_BYTES],
               uint64_t bytes_per_second, uint32_t version)
{
    if (job < MOUNT_JOB_REWRAP || job > MOUNT_JOB_SCAN)
        return LFS_ERR_UNSUPPORTED;
    if (!has_version(j->vol, pd_id, version))
        return LFS_ERR_NOKEY;
    pthread_mutex_lock(&j->lock);
    int r = LFS_ERR_BUSY;
    if (!j->status.running) {
        join_locked(j);
        atomic_store(&j->stop, false);
        j->options = (struct rotate_options){
            .bytes_per_second = bytes_per_second, .stop = &j->stop, .progress = note_progress, .arg = j};
        memcpy(j->options.pd_id, pd_id, ID_BYTES);
        j->status = (struct mount_job_status){.job = (uint8_t)job, .running = true};
        memcpy(j->status.pd_id, pd_id, ID_BYTES);
        r = -pthread_create(&j->thread, NULL, run, j);
        j->joinable = !r;
        if (r)
            j->status = (struct mount_job_status){0};
    }
    pthread_mutex_unlock(&j->lock);
    return r;
}

void jobs_status(struct jobs *j, struct mount_job_status *out)
{
    pthread_mutex_lock(&j->lock);
    *out = j->status;
    pthread_mutex_unlock(&j->lock);
}

void jobs_stop(struct jobs *j)
{
    atomic_store(&j->stop, true);
}

void jobs_end(struct jobs *j, const uint8_t *pd_id)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += END_DEADLINE_S;
    pthread_mutex_lock(&j->lock);
    if (j->status.running && (!pd_id || memcmp(pd_id, j->status.pd_id, ID_BYTES) == 0)) {
        jobs_stop(j);
        while (j->status.running && pthread_cond_timedwait(&j->ended, &j->lock, &until) == 0)
            ;
    }
    pthread_mutex_unlock(&j->lock);
}

void jobs_join(struct jobs *j)
{
    if (!j)
        return;
    jobs_stop(j);
    join_locked(j);
}

void jobs_free(struct jobs *j)
{
    if (!j)
        return;
    jobs_join(j);
    pthread_mutex_destroy(&j->lock);
    pthread_cond_destroy(&j->ended);
    free(j);
}
