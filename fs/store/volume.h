/* struct volume, shared by the sources of fs/store only. Lock order (outermost first), see docs/LOCKING.md:
 *   volume.freeze.turn > volume.pd_lock > volume.seal_lock > volume.gate (every call) >
 *   volume.checkpoint_lock > file.lock > volume.tree_lock > node table shard > fd cache > volume.dirty_lock >
 *   journal.append > journal.sync
 * So nothing of file*.c that takes a file's lock (file_fix_stat, file_settle, ...) is called under tree_lock.
 */
#ifndef LATCHFS_STORE_VOLUME_H
#define LATCHFS_STORE_VOLUME_H

#include "fs/store/freeze.h"
#include "fs/store/gate.h"
#include "latchfs/aead.h"
#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/keyset.h"
#include "latchfs/name.h"
#include "latchfs/record.h"
#include "latchfs/store.h"

#include <pthread.h>
#include <stdatomic.h>

struct journal;
struct node_table;
struct fd_cache;
struct pd_table;
struct share;
struct newdirs;

/* A file that was renamed or linked into another directory (file_home.h). */
struct home_moved {
    dev_t dev;
    ino_t ino;
};

enum lock_state { VOLUME_UNLOCKED, VOLUME_LOCKING, VOLUME_LOCKED };

struct volume {
    int root_fd; /* O_RDONLY | O_DIRECTORY */
    dev_t dev;
    struct volume_options opt;
    uint8_t id[ID_BYTES];
    uint8_t suite;

    struct share *share;     /* share.h: NULL unless other mounts may change the volume; outside all locks */
    struct freeze freeze;    /* outside all other locks */
    pthread_mutex_t pd_lock; /* one locking or unlocking at a time, of the volume or a protected directory */
    struct gate gate;        /* every call is inside from volume_enter to volume_leave */
    struct pd_table *pds;    /* pd.h: keys */
    _Atomic int lock_state;  /* enum lock_state, of the whole */
    atomic_bool read_only;

    pthread_mutex_t move_lock;  /* one file at a time gets a name in another directory (file_home.h) */
    pthread_mutex_t moved_lock; /* a leaf */
    struct home_moved *moved;   /* those that did lately; guarded by moved_lock */
    size_t moved_count;
    pthread_rwlock_t tree_lock; /* guards every node's parent and stored; held for writing around a rename,
                                   unlink or link that changes them, for reading while a path is walked */
    struct node *root;
    struct node_table *nodes; /* node.c */
    struct fd_cache *fds;     /* fdcache.c */

    struct { /* loaded files without users (file_idle.c) */
        pthread_mutex_t lock;
        struct file *newest, *oldest;
        unsigned count;
        bool on; /* the volume is open: a file that replay looked at is not kept */
    } idle;

    struct journal *journal;    /* NULL when opened read-only */
    pthread_mutex_t dirty_lock; /* guards the dirty list and the flusher's state */
    struct file *dirty;         /* files with entries, or with in-place data to sync before the tail moves */
    size_t dirty_count;
    struct newdirs *newdirs; /* newdirs.h: directories whose records may not be on disk */
    pthread_cond_t flusher_wake;
    pthread_t flusher;
    bool flusher_runs, flusher_stop, flusher_hurry;
    int64_t flush_at; /* when the next checkpoint is due, in milliseconds; 0: nothing is dirty */
    pthread_mutex_t checkpoint_lock; /* one checkpoint at a time */
    _Atomic uint64_t period_seq;     /* where the last checkpoint began: earlier entries will go first */
    _Atomic uint64_t pending_chunks; /* in all overlays */
    _Atomic int apply_error;         /* of the last putting in place that failed; 0: none */
    struct checkpoint_mark *mark;    /* checkpoint.c's */
    struct ballast *ballast;         /* NULL where fallocate does */
    bool ballast_needless;           /* that has been tried */

    /* Seals (seal.h). The list is guarded by dirty_lock. */
    pthread_mutex_t seal_lock; /* one at a time makes seals */
    struct seal_waiter *seal_first, *seal_last;
    size_t seal_waiting;               /* on the list */
    _Atomic size_t seal_keeping;       /* of them with file state */
    int64_t seal_raised;               /* when a turn last raised the journal's generation (seal_lock) */
    _Atomic int seal_asked;            /* who wants to make seals now: the flusher gives way */
    _Atomic uint64_t seal_kept, seals; /* bytes of kept hashes; seals made */
    atomic_int order;                  /* how names reach the disk below; see dirrec_copy.c */
    atomic_bool cannot_peek;           /* reads without waiting are not supported below */
    bool journal_lost;                 /* a new journal was made in place of one that may have had entries */

    _Atomic(struct rotation_moves *) rotation; /* what moves while a rotation walks (rotate.h); NULL: none */

    /* After an unclean end: files changed since may be longer than their headers say (fresh data that no
     * entry speaks of), so that their lengths are not believed before they were loaded. 0: all lengths are
     * right. */
    int64_t suspect_since; /* seconds since 1970 */

    _Atomic uint64_t auth_failures, checkpoints, checkpoint_at;
    _Atomic int failed_sync;
};

/* The tree of a volume without keys and journal, to look at the ciphertext: nothing decrypts, nothing is
 * written. LFS_ERR_NOTVOLUME: no directory is there. */
int volume_open_bare(const char *path, struct volume **out);
void volume_close_bare(struct volume *v);

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

/* When the life began whose journal is open, by the clock: seconds since 1970, never 0. */
int64_t volume_suspect_time(const struct volume *v);

/* A ring of the wished size, or as much as the disk has room for. */
int volume_reset_journal(struct volume *v);

/* This thread's AEAD context and a scratch buffer of SCRATCH_BYTES, made at first use, freed at thread end.
 * NULL when memory is out. Keys are cleared by the user of the context after each request. */
#define SCRATCH_BYTES ((1u << 20) + 32 * PAGE_BYTES)
void thread_forget_key(void);
struct aead *thread_aead(void);
uint8_t *thread_scratch(void);

/* The ciphertext of inline content that came with a header which this thread has just read, for the read that
 * follows. It is known again by its record, and handed out once: false when it is not there. cipher has
 * INLINE_MAX bytes. */
void thread_keep_inline(const struct record *rec, const uint8_t *cipher);
bool thread_take_inline(const struct record *rec, uint8_t *cipher);

#endif
