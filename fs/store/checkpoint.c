/* The checkpoint: what the journal holds goes in place, and the tail follows one checkpoint later.
 *
 * A round: (1) take every dirty file's names and fresh data, note where the journal stands; (2) sync what
 * lies in place, of this round's fresh data and of what the round before put there, and the records of new
 * directories, whose copies then go; (3) so everything before
 * the round before is in place and on disk: the tail moves there; (4) mark the fresh data, flush the journal;
 * (5) put every file in place. */
#include "fs/store/ballast.h"
#include "fs/store/newdirs.h"
#include "fs/store/seal.h"
#include "fs/store/tree.h"

#include "latchfs/io.h"
#include "latchfs/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SYNC_EACH_MAX 16u /* more files than this are synced by one syncfs */
/* Rounds that one who finds the journal full waits for. Two or three make room; others may take it first. */
#define RESERVE_TRIES 40

struct checkpoint_mark {
    struct journal_point begun; /* where the journal stood when the last round began */
    bool valid;
    bool complete; /* the last round came so far as to set begun */
};

void checkpoint_forget(struct volume *v)
{
    *v->mark = (struct checkpoint_mark){.complete = true};
}

struct checkpoint_mark *checkpoint_mark_new(void)
{
    struct checkpoint_mark *m = calloc(1, sizeof *m);
    if (m)
        m->complete = true;
    return m;
}

/* A list of the dirty files; they stay on the list, which holds them. */
static struct file **dirty_snapshot(struct volume *v, size_t *count)
{
    pthread_mutex_lock(&v->dirty_lock);
    struct file **list = malloc((v->dirty_count + 1) * sizeof *list);
    size_t n = 0;
    for (struct file *f = list ? v->dirty : NULL; f; f = f->dirty_next)
        list[n++] = f;
    pthread_mutex_unlock(&v->dirty_lock);
    *count = n;
    return list;
}

/* (1) for one file: ages the names, notes what the coming sync will cover. */
static int begin_file(struct file *f)
{
    pthread_rwlock_wrlock(&f->lock);
    int r = rangeset_merge(&f->named[2], &f->named[1]);
    if (!r) {
        rangeset_clear(&f->named[1]);
        f->named[1] = f->named[0];
        f->named[0] = (struct rangeset){0};
    }
    f->mark_round = f->fresh_seq;
    f->sync_gen = f->placed_gen;
    f->sync_first = f->first_seq;
    if (!f->sync_dir) {
        f->sync_dir = f->removed_from;
        f->removed_from = NULL;
    }
    pthread_rwlock_unlock(&f->lock);
    return r;
}

static bool wants_sync(const struct file *f)
{
    return f->sync_gen != f->synced_gen || f->mark_round > f->marked_seq || f->sync_dir;
}

/* A file's own descriptor, and for a removed one its directory. */
static int sync_one(struct file *f)
{
    struct node *n = f->sync_dir ? f->sync_dir : f->n;
    int fd, r = node_fd_get(n, false, &fd);
    if (r)
        return f->sync_dir ? (syncfs(f->n->vol->root_fd) ? -errno : 0) : r;
    r = f->sync_dir ? dir_fd_sync(f->n->vol, fd) : io_fsync(fd);
    node_fd_put(n);
    if (r || !f->sync_dir || atomic_load(&f->n->refs) <= 1)
        return r;
    r = node_fd_get(f->n, false, &fd);
    if (r)
        return 0; /* gone altogether */
    r = io_fdatasync(fd);
    node_fd_put(f->n);
    return r;
}

/* (2) */
static int sync_files(struct volume *v, struct file **list, size_t count, struct newdirs_round *dirs)
{
    size_t wanting = dirs->count;
    int r = 0;
    for (size_t i = 0; i < count; i++)
        wanting += wants_sync(list[i]);
    if (wanting > SYNC_EACH_MAX)
        r = syncfs(v->root_fd) ? -errno : 0;
    for (size_t i = 0; !r && wanting <= SYNC_EACH_MAX && i < count; i++)
        if (wants_sync(list[i]))
            r = sync_one(list[i]);
    if (!r && wanting <= SYNC_EACH_MAX)
        r = newdirs_sync(v, dirs);
    if (r)
        volume_fail_readonly(v, r, "syncing files");
    return r;
}

