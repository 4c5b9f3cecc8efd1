/* The life of a volume: created, opened (and replayed), closed. */
#include "fs/store/ballast.h"
#include "fs/store/file_home.h"
#include "fs/store/newdirs.h"
#include "fs/store/pd.h"
#include "fs/store/seal.h"
#include "fs/store/share.h"

#include "latchfs/dirrec.h"
#include "latchfs/io.h"
#include "latchfs/log.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define JOURNAL_BYTES (UINT64_C(64) << 20)

/* ---- what calls ask of the volume ---- */

int volume_enter(struct volume *v, bool writing)
{
    int r = share_enter(v);
    if (r)
        return r;
    gate_enter(&v->gate);
    int state = atomic_load(&v->lock_state);
    if (state == VOLUME_UNLOCKED || (state == VOLUME_LOCKING && writing))
        return 0;
    gate_leave(&v->gate);
    share_leave(v);
    return LFS_ERR_NOKEY;
}

void volume_leave(struct volume *v)
{
    int saved = errno;
    gate_leave(&v->gate);
    share_leave(v);
    errno = saved;
}

int volume_check_writable(const struct volume *v)
{
    return v->opt.read_only || atomic_load(&v->read_only) ? -EROFS : 0;
}

void volume_fail_readonly(struct volume *v, int err, const char *what)
{
    int none = 0;
    atomic_compare_exchange_strong(&v->failed_sync, &none, err);
    if (!atomic_exchange(&v->read_only, true))
        log_error("%s failed: %s; the volume is read-only from now on", what, lfs_strerror(err));
}

int volume_note(struct volume *v, int err)
{
    if (err == LFS_ERR_CORRUPT || err == LFS_ERR_AUTH)
        atomic_fetch_add(&v->auth_failures, 1);
    return err;
}

bool volume_is_readonly(const struct volume *v)
{
    return volume_check_writable(v) != 0;
}

/* ---- creating ---- */

int volume_create(int dirfd, const struct keyset *keys)
{
    uint8_t record[DIRREC_BYTES];
    struct dirrec d = {0};
    struct name_keys *names = locked_alloc(sizeof *names);
    if (!names)
        return -ENOMEM;
    randombytes_buf(d.id, sizeof d.id);
    memcpy(d.parent[0], d.id, sizeof d.id);
    memcpy(d.pd_id, keys->pd_id, sizeof d.pd_id);
    name_keys_derive(keys->name_key, names);
    dirrec_encode(&d, names, record);
    locked_free(names);
    int r = io_replace_file(dirfd, DIRREC_NAME, record, sizeof record, 0600);
    return r ? r : journal_create(dirfd, keys->volume_id, keys->journal_key, false);
}

/* ---- opening ---- */

