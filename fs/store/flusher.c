/* The flusher: a thread that makes checkpoints while something is dirty, and seals what has been idle. */
#include "fs/store/file_home.h"
#include "fs/store/newdirs.h"
#include "fs/store/seal.h"
#include "fs/store/share.h"

#include "latchfs/log.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

#define FLUSH_SECONDS 5u
#define SEAL_BATCH 1024u /* files; then a checkpoint, so that not too many are dirty at once */
#define FOREVER INT64_MAX
#define OTHERS_MS 50 /* the turn goes to the mount that wanted it */

enum work { WORK_END, WORK_CHECKPOINT, WORK_SEAL };

static int64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * INT64_C(1000) + ts.tv_nsec / 1000000;
}

/* ---- what there is to do: dirty_lock is held ---- */

/* Takes the turn if it is due. */
static bool take_checkpoint(struct volume *v)
{
    if (!v->dirty_count && !newdirs_count(v->newdirs)) {
        v->flush_at = 0;
        return false;
    }
    if (!v->flush_at)
        v->flush_at =
            now_ms() + INT64_C(1000) * (v->opt.flush_seconds ? v->opt.flush_seconds : FLUSH_SECONDS);
    if (!v->flusher_hurry && now_ms() < v->flush_at)
        return false;
    v->flusher_hurry = false;
    v->flush_at = 0;
    return true;
}

static void sleep_until(struct volume *v, int64_t ms)
{
    const struct timespec until = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    if (ms == FOREVER)
        pthread_cond_wait(&v->flusher_wake, &v->dirty_lock);
    else
        pthread_cond_timedwait(&v->flusher_wake, &v->dirty_lock, &until);
}

/* An idle mount with nothing to seal never wakes. */
static enum work wait_for_work(struct volume *v)
{
    enum work work = WORK_END;
    pthread_mutex_lock(&v->dirty_lock);
    while (!v->flusher_stop) {
        bool checkpoint = take_checkpoint(v);
        int64_t seal = seal_due(v), at = v->flush_at ? v->flush_at : FOREVER;
        if (checkpoint || seal == 0) {
            work = checkpoint ? WORK_CHECKPOINT : WORK_SEAL;
            break;
        }
        if (seal > 0 && now_ms() + seal * 1000 < at)
            at = now_ms() + seal * 1000;
        sleep_until(v, at);
    }
    pthread_mutex_unlock(&v->dirty_lock);
    return work;
}

/* ---- the thread ---- */

static void make_checkpoint_here(struct volume *v)
{
    VOLUME_CHANGE(v);
    if (volume_enter(v, true))
        return;
    int r = home_moved_many(v) ? checkpoint_all(v) : checkpoint_run(v, false);
    volume_leave(v);
    if (r && r != -EROFS) {
        log_warn("checkpoint: %s; the journal keeps what could not be put in place", lfs_strerror(r));
        sleep(1);
    }
}

static void make_checkpoint(struct volume *v)
{
    if (share_join(v))
        make_checkpoint_here(v);
    share_leave(v);
}

/* Between two steps of sealing: others come first. */
static bool seals_go_on(struct volume *v)
{
    pthread_mutex_lock(&v->dirty_lock);
    bool go = !v->flusher_stop && !atomic_load(&v->seal_asked);
    bool checkpoint = go && take_checkpoint(v);
    pthread_mutex_unlock(&v->dirty_lock);
    if (checkpoint)
        make_checkpoint(v);
    return go && atomic_load(&v->freeze.state) == FREEZE_NONE && !share_is_wanted(v);
}

static void make_seals(struct volume *v)
{
    struct seal_turn t = {.before = seal_now() - seal_seconds(v),
                          .files = SEAL_BATCH,
                          .pages = UINT64_MAX,
                          .go_on = seals_go_on};
    int r = seal_run_turn(v, &t);
    if (r && r != -EINTR && r != -EROFS)
        log_warn("sealing files: %s", lfs_strerror(r));
    if (t.sealed == SEAL_BATCH)
        checkpoint_wake(v);
    if (r == -EINTR && v->share)
        nanosleep(&(struct timespec){.tv_nsec = OTHERS_MS * 1000000}, NULL);
}

static void *flusher(void *arg)
{
    struct volume *v = arg;
    for (enum work w; (w = wait_for_work(v)) != WORK_END;) {
        if (w == WORK_CHECKPOINT)
            make_checkpoint(v);
        else
            make_seals(v);
    }
    return NULL;
}

/* ---- others about it ---- */

void checkpoint_wake(struct volume *v)
{
    pthread_mutex_lock(&v->dirty_lock);
    v->flusher_hurry = true;
    pthread_cond_signal(&v->flusher_wake);
    pthread_mutex_unlock(&v->dirty_lock);
}

void checkpoint_look(struct volume *v)
{
    pthread_mutex_lock(&v->dirty_lock);
    pthread_cond_signal(&v->flusher_wake);
    pthread_mutex_unlock(&v->dirty_lock);
}

int checkpoint_start(struct volume *v)
{
    int r = pthread_create(&v->flusher, NULL, flusher, v);
    v->flusher_runs = r == 0;
    return -r;
}

void checkpoint_stop(struct volume *v)
{
    pthread_mutex_lock(&v->dirty_lock);
    v->flusher_stop = true;
    pthread_cond_signal(&v->flusher_wake);
    pthread_mutex_unlock(&v->dirty_lock);
    if (v->flusher_runs)
        pthread_join(v->flusher, NULL);
    v->flusher_runs = false;
}