/* The sync is done: what it covered counts. */
static void end_sync(struct file *f)
{
    struct node *dir = f->sync_dir;
    pthread_rwlock_wrlock(&f->lock);
    if (f->sync_gen > f->synced_gen)
        f->synced_gen = f->sync_gen;
    f->sync_dir = NULL;
    pthread_rwlock_unlock(&f->lock);
    if (dir)
        node_unref(dir, 1);
}

/* (3) Not while a file has an older entry that could not be put in place. */
static bool has_older(const struct file *f, uint64_t seq)
{
    /* sync_first: what was put in place since this round's sync began is not on disk. */
    return (f->first_seq && f->first_seq < seq) || (f->sync_first && f->sync_first < seq);
}

static int move_tail(struct volume *v, struct file **list, size_t count, bool forget_names)
{
    bool blocked = !v->mark->valid;
    for (size_t i = 0; i < count; i++) {
        pthread_rwlock_rdlock(&list[i]->lock);
        blocked = blocked || has_older(list[i], v->mark->begun.seq);
        pthread_rwlock_unlock(&list[i]->lock);
    }
    if (blocked)
        return 0;
    int r = journal_move_tail(v->journal, &v->mark->begun);
    if (r && journal_error(v->journal))
        volume_fail_readonly(v, r, "moving the journal's tail");
    if (r)
        return r;
    for (size_t i = 0; forget_names && i < count; i++) {
        pthread_rwlock_wrlock(&list[i]->lock);
        rangeset_clear(&list[i]->named[2]);
        pthread_rwlock_unlock(&list[i]->lock);
    }
    return 0;
}

/* (4) */
static int mark_files(struct volume *v, struct file **list, size_t count)
{
    struct file_mark *todo = malloc((count + 1) * sizeof *todo);
    uint64_t seq = 0;
    size_t n = 0;
    if (!todo)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++)
        if (list[i]->mark_round > list[i]->marked_seq)
            todo[n++] = (struct file_mark){list[i], list[i]->mark_round};
    int r = file_mark(v, todo, n, &seq);
    for (size_t i = 0; !r && i < n; i++) {
        struct file *f = todo[i].f;
        pthread_rwlock_wrlock(&f->lock);
        if (todo[i].upto > f->marked_seq)
            f->marked_seq = todo[i].upto;
        if (seq > f->mark_entry)
            f->mark_entry = seq;
        pthread_rwlock_unlock(&f->lock);
    }
    free(todo);
    if (!r && (r = journal_flush(v->journal)))
        volume_fail_readonly(v, r, "syncing the journal");
    return r;
}

/* (5) A removed file that nobody holds is dropped instead. */
static int place_file(struct file *f)
{
    int r = 0;
    pthread_rwlock_wrlock(&f->lock);
    if (atomic_load(&f->n->removed) && atomic_load(&f->n->refs) <= 1) {
        atomic_fetch_sub(&f->n->vol->pending_chunks, f->ov.count);
        overlay_clear(&f->ov);
        f->first_seq = 0;
        f->synced_gen = f->placed_gen;
    } else if (f->first_seq || !overlay_is_empty(&f->ov)) {
        r = file_commit(f);
        if (!r)
            r = file_apply(f);
        if ((r == -ENOSPC || r == -EDQUOT) && ballast_release(f->n->vol))
            r = file_apply(f);
    }
    pthread_rwlock_unlock(&f->lock);
    return r;
}

/* Takes the files that have nothing left off the dirty list. done has room for all that were on it when the
 * round began; what came since is left for the next. */