static struct volume *volume_alloc(const struct keyset *keys, const struct volume_options *o)
{
    struct volume *v = calloc(1, sizeof *v);
    if (!v)
        return NULL;
    pthread_condattr_t monotonic;
    v->root_fd = -1;
    v->opt = *o;
    v->suite = keys->suite;
    memcpy(v->id, keys->volume_id, ID_BYTES);
    pthread_mutex_init(&v->pd_lock, NULL);
    freeze_init(&v->freeze);
    gate_init(&v->gate);
    pthread_rwlock_init(&v->tree_lock, NULL);
    pthread_mutex_init(&v->move_lock, NULL);
    pthread_mutex_init(&v->moved_lock, NULL);
    pthread_mutex_init(&v->idle.lock, NULL);
    pthread_mutex_init(&v->dirty_lock, NULL);
    pthread_mutex_init(&v->checkpoint_lock, NULL);
    pthread_mutex_init(&v->seal_lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&v->flusher_wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    v->mark = checkpoint_mark_new();
    v->newdirs = o->read_only ? NULL : newdirs_new();
    return v;
}

static void volume_free(struct volume *v)
{
    seal_wait_free(v);
    newdirs_free(v->newdirs);
    if (v->nodes)
        node_tables_free(v);
    ballast_free(v);
    if (v->root_fd >= 0)
        close(v->root_fd);
    pd_table_free(v);
    share_free(v);
    free(v->mark);
    free(v->moved);
    pthread_mutex_destroy(&v->pd_lock);
    gate_clear(&v->gate);
    freeze_clear(&v->freeze);
    pthread_rwlock_destroy(&v->tree_lock);
    pthread_mutex_destroy(&v->move_lock);
    pthread_mutex_destroy(&v->moved_lock);
    pthread_mutex_destroy(&v->idle.lock);
    pthread_mutex_destroy(&v->dirty_lock);
    pthread_mutex_destroy(&v->checkpoint_lock);
    pthread_mutex_destroy(&v->seal_lock);
    pthread_cond_destroy(&v->flusher_wake);
    free(v);
}

static uint64_t volume_journal_bytes(const struct volume *v)
{
    uint64_t bytes = v->opt.journal_bytes ? v->opt.journal_bytes : JOURNAL_BYTES;
    bytes = (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    return bytes < JOURNAL_RING_MIN ? JOURNAL_RING_MIN : bytes > JOURNAL_RING_MAX ? JOURNAL_RING_MAX : bytes;
}

int volume_reset_journal(struct volume *v)
{
    uint64_t bytes = volume_journal_bytes(v);
    checkpoint_forget(v);
    for (;;) {
        int r = journal_reset(v->journal, bytes);
        atomic_store(&v->period_seq, journal_head(v->journal).seq);
        if (!r && !v->ballast && !v->ballast_needless)
            r = ballast_open(v, bytes);
        if (r != -ENOSPC || bytes / 2 < JOURNAL_RING_MIN)
            return r;
        bytes = bytes / 2 / PAGE_BYTES * PAGE_BYTES;
    }
}

static int open_journal(struct volume *v)
{
    const uint8_t *key = pd_keys(pd_root(v))->set.journal_key;
    bool writable = !v->opt.read_only;
    enum journal_mode mode = !writable ? JOURNAL_READ : v->opt.shared ? JOURNAL_SHARED : JOURNAL_WRITE;
    int r = journal_open(v->root_fd, v->id, key, mode, &v->journal);
    if (r != LFS_ERR_JOURNAL || !v->opt.ignore_journal)
        return r;
    v->journal_lost = true; /* files may be between two states: their seals are not held against them */
    if (!writable) {
        v->suspect_since = 1; /* what the journal had to say about lengths is lost */
        return journal_absent(v->id, key, &v->journal);
    }
    r = journal_create(v->root_fd, v->id, key, true);
    return r ? r : journal_open(v->root_fd, v->id, key, mode, &v->journal);
}

/* Without its record nothing in the root could be named; better said now than at every access. */
static int check_root(struct volume *v)
{
    uint8_t id[ID_BYTES];
    int r = node_dir_id(v->root, id);
    return r == -ENOENT ? LFS_ERR_CORRUPT : r;
}

/* The life that ended uncleanly began at its generation, by the clock (journal_reset). */
int64_t volume_suspect_time(const struct volume *v)
{
    int64_t now = time(NULL), began = (int64_t)journal_generation(v->journal);
    return (began < now ? began : now) - 3600 > 0 ? (began < now ? began : now) - 3600 : 1;
}

/* With the volume to itself. */
static int replay_alone(struct volume *v, struct replay_report *report)
{
    if (!v->opt.read_only)
        ballast_discard(v);
    if (journal_ring(v->journal))
        v->suspect_since = volume_suspect_time(v);
    int r = replay_run(v, report);
    if (!r && !v->opt.read_only)
        r = tree_clean_root(v);
    if (!r && !v->opt.read_only)
        r = volume_reset_journal(v);
    return r;
}

static int open_parts(struct volume *v, const char *path, const struct keyset *keys,
                      struct replay_report *report)
{
    struct stat st;
    int r = v->mark ? pd_table_init(v, keys) : -ENOMEM;
    if (r)
        return r;
    v->root_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (v->root_fd < 0 || fstat(v->root_fd, &st))
        return -errno;
    v->dev = st.st_dev;
    r = open_journal(v);
    if (!r)
        r = node_tables_init(v);
    if (!r && v->opt.shared)
        r = share_open(v, report);
    if (!r && !v->opt.damaged_root)
        r = check_root(v);
    if (!r && !v->opt.shared)
        r = replay_alone(v, report);
    return r;
}

int volume_open(const char *path, const struct keyset *keys, const struct volume_options *o,
                struct replay_report *report, struct volume **out)
{
    struct replay_report none = {0};
    struct volume *v = volume_alloc(keys, o);
    if (!v)
        return -ENOMEM;
    int r = open_parts(v, path, keys, &none);
    if (report)
        *report = none;
    if (r) {
        journal_close(v->journal, false);
        volume_free(v);
        return r;
    }
    v->idle.on = true;
    *out = v;
    return 0;
}

int volume_open_bare(const char *path, struct volume **out)
{
    static const struct keyset none = {0};
    struct stat st;
    struct volume *v = volume_alloc(&none, &(struct volume_options){.read_only = true});
    if (!v)
        return -ENOMEM;
    int r = pd_table_init(v, NULL);
    if (!r) {
        v->root_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        r = v->root_fd < 0 || fstat(v->root_fd, &st) ? -errno : 0;
    }
    if (!r) {
        v->dev = st.st_dev;
        r = node_tables_init(v);
    }
    if (r)
        volume_free(v);
    else
        *out = v;
    return r == -ENOENT || r == -ENOTDIR ? LFS_ERR_NOTVOLUME : r;
}

void volume_close_bare(struct volume *v)
{
    volume_free(v);
}

int volume_start(struct volume *v)
{
    int r = share_start(v);
    return r || v->opt.read_only || v->opt.no_flusher ? r : checkpoint_start(v);
}

int checkpoint_all(struct volume *v)
{
    size_t count;
    struct node **moved = home_take_moved(v, &count);
    int r = checkpoint_run(v, true);
    if (home_settle_moved(v, moved, count, r == 0))
        r = checkpoint_run(v, true);
    return r;
}

static int checkpoint_here(struct volume *v)
{
    VOLUME_CHANGE(v);
    int r = volume_enter(v, true);
    if (r)
        return r == LFS_ERR_NOKEY ? 0 : r; /* locking made one */
    r = volume_check_writable(v);
    if (!r)
        r = checkpoint_all(v);
    volume_leave(v);
    return r;
}

/* While another mount has the volume, nothing of this one is not in place. */
int volume_checkpoint(struct volume *v)
{
    int r = share_join(v) ? checkpoint_here(v) : 0;
    share_leave(v);
    return r;
}

/* What became clean by the last checkpoint is sealed, and the seals are put in place. */
static int seal_rest(struct volume *v)
{
    uint64_t before = atomic_load(&v->seals);
    int r = volume_seal_all(v);
    return r || atomic_load(&v->seals) == before ? r : volume_checkpoint(v);
}

int volume_close(struct volume *v)
{
    freeze_end(v);
    checkpoint_stop(v);
    if (v->share && seal_waits(v))
        volume_seal_all(v);
    bool ours = !v->opt.read_only && share_stop(v);
    int r = ours ? volume_checkpoint(v) : 0;
    if (!r && ours)
        r = seal_rest(v);
    if (!r && atomic_load(&v->read_only))
        r = -EROFS;
    bool clean = !r && ours && pd_keys(pd_root(v)) && journal_used(v->journal) == 0;
    int e = journal_close(v->journal, clean);
    volume_free(v);
    return r ? r : e;
}
