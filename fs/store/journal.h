/* The journal file latchfs.journal: a ring of entries, each chained to the one before by its MAC. Thread
 * safe. Positions are virtual (ever growing); physical = JOURNAL_RING_AT + pos % ring. */
#ifndef LATCHFS_STORE_JOURNAL_H
#define LATCHFS_STORE_JOURNAL_H

#include "latchfs/jentry.h"

#include <stdbool.h>
#include <sys/uio.h>

struct journal;

/* A place between two entries: where the next one begins. */
struct journal_point {
    uint64_t pos, seq;
    uint8_t mac[JENTRY_MAC_BYTES];
};

/* Makes a clean journal (two pages, no ring), synced. Replaces an existing one only with overwrite. */
int journal_create(int dirfd, const uint8_t volume_id[static ID_BYTES],
                   const uint8_t key[static LFS_KEY_BYTES], bool overwrite);

/* How a volume is used: to look at it (others may, too), to change it alone, or to change it in turns with
 * others (journal_lock.h). */
enum journal_mode { JOURNAL_READ, JOURNAL_WRITE, JOURNAL_SHARED };

/* Opens and locks it (LFS_ERR_BUSY). LFS_ERR_JOURNAL: missing, unreadable, another volume's. A shared one is
 * not read before journal_read_again. */
int journal_open(int dirfd, const uint8_t volume_id[static ID_BYTES], const uint8_t key[static LFS_KEY_BYTES],
                 enum journal_mode mode, struct journal **out);

/* Of a shared journal, when the token was taken: as if it were opened now. *changed: somebody else has
 * written to it since it was last read or written here. LFS_ERR_JOURNAL: it was replaced. */
int journal_read_again(struct journal *j, bool *changed);

/* Stands in for a journal that is not there, of a volume that is only read: no ring, no entries. */
int journal_absent(const uint8_t volume_id[static ID_BYTES], const uint8_t key[static LFS_KEY_BYTES],
                   struct journal **out);

/* Unlocks and frees. With clean (everything in place and synced) the ring is dropped first. Takes NULL. */
int journal_close(struct journal *j, bool clean);

/* The next generation with an empty ring of ring_bytes, durable when it returns. Whatever the ring held must
 * be in place and synced. */
int journal_reset(struct journal *j, uint64_t ring_bytes);

/* Lifts the generation above least, durable when it returns: for a journal put back from a backup, whose
 * entries a later replay would skip for files changed since. */
int journal_raise(struct journal *j, uint64_t least);

/* Drops the ring of an empty journal: clean on disk until the next reset. */
int journal_park(struct journal *j);

/* The same, but the ring's space stays with the file, behind its end: the next reset needs none. */
int journal_rest(struct journal *j);

uint64_t journal_generation(const struct journal *j);
bool journal_is_copy(const struct journal *j);  /* the file is not the one that was written to */
uint64_t journal_ring(const struct journal *j); /* 0: clean, no ring */
uint64_t journal_used(struct journal *j);
uint64_t journal_syncs(const struct journal *j);

/* Keys away and back (locking the volume); the ring must be empty meanwhile. */
void journal_forget_keys(struct journal *j);
int journal_set_key(struct journal *j, const uint8_t key[static LFS_KEY_BYTES]);

/* Space for an entry of at most bytes in all; -EAGAIN when a checkpoint must make room first. system: the
 * checkpoint's own entries, which may use the headroom. Every reserve ends in one append or unreserve. */
int journal_reserve(struct journal *j, uint64_t bytes, bool system);
void journal_unreserve(struct journal *j, uint64_t bytes);

/* Appends to the page cache. reserved is given back. When it returns, this entry and all before it are whole
 * in the page cache. *data_at: offset in the file of the first data byte. A failure leaves the chain as it
 * was. */
struct jentry_new {
    const uint8_t *file_id; /* NULL: of no file */
    uint64_t ino;
    const uint8_t *items;
    uint32_t item_bytes;
    struct iovec *data; /* may be changed; up to data_n pieces */
    int data_n;
};
int journal_append(struct journal *j, const struct jentry_new *e, uint64_t reserved, uint64_t *seq,
                   uint64_t *data_at);

/* Durable up to and including seq when it returns; one flush serves all who wait. */
int journal_sync(struct journal *j, uint64_t seq);
int journal_flush(struct journal *j); /* everything appended, and the superblock; always a flush of its own */

struct journal_point journal_head(struct journal *j); /* where the next entry will begin */

/* Why a flush failed, or 0: then nothing of the journal is synced any more. */
int journal_error(struct journal *j);

/* Frees everything before p, which must be in place and synced. Durable when it returns; after an error of
 * the write alone (journal_error tells) the tail is where it was, and may be moved again. */
int journal_move_tail(struct journal *j, const struct journal_point *p);

/* Ciphertext of an entry, by an offset that journal_append or journal_next gave. */
int journal_read(struct journal *j, void *buf, size_t len, uint64_t at);
/* The same, while it is not known that it is there: 1, or 0 where the file ends before. */
int journal_look(struct journal *j, void *buf, size_t len, uint64_t at);

/* Walks the valid entries from the tail, before anything is appended. */
struct journal_entry {
    struct jentry_head head;
    const uint8_t *items; /* in buf */
    uint64_t data_at;
};
struct journal_cursor {
    struct journal_point at;
    uint8_t *buf; /* JENTRY_HEAD_BYTES + JENTRY_ITEMS_MAX + JENTRY_MAC_BYTES, malloc'ed by begin */
};
int journal_begin(struct journal *j, struct journal_cursor *c);
/* 1 an entry, 0 the end of the valid ones, < 0 an error: what could not be read is not the end. Data is not
 * checked: its CRCs stand in the items. */
int journal_next(struct journal *j, struct journal_cursor *c, struct journal_entry *e);
void journal_end(struct journal_cursor *c);

/* After a walk: the next append goes to where the walk ended. */
void journal_continue(struct journal *j, const struct journal_point *at);

#endif
