/* struct file: contents of one regular file in memory, from its first use until everything of it is in place
 * and it was not used for a while. Used by file*.c, txn.c, checkpoint.c and replay.c only.
 *
 * In place: the bytes of the backing file. Pending: in the journal, seen through the overlay. The only ways
 * to change a file are a transaction (txn.h), fresh data (file_write.c) and the first write of an empty file.
 */
#ifndef LATCHFS_STORE_FILE_H
#define LATCHFS_STORE_FILE_H

#include "fs/store/journal.h"
#include "fs/store/node.h"
#include "fs/store/overlay.h"
#include "latchfs/header.h"

#include <pthread.h>

enum content_state { CONTENT_NONE, CONTENT_INLINE, CONTENT_PAGED };

/* A content key, and what goes with it into a message. The serial tells it from another that bore the same id
 * and epoch for a moment: a new key whose entry failed. */
struct key_name {
    uint64_t serial;
    uint8_t file_id[ID_BYTES];
    uint16_t epoch;
    uint8_t suite;
};

/* Locked memory (file_keys_new). k[0] is of the newest epoch. */
struct file_keys {
    uint64_t serial; /* no other ever has it */
    int count;
    uint8_t file_id[ID_BYTES];
    uint8_t suite;
    struct {
        uint16_t epoch;
        uint8_t content[LFS_KEY_BYTES];
        uint8_t xattr[LFS_KEY_BYTES];
    } k[2];
    uint8_t header[LFS_KEY_BYTES];
    uint8_t seal[LFS_KEY_BYTES];
};

struct file {
    struct node *n;
    unsigned users; /* guarded by n->file_lock: openers, calls under way, the dirty list */
    struct file *idle_prev, *idle_next; /* without users (file_idle.c); guarded by vol->idle.lock */
    bool is_idle;

    pthread_rwlock_t lock; /* guards all that follows: read to read content, write to change it, to load it
                              and to put it in place */
    bool loaded;
    enum content_state state; /* pending changes included */
    struct file_header hdr;   /* valid unless state is NONE; pending changes included */
    struct file_keys *keys;   /* changes with key_lock as well, under which alone it may be read too */
    pthread_mutex_t key_lock; /* a leaf */

    /* What lies in place. */
    enum content_state placed_state;
    uint64_t placed_length; /* of the backing file */
    uint64_t placed_chunks; /* no chunk from here on has a record in place */
    bool untrimmed;         /* what the header does not speak of still lies behind the end (trim) */
    bool mending;           /* being loaded by file_lock_mend */
    bool transient;         /* not to be kept without users */
    bool hasty;             /* it is being loaded for somebody who does not wait for a disk */
    bool zero_page;         /* page 0 never reached the disk: the old length is cut at the first write */
    bool sparse;            /* in-place pages may be unallocated although below placed_chunks */
    bool never_synced;      /* born since mount and no fsync asked for yet: prefers fresh space */
    uint64_t reserved_to;   /* backing space is allocated up to this offset, unless sparse */
    struct rangeset space;  /* of a sparse file: what is known to be allocated */

    struct overlay ov;
    struct rangeset named[3]; /* chunks that live entries name, by age: [0] since the last checkpoint began,
                                 [1] before it, [2] gone when the tail next moves (checkpoint.c) */
    uint64_t first_seq;       /* of the first entry not in place; 0: none */
    uint64_t last_seq;        /* of the last entry */
    uint64_t fresh_seq;       /* of the last entry with fresh data; 0: none live */
    uint64_t marked_seq;      /* fresh data up to this entry is known to be on disk, and a mark says so */
    uint64_t placed_gen;      /* counts changes of in-place bytes */
    uint64_t synced_gen;      /* its value when the last finished sync of the file began */
    uint64_t hint_seq;        /* of the last entry with the path */
    uint64_t rekey_seq;       /* of the entry that made the newest file key; 0: it is in place */

    uint8_t *page_hash;           /* of the tag pages in place, by number: 32 bytes each, zeros: unknown */
    _Atomic uint64_t page_hashes; /* room for so many */
    bool seal_unfit;              /* it does not fit, and the journal that could have mended that was lost */
    bool seal_asked;              /* the seal that was loaded fits, or is in nobody's way (a repair) */
    _Atomic(struct seal_run *) seal_later; /* of the seal that was opened, not asked to the end; NULL: none */
    uint8_t seal_later_root[32];
    atomic_bool seal_misfit; /* that seal did not fit */
    uint64_t opened_seq;     /* of the entry that opens the seal that stands in place; 0: none */