static void sweep(struct volume *v, struct file **done, size_t room)
{
    size_t n = 0;
    pthread_mutex_lock(&v->dirty_lock);
    for (struct file **at = &v->dirty; *at && n < room;) {
        struct file *f = *at;
        bool idle = pthread_rwlock_trywrlock(&f->lock) == 0;
        if (idle) {
            idle = !file_is_pending(f);
            f->clean_open = idle && seal_is_wanted(f);
            pthread_rwlock_unlock(&f->lock);
        }
        if (!idle) {
            at = &f->dirty_next;
            continue;
        }
        *at = f->dirty_next;
        f->listed = false;
        done[n++] = f;
        v->dirty_count--;
    }
    pthread_mutex_unlock(&v->dirty_lock);
    for (size_t i = 0; i < n; i++) {
        struct node *node = done[i]->n;
        if (done[i]->clean_open)
            seal_wait(node, done[i], true);
        file_put(done[i]);
        node_unref(node, 1);
    }
}

static int round_locked(struct volume *v)
{
    size_t count;
    struct file **list = dirty_snapshot(v, &count);
    int r = list ? 0 : -ENOMEM, placed = 0;
    bool forget_names = v->mark->complete; /* else named[2] has younger ones than the tail that moves now */
    struct newdirs_round dirs;
    v->mark->complete = false;
    newdirs_begin(v, &dirs);
    for (size_t i = 0; !r && i < count; i++)
        r = begin_file(list[i]);
    struct journal_point begun = journal_head(v->journal);
    if (!r)
        r = sync_files(v, list, count, &dirs);
    newdirs_end(v, &dirs, r == 0);
    for (size_t i = 0; !r && i < count; i++)
        end_sync(list[i]);
    if (!r)
        r = move_tail(v, list, count, forget_names);
    if (!r)
        r = mark_files(v, list, count);
    if (!r) {
        v->mark->begun = begun;
        v->mark->valid = v->mark->complete = true;
        atomic_store(&v->period_seq, begun.seq);
    }
    for (size_t i = 0; !r && i < count; i++) {
        int e = place_file(list[i]);
        placed = placed ? placed : e;
    }
    if (list)
        sweep(v, list, count);
    free(list);
    ballast_refill(v);
    if (!r)
        atomic_store(&v->apply_error, placed);
    v->checkpoints++;
    atomic_store(&v->checkpoint_at, (uint64_t)time(NULL));
    return r ? r : placed;
}

int checkpoint_run(struct volume *v, bool full)
{
    int r = 0;
    if (!v->journal || v->opt.read_only)
        return 0;
    pthread_mutex_lock(&v->checkpoint_lock);
    /* What stands now is in place after the first round, on disk in the second, which moves the tail up to
     * the first; marks and the rest of the names go in the third. */
    for (int i = 0; !r && i < (full ? 3 : 1); i++)
        r = v->read_only ? -EROFS : round_locked(v);
    if (!r && full && syncfs(v->root_fd)) { /* names, and files that never were in the journal */
        r = -errno;
        volume_fail_readonly(v, r, "syncing the volume");
    }
    pthread_mutex_unlock(&v->checkpoint_lock);
    return r;
}

int file_reserve(struct volume *v, uint64_t bytes)
{
    if (ballast_check(v)) /* space may have come back: a round tries to fill it again */
        checkpoint_run(v, false);
    int r = ballast_check(v) ? ballast_check(v) : -EAGAIN;
    for (int tries = 0; tries < RESERVE_TRIES && r == -EAGAIN; tries++) {
        if (atomic_load(&v->pending_chunks) < PENDING_CHUNKS_MAX)
            r = journal_reserve(v->journal, bytes, false);
        if (r != -EAGAIN)
            break;
        int e = checkpoint_run(v, false);
        if (e)
            return e;
    }
    if (r == -EAGAIN)
        r = atomic_load(&v->apply_error) ? atomic_load(&v->apply_error) : -ENOSPC;
    if (!r && (journal_used(v->journal) > journal_ring(v->journal) / 4 ||
               atomic_load(&v->pending_chunks) > PENDING_CHUNKS_MAX / 4))
        checkpoint_wake(v);
    return r;
}
