/* struct volume, shared by the sources of fs/store only. Lock order (outermost first), see docs/LOCKING.md:
 *   volume.pd_lock > volume.gate (every call) > volume.checkpoint_lock > file.lock
 *   > volume.tree_lock > node table shard > fd cache > volume.dirty_lock > journal.append > journal.sync
 * So nothing of file*.c that takes a file's lock (file_fix_stat, file_settle, ...) is called under tree_lock.
 */
#ifndef LATCHFS_STORE_VOLUME_H
#define LATCHFS_STORE_VOLUME_H

#include "fs/store/gate.h"
#include "latchfs/aead.h"
#include "latchfs/err.h"
#include "latchfs/keyset.h"
#include "latchfs/name.h"
#include "latchfs/store.h"

#include <pthread.h>
#include <stdatomic.h>

struct journal;
struct node_table;
struct fd_cache;
struct pd_table;

enum lock_state { VOLUME_UNLOCKED, VOLUME_LOCKING, VOLUME_LOCKED };

struct volume {
    int root_fd; /* O_RDONLY | O_DIRECTORY */
    dev_t dev;
    struct volume_options opt;
    uint8_t id[ID_BYTES];
    uint8_t suite;

    pthread_mutex_t pd_lock; /* one locking or unlocking at a time, of the volume or a protected directory */
    struct gate gate;        /* every call is inside from volume_enter to volume_leave */
    struct pd_table *pds;    /* pd.h: keys */
    _Atomic int lock_state;  /* enum lock_state, of the whole */
    atomic_bool read_only;

    pthread_rwlock_t tree_lock; /* guards every node's parent and stored; held for writing around a rename,
                                   unlink or link that changes them, for reading while a path is walked */
    struct node *root;
    struct node_table *nodes; /* node.c */
    struct fd_cache *fds;     /* fdcache.c */

    struct journal *journal;    /* NULL when opened read-only */
    pthread_mutex_t dirty_lock; /* guards the dirty list and the flusher's state */
    struct file *dirty;         /* files with entries, or with in-place data to sync before the tail moves */
    size_t dirty_count;
    pthread_cond_t flusher_wake;
    pthread_t flusher;
    bool flusher_runs, flusher_stop, flusher_hurry;
    pthread_mutex_t checkpoint_lock; /* one checkpoint at a time */
    _Atomic uint64_t period_seq;     /* where the last checkpoint began: earlier entries will go first */
    _Atomic uint64_t pending_chunks; /* in all overlays */
    _Atomic int apply_error;         /* of the last putting in place that failed; 0: none */
    struct checkpoint_mark *mark;    /* checkpoint.c's */
    struct ballast *ballast;         /* NULL where fallocate does */

    _Atomic(struct rotation_moves *) rotation; /* what moves while a rotation walks (rotate.h); NULL: none */

    /* After an unclean end: files changed since may be longer than their headers say (fresh data that no
     * entry speaks of), so that their lengths are not believed before they were loaded. 0: all lengths are
     * right. */
    int64_t suspect_since; /* seconds since 1970 */

    _Atomic uint64_t auth_failures, checkpoints;
};

/* Every public call that needs keys runs between these. enter answers LFS_ERR_NOKEY when locked; a call that
 * writes out dirty pages passes while locking (writing = true). leave keeps errno. */
int volume_enter(struct volume *v, bool writing);
void volume_leave(struct volume *v);

/* -EROFS once the volume is read-only. */
int volume_check_writable(const struct volume *v);

/* A sync failed: nothing may be written any more. Says so once to standard error by log.h. */
void volume_fail_readonly(struct volume *v, int err, const char *what);

/* Counts corrupt or unauthentic data; returns err unchanged. */
int volume_note(struct volume *v, int err);

/* A ring of the wished size, or as much as the disk has room for. */
int volume_reset_journal(struct volume *v);

/* This thread's AEAD context and a scratch buffer of SCRATCH_BYTES, made at first use, freed at thread end.
 * NULL when memory is out. Keys are cleared by the user of the context after each request. */
#define SCRATCH_BYTES ((1u << 20) + 32 * PAGE_BYTES)
void thread_forget_key(void);
struct aead *thread_aead(void);
uint8_t *thread_scratch(void);

#endif