    struct timespec mtime; /* the plaintext's, while mtime_known; the place may have a later one */
    bool mtime_known, mtime_touched;

    struct node *removed_from; /* directory to sync before the tail passes a removed file (referenced) */

    pthread_mutex_t
        sync_lock; /* one fsync at a time, so that none returns on the strength of another under way */

    uint64_t mark_round;   /* the checkpoint's: fresh data up to here was written before its sync began */
    uint64_t sync_first;   /* the checkpoint's: first_seq when its sync began */
    uint64_t sync_gen;     /* the checkpoint's: placed_gen when its sync began */
    struct node *sync_dir; /* the checkpoint's: removed_from when its sync began */
    uint64_t mark_entry;   /* the journal's sequence number of the last mark of this file */
    bool replayed;         /* the overlay came from an unclean journal that stays as it is (read-only) */

    bool clean_open; /* the checkpoint's: it goes off the list and waits for a seal */
    bool listed;     /* guarded by vol->dirty_lock, as the list is */
    struct file *dirty_next;
};

/* The node's file state with one more user; made when there is none. */
int file_get(struct node *n, struct file **out);
struct file *file_peek(struct node *n); /* the same if there is one, else NULL */

/* The last user puts the plaintext's mtime back. Files that are loaded stay so for a while without users, the
 * last FILE_IDLE_MAX of them, so that programs which the store does not see opening them read on at once. */
#define FILE_IDLE_MAX 256u
void file_put(struct file *f);

/* Drops the node's file state if nobody uses it: the next one looks at the place. */
void file_forget_idle(struct node *n);
/* The same for all files of the volume. */
void files_forget_idle(struct volume *v);

/* Locks for reading or writing with the header loaded and checked. */
int file_lock_read(struct file *f);
int file_lock_write(struct file *f);
/* As file_lock_read, but -EAGAIN rather than wait for a header that the page cache does not have; the disk
 * has been asked for it then. */
int file_lock_read_now(struct file *f);
static inline void file_unlock(struct file *f)
{
    pthread_rwlock_unlock(&f->lock);
}

/* As file_lock_read, for a check: counts nothing, leaves alone what stands behind the end that the header
 * gives (excess bytes of it), and asks neither the seal nor where the file stands. So a file that is not
 * loaded may be so for this look only: the lock is then held for writing. */
struct file_look {
    uint64_t excess;
    bool forget;
};
int file_lock_check(struct file *f, struct file_look *look);
void file_unlock_check(struct file *f, const struct file_look *look);

/* As file_lock_write, for a repair: neither a broken seal nor a wrong place nor a backing file that is too
 * short is in the way.
 * A file that is too short must be cut to what is there before it is unlocked. */
int file_lock_mend(struct file *f);

/* With the lock held (for writing where it says so). */
static inline uint64_t file_size(const struct file *f)
{
    return f->state == CONTENT_NONE ? 0 : f->hdr.size;
}
const uint8_t *file_content_key(const struct file *f, uint16_t epoch); /* NULL: no such epoch */
const uint8_t *file_dir_key(const struct file *f, uint32_t version);   /* NULL: none */
uint32_t file_active_version(const struct file *f);
struct file_keys *file_keys_new(void); /* empty; locked_free frees; NULL: no memory */
/* The keys of a decoded header, whose MAC is checked with them. */
int file_open_keys(struct node *n, const struct file_header *h, struct file_keys **out);
/* Subkeys of a file key into k[i]; of the newest (i == 0) the header's and the seal's too. */
void file_derive_keys(struct file_keys *keys, int i, uint16_t epoch, const uint8_t *file_key);
/* f->keys changes by this only (write lock): returns what it was, the caller's from then on. */
struct file_keys *file_keys_swap(struct file *f, struct file_keys *keys);
/* Loads the newest content key without the file's lock. False: none is in memory, or the context failed. */
bool file_key_ahead(struct file *f, struct aead *a, struct key_name *name);
void file_reset(struct file *f);       /* write lock; as if it were new: others have changed the file */
void file_forget_keys(struct file *f); /* write lock; to be loaded anew at next use; nothing may be pending */

