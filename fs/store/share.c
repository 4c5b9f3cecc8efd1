#include "fs/store/share_int.h"

#include "fs/store/ballast.h"
#include "fs/store/file.h"
#include "fs/store/journal_lock.h"
#include "fs/store/tree.h"

#include "latchfs/log.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define WAIT_MS 30000 /* for the token, before a request fails */
#define TRY_MAX_US 4000
#define POLL_MS 2   /* between two looks whether somebody asks */
#define HOLD_MS 20  /* handing over costs about as much: who has it makes some use of it */
#define IDLE_MS 200 /* it goes when nobody used it for so long */
#define RETRY_MS 1000
#define RESTS_MAX 3

/* Of this thread: how deep it is inside, and why it is so without the token. */
static _Thread_local unsigned depth;
static _Thread_local int refused;

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- taking ---- */

/* Locking the volume does not wait for another mount. */
static bool is_barred(struct share *s)
{
    pthread_mutex_lock(&s->lock);
    bool barred = s->barred;
    pthread_mutex_unlock(&s->lock);
    return barred;
}

static int wait_for_token(const struct volume *v)
{
    int64_t until = now_ms() + WAIT_MS;
    long us = 100;
    bool asked = false;
    int r;
    while ((r = journal_token_try(v->journal, &asked)) == LFS_ERR_BUSY && now_ms() < until &&
           !is_barred(v->share)) {
        nanosleep(&(struct timespec){.tv_nsec = us * 1000}, NULL);
        us = us * 2 < TRY_MAX_US ? us * 2 : TRY_MAX_US;
    }
    journal_token_give_up(v->journal, &asked);
    if (r == LFS_ERR_BUSY)
        r = is_barred(v->share) ? LFS_ERR_NOKEY : LFS_ERR_TIMEOUT;
    return r;
}

/* What a mount that died has left in the journal. A journal without entries may stand for changes that never
 * go through it, and an fsync here relies on what others did being on disk (share_forget). */
static int replay(struct volume *v, struct replay_report *report)
{
    struct replay_report p = {0};
    v->suspect_since = volume_suspect_time(v);
    int r = replay_run(v, &p);
    if (!r && !p.unclean && syncfs(v->root_fd))
        r = -errno;
    if (!r)
        r = share_forget(v); /* files that are open here were among those */
    if (!r)
        r = volume_reset_journal(v);
    if (!r && p.unclean && !report)
        log_warn("another mount of this volume died: replayed %llu entries of %llu files, skipped %llu, torn "
                 "%llu",
                 (unsigned long long)p.entries, (unsigned long long)p.files, (unsigned long long)p.skipped,
                 (unsigned long long)p.torn);
    if (report)
        *report = p;
    return r;
}

/* The token is here: is everything as it was left? What could not be found out, or forgotten, is so next
 * time, though the journal then is as it was read now. */
static int look_around(struct volume *v, struct replay_report *report)
{
    struct share *s = v->share;
    bool changed = true;
    int r = journal_read_again(v->journal, &changed);
    s->doubt = s->doubt || r || changed;
    if (r || (!s->doubt && !journal_ring(v->journal)))
        return r;
    ballast_discard(v);
    r = share_forget(v);
    if (!r && journal_ring(v->journal)) {
        r = replay(v, report);
        s->writable = r == 0;
    }
    s->doubt = r != 0;
    return r;
}

static int take(struct volume *v, struct replay_report *report)
{
    int r = wait_for_token(v);
    if (r)
        return r;
    r = look_around(v, report);
    if (r)
        journal_token_release(v->journal);
    return r;
}

/* lock is held, and let go of meanwhile. */
static int take_locked(struct volume *v)
{
    struct share *s = v->share;
    s->state = SHARE_TAKING;
    pthread_mutex_unlock(&s->lock);
    int r = take(v, NULL);
    pthread_mutex_lock(&s->lock);
    s->state = r ? SHARE_AWAY : SHARE_HELD;
    s->taken_at = s->used_at = now_ms();
    pthread_cond_broadcast(&s->changed);
    return r;
}

/* ---- giving ---- */

static int put_in_place(struct volume *v)
{
    int r = checkpoint_all(v);
    for (int i = 0; !r && journal_used(v->journal) && i < RESTS_MAX; i++)
        r = checkpoint_run(v, true);
    if (!r && journal_used(v->journal))
        r = atomic_load(&v->apply_error) ? atomic_load(&v->apply_error) : -EIO;
    return r;
}

/* Nobody is inside. The gate, so that no key goes meanwhile. */
static int settle(struct volume *v)
{
    if (!v->share->writable)
        return 0;
    gate_enter(&v->gate);
    int r = volume_check_writable(v);
    if (!r)
        r = put_in_place(v);
    if (!r)
        r = freeze_each_file(v, file_restore_mtime);
    if (!r)
        r = journal_rest(v->journal);
    if (!r)
        ballast_free(v);
    gate_leave(&v->gate);
    v->share->writable = r != 0;
    return r;
}

/* Whoever has the token next replays what the journal holds. */
static void break_off(struct volume *v, int why)
{
    v->share->state = SHARE_BROKEN;
    journal_token_release(v->journal);
    log_error("the shared volume is given up: %s; this mount answers with errors from now on",
              lfs_strerror(why));
}

/* lock is held, and let go of meanwhile; state is HELD. last: what fails is not tried again. */
static int give_locked(struct volume *v, bool last)
{
    struct share *s = v->share;
    s->state = SHARE_GIVING;
    while (s->users)
        pthread_cond_wait(&s->changed, &s->lock);
    pthread_mutex_unlock(&s->lock);
    int r = settle(v);
    pthread_mutex_lock(&s->lock);
    if (r && (last || volume_check_writable(v))) {
        break_off(v, r);
    } else if (r) {
        s->state = SHARE_HELD;
        s->retry_at = now_ms() + RETRY_MS;
    } else {
        s->state = SHARE_AWAY;
        journal_token_release(v->journal);
    }
    pthread_cond_broadcast(&s->changed);
    return r;
}