/* Gives a file without a header its id and keys, in memory (write lock). */
int file_new_header(struct file *f, enum content_state state, struct file_header *h);

/* Stamps the generation, sets the MAC and encodes. */
void file_encode_header(const struct file *f, struct file_header *h, uint8_t image[static HEADER_BYTES]);

/* Reads the plaintext of one chunk into plain[4096], zeros behind *len. *len 0 for a hole (lock held). */
int file_read_chunk(struct file *f, int fd, uint64_t chunk, uint8_t plain[static PAGE_BYTES], size_t *len);
/* The chunks [first, first + count) of one group that are not under epoch: plain gets each one's bytes at
 * i * PAGE_BYTES and length[i] their number, 0 for all others. Uses the first 129 pages of the scratch
 * buffer, in which plain may lie behind them (lock held). */
int file_read_other(struct file *f, int fd, uint64_t first, uint32_t count, uint16_t epoch, uint8_t *plain,
                    uint16_t *length);
/* True if no chunk of them is under another epoch, by the records alone (lock held, nothing of another epoch
 * is pending). < 0: an error. */
int file_run_is_under(struct file *f, int fd, uint64_t first, uint32_t count, uint16_t epoch);
/* What reading the chunks [first, first + count) of one group meets: why[i] is 0, 1 for a hole, or the
 * error of that chunk. fd: any descriptor of the file (lock held). < 0: nothing could be read. */
int file_verify_chunks(struct file *f, int fd, uint64_t first, uint32_t count, int *why);
/* The inline content (state INLINE, lock held). */
int file_read_inline(struct file *f, int fd, uint8_t plain[static PAGE_BYTES]);

/* Room in the journal for one request; makes a checkpoint when there is none. No lock of a file may be held.
 */
#define FILE_RESERVE ((uint64_t)(1u << 20) + 192 * 1024)
/* A part of it for a transaction of its own: 0 when too little is left. */
#define FILE_SHARE ((uint64_t)32 * 1024)
static inline uint64_t file_share(uint64_t *reserved, uint64_t bytes)
{
    uint64_t part = *reserved < bytes ? 0 : bytes;
    *reserved -= part;
    return part;
}
int file_reserve(struct volume *v, uint64_t bytes);

/* The write of [off, off + len) and the change of size, with the write lock held and *reserved bytes of the
 * journal (consumed by setting it to 0 when a transaction took them). len: at most FILE_PIECE, within
 * FILE_PIECE_CHUNKS chunks. */
#define FILE_PIECE_CHUNKS 256u
#define FRESH_RUN 8u /* chunks: shorter runs of a file that was synced go through the journal */
#define FILE_MESSAGES_MAX (UINT64_C(1) << 32) /* under one key with random nonces (SP 800-38D, 8.3) */
int file_write_locked(struct file *f, const uint8_t *buf, size_t len, uint64_t off, uint64_t *reserved);
struct piece; /* file_piece.h */
int file_write_piece(struct piece *p, const uint8_t *buf, size_t len, uint64_t off, uint64_t *reserved);
int file_truncate_locked(struct file *f, uint64_t size, uint64_t *reserved);

/* The first content of a file in state NONE, in place at once: a whole inline file, or the header of an empty
 * paged one (write lock held). */
int file_born(struct file *f, int fd, const uint8_t *buf, size_t len, uint64_t off);

/* Parts of a write, for file_size.c too. messages: how many will be sealed. */
int file_writing_key(struct file *f, const struct file_header *h, uint64_t messages, struct aead **a,
                     uint16_t *epoch);
int file_seal_inline(struct file *f, struct file_header *h, const uint8_t *plain, size_t len,
                     uint8_t *cipher);
int file_write_inline(struct file *f, int fd, const uint8_t *buf, size_t len, uint64_t off,
                      uint64_t *reserved); /* what stays inline */
int file_store_inline(struct file *f, const uint8_t *plain, size_t len, uint64_t *reserved);
int file_remember_chunk(struct file *f, uint64_t chunk, const uint8_t record[static RECORD_BYTES],
                        uint64_t data_at); /* into the overlay, after its commit */

/* ---- space of the backing file (file_space.c), with the write lock held ---- */