/* ---- the keeper ---- */

static bool should_give(struct volume *v)
{
    struct share *s = v->share;
    int64_t now = now_ms();
    if (s->state != SHARE_HELD || now < s->retry_at)
        return false;
    if (!s->users && now - s->used_at >= IDLE_MS)
        return true;
    return now - s->taken_at >= HOLD_MS && journal_token_wanted(v->journal);
}

static void sleep_a_while(struct share *s)
{
    int64_t at = now_ms() + POLL_MS;
    const struct timespec until = {.tv_sec = at / 1000, .tv_nsec = (long)(at % 1000) * 1000000};
    pthread_cond_timedwait(&s->changed, &s->lock, &until);
}

/* Without the token it sleeps until it is here. */
static void *keep(void *arg)
{
    struct volume *v = arg;
    struct share *s = v->share;
    pthread_mutex_lock(&s->lock);
    while (!s->stop) {
        if (s->state != SHARE_HELD)
            pthread_cond_wait(&s->changed, &s->lock);
        else if (should_give(v))
            give_locked(v, false);
        else
            sleep_a_while(s);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* ---- turns ---- */

static int enter(struct volume *v)
{
    struct share *s = v->share;
    int r = 0;
    pthread_mutex_lock(&s->lock);
    while (!r && s->state != SHARE_HELD) {
        if (s->state == SHARE_BROKEN)
            r = -EIO;
        else if (s->state != SHARE_AWAY)
            pthread_cond_wait(&s->changed, &s->lock);
        else
            r = s->barred ? LFS_ERR_NOKEY : take_locked(v);
    }
    if (!r)
        s->users++;
    pthread_mutex_unlock(&s->lock);
    return r;
}

static void leave(struct share *s)
{
    pthread_mutex_lock(&s->lock);
    s->used_at = now_ms();
    if (--s->users == 0 && s->state == SHARE_GIVING)
        pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

/* This thread is inside. */
static int make_writable(struct volume *v)
{
    struct share *s = v->share;
    pthread_mutex_lock(&s->lock);
    int r = s->writable ? 0 : volume_check_writable(v);
    if (!r && !s->writable)
        r = volume_reset_journal(v);
    s->writable = r == 0;
    pthread_mutex_unlock(&s->lock);
    return r;
}

int share_enter(struct volume *v)
{
    if (!v->share)
        return 0;
    int r = depth ? refused : enter(v);
    if (!r)
        depth++;
    return r;
}

void share_enter_change(struct volume *v)
{
    if (!v->share)
        return;
    bool first = depth == 0;
    if (first)
        refused = enter(v);
    depth++;
    int r = refused ? refused : make_writable(v);
    if (r && first && !refused)
        leave(v->share);
    if (first)
        refused = r;
}

bool share_join(struct volume *v)
{
    struct share *s = v->share;
    if (!s)
        return true;
    if (depth++)
        return !refused;
    pthread_mutex_lock(&s->lock);
    bool held = s->state == SHARE_HELD;
    s->users += held;
    pthread_mutex_unlock(&s->lock);
    refused = held ? 0 : LFS_ERR_BUSY;
    return held;
}

bool share_try_change(struct volume *v)
{
    if (share_join(v) && (!v->share || make_writable(v) == 0))
        return true;
    share_leave(v);
    return false;
}

void share_leave(struct volume *v)
{
    if (!v->share || --depth)
        return;
    if (!refused)
        leave(v->share);
    refused = 0;
}

bool share_is_wanted(const struct volume *v)
{
    return v->share && journal_token_wanted(v->journal);
}

int share_bar(struct volume *v)
{
    struct share *s = v->share;
    int r = 0;
    if (!s)
        return 0;
    pthread_mutex_lock(&s->lock);
    s->barred = true;
    while (s->state == SHARE_TAKING || s->state == SHARE_GIVING)
        pthread_cond_wait(&s->changed, &s->lock);
    if (s->state == SHARE_HELD)
        r = give_locked(v, true);
    pthread_mutex_unlock(&s->lock);
    return r;
}

void share_unbar(struct volume *v)
{
    if (!v->share)
        return;
    pthread_mutex_lock(&v->share->lock);
    v->share->barred = false;
    pthread_mutex_unlock(&v->share->lock);
}

/* ---- life ---- */

static struct share *share_new(void)
{
    struct share *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&s->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&s->lock, NULL);
    return s;
}

int share_open(struct volume *v, struct replay_report *report)
{
    v->share = share_new();
    if (!v->share)
        return -ENOMEM;
    int r = take(v, report);
    if (r)
        return r;
    v->share->state = SHARE_HELD;
    v->share->taken_at = v->share->used_at = now_ms();
    /* Half-made things of others are theirs as long as they live. */
    return journal_is_alone(v->journal) ? tree_clean_root(v) : 0;
}

int share_start(struct volume *v)
{
    if (!v->share)
        return 0;
    int r = pthread_create(&v->share->keeper, NULL, keep, v);
    v->share->started = r == 0;
    return -r;
}

bool share_stop(struct volume *v)
{
    struct share *s = v->share;
    if (!s)
        return true;
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    if (s->started)
        pthread_join(s->keeper, NULL);
    s->started = false;
    return s->state == SHARE_HELD && s->writable;
}

void share_free(struct volume *v)
{
    if (!v->share)
        return;
    pthread_mutex_destroy(&v->share->lock);
    pthread_cond_destroy(&v->share->changed);
    free(v->share);
    v->share = NULL;
}