void file_note_space(struct file *f, uint64_t lo, uint64_t hi); /* these bytes are allocated */
void file_note_gap(struct file *f);                             /* there may be bytes that are not */
void file_cut_space(struct file *f, uint64_t length);           /* from there on none are */
/* The backing file goes back to this length, which takes what was allocated behind it. That is allocated
 * again: pending chunks count on it. Best effort. */
void file_take_back(struct file *f, int fd, uint64_t length);
/* Allocates what putting chunks, or the records of one, in place will need, so that it can't fail for want of
 * space later. */
int file_reserve_pages(struct file *f, int fd, uint64_t first, uint32_t count);
int file_reserve_tag_page(struct file *f, int fd, uint64_t chunk);

/* ---- new keys for what stands (file_rekey.c): transactions, with the write lock held ---- */

/* Wraps the file keys by the active directory key. */
int file_rewrap(struct file *f, uint64_t *reserved);

/* A second place with a new file key, under which everything is written from now on; both are wrapped by the
 * active directory key. What was pending is settled first. Nothing for a file that has two. */
int file_rekey_begin(struct file *f, uint64_t *reserved);

/* Before a write: a file key that has nearly sealed as many messages as it may gets a successor, whose
 * re-encryption the next rotation finishes. */
int file_rekey_spent(struct file *f, uint64_t *reserved);

/* The next piece of content that is not under the newest key is written again. *chunk: where to look from;
 * goes on to where to look next, CHUNK_END when nothing is left. *bytes: how much it was. */
int file_rekey_some(struct file *f, uint64_t *chunk, uint64_t *bytes, uint64_t *reserved);

/* Drops the older place; everything written since it is the older one must be in place and on disk. */
int file_rekey_end(struct file *f, uint64_t *reserved);

/* The newest file key is in the journal on disk: before something under it goes in place by itself (any
 * lock). */
int file_key_durable(struct file *f);

static inline bool file_has_two_keys(const struct file *f)
{
    return f->state != CONTENT_NONE && f->hdr.place[0].epoch && f->hdr.place[1].epoch;
}

/* inline -> paged as a transaction of its own. */
int file_to_paged(struct file *f, uint64_t *reserved);

/* In-place writes outside transactions bump the backing mtime; this puts the plaintext's back (write lock).
 */
void file_restore_mtime(struct file *f);
void file_touch(
    struct file *f); /* an in-place or pending change of content: sets mtime unless the kernel does */

/* Onto the dirty list (any lock of f may be held). */
void file_list_dirty(struct file *f);

static inline bool file_is_unsynced(const struct file *f)
{
    return f->placed_gen != f->synced_gen;
}

/* True when the overlay, the journal or the page cache below still has something of this file. */
bool file_is_pending(const struct file *f);

/* Durable: syncs in-place data, marks what is fresh, syncs the journal (write lock held). */
int file_commit(struct file *f);

/* Appends marks: fresh data of f is on disk up to this entry. *seq is the last mark's entry. */
struct file_mark {
    struct file *f;
    uint64_t upto;
};
int file_mark(struct volume *v, const struct file_mark *marks, size_t count, uint64_t *seq);

static inline bool file_names_chunk(const struct file *f, uint64_t chunk)
{
    return rangeset_has(&f->named[0], chunk) || rangeset_has(&f->named[1], chunk) ||
           rangeset_has(&f->named[2], chunk);
}

/* Puts everything pending in place (write lock held; the file's entries are durable and marked). */
int file_apply(struct file *f);

/* Overlays may grow to this many chunks in all (48 bytes each) before a writer waits for a checkpoint. */
#define PENDING_CHUNKS_MAX (UINT64_C(192) << 10)

/* One checkpoint: see checkpoint.c. full: nothing is left in the journal. */
struct checkpoint_mark *checkpoint_mark_new(void);
void checkpoint_forget(struct volume *v); /* the journal is about to be reset: points into it are void */
int checkpoint_run(struct volume *v, bool full);
int checkpoint_all(struct volume *v);   /* full, and then what files that moved need no more (file_home.h) */
void checkpoint_wake(struct volume *v); /* the flusher makes one now */
void checkpoint_look(struct volume *v); /* it looks again what there is to do */
int checkpoint_start(struct volume *v); /* the flusher thread */
void checkpoint_stop(struct volume *v);

/* Replays the journal of an unclean volume; v->journal is open, nothing appended yet. */
int replay_run(struct volume *v, struct replay_report *report);

#endif
