/* The seal of a paged file: a root in its header over its size and every tag page (docs/FORMAT.md, "Seal").
 *
 * seal_root.c has the hashes of tag pages and the root, seal_wait.c the files that wait for a seal, seal.c
 * makes and checks seals, seal_later.c asks those of long files that changed before they were asked. A sealed
 * header always fits the records in place: it is made when everything of the file is in place and on disk,
 * and the entry of the first change opens it. */
#ifndef LATCHFS_STORE_SEAL_H
#define LATCHFS_STORE_SEAL_H

#include "fs/store/file.h"

#include <limits.h>

#define SEAL_OPEN_PAGES 8u  /* files with at most so many tag pages are checked when they are loaded */
#define SEAL_NOW_PAGES 64u  /* with at most so many to read the first change asks, else the next sealing */
#define SEAL_NEVER UINT_MAX /* volume_options.seal_seconds: no seals, no hashes */

static inline bool seal_is_on(const struct volume *v)
{
    return v->opt.seal_seconds != SEAL_NEVER && !v->opt.bypass_journal && !v->opt.read_only;
}

/* ---- hashes of tag pages, kept while the file is in memory (write lock) ---- */

/* The tag page of the group that begins at chunk first is in place now, or is no longer what it was. */
void seal_page_placed(struct file *f, uint64_t first, const uint8_t page[static PAGE_BYTES]);
void seal_page_lost(struct file *f, uint64_t first);
void seal_pages_cut(struct file *f, uint64_t size); /* keeps those of a file of this size; 0: none */
bool seal_keeps_pages(const struct file *f);

/* ---- the root ---- */

/* A root under way; in locked memory. Between two calls the file may be unlocked: who began with one state of
 * the file makes sure that it is still the same. */
struct seal_run;
struct seal_run *seal_run_new(const struct file *f); /* lock held; NULL: no memory */
/* The file's first page as it was just read from its place: it is not read again. Stays the caller's. */
void seal_run_first_page(struct seal_run *run, const uint8_t page[static PAGE_BYTES]);
void seal_run_free(struct seal_run *run); /* takes NULL */
/* About the file as it is in place at the call: changes of tag pages are told by seal_run_keep before they
 * happen. NULL: no memory, or too much is kept for such runs already (write lock). */
struct seal_run *seal_run_before(struct file *f);
void seal_run_keep(struct seal_run *run, uint64_t first, const uint8_t page[static PAGE_BYTES]);
bool seal_run_wants(const struct seal_run *run, uint64_t first); /* it has not seen that tag page yet */
/* Tag pages that will be read. */
uint64_t seal_run_reads(const struct seal_run *run, const struct file *f);
/* Goes on for a while: 1 there is more, 0 done. cached: kept hashes will do; else everything is read. */
int seal_run_some(struct seal_run *run, struct file *f, int fd, bool cached);
void seal_run_root(struct seal_run *run, uint8_t root[static 32]); /* once, at the end */

/* At load, of a file whose header was just read: LFS_ERR_AUTH, said once. Long files pass. Where the journal
 * was lost, one that does not fit passes too and is noted. page: the one that the header was read from, or
 * NULL. */
int seal_check_loaded(struct file *f, int fd, const uint8_t *page);
/* Opens a seal that was noted (write lock), so that later mounts do not hold it against the file. */
void seal_give_up(struct file *f);

/* Before the first change of a sealed file, if its seal was not asked at load: what would be sealed again
 * afterwards must be what was sealed. With many tag pages to read that is found out later (write lock). */
int seal_check_change(struct file *f);

/* LFS_ERR_AUTH, said once, when the run's root is not this one. */
int seal_compare(struct file *f, struct seal_run *run, const uint8_t root[static 32]);

/* ---- a seal that is asked after the first change (seal_later.c) ----
 *
 * The pages that change meanwhile are hashed as they were. The file gets no new seal before the old one was
 * found to fit; if it does not fit, it gets one that never will. */
int seal_later_begin(struct file *f);           /* write lock; -ENOMEM: ask now */
bool seal_is_asked_later(const struct file *f); /* that, or the answer was no */
/* The tag page of the group at chunk first is about to change in place; page: as it is, or NULL: it is read
 * (write lock). An error: it must not change yet. */
int seal_page_changes(struct file *f, int fd, uint64_t first, const uint8_t *page);
/* Goes on for a while: 1 there is more, 0 it fits or nothing was to ask, LFS_ERR_AUTH (lock held). */
int seal_later_some(struct file *f, int fd);
/* To the end, as the backing file is about to be cut (write lock). An error, which is no answer: it must not
 * be cut yet. */
int seal_later_finish(struct file *f, int fd);
void seal_later_drop(struct file *f); /* its keys go */

/* ---- opening ---- */

/* A run of n fresh chunks may go in place only when it is on disk that the seal is open. *fresh false: it
 * goes through the journal (write lock). */
int seal_lets_fresh(struct file *f, uint32_t n, bool *fresh);

/* ---- waiting and sealing ---- */

bool seal_is_wanted(const struct file *f); /* lock held */
bool seal_waits(struct volume *v);         /* some file does */

/* The node's file waits for a seal from now on. synced: what lies in place is known to be on disk. f: its
 * state, kept for its hashes, or NULL. */
void seal_wait(struct node *n, struct file *f, bool synced);
void seal_forget(struct node *n); /* does not wait any more */
void seal_wait_free(struct volume *v);

/* Seconds until the flusher has something to seal; -1: nothing waits. dirty_lock is held. */
int64_t seal_due(const struct volume *v);

/* Which of those that wait are sealed. */
struct seal_turn {
    const struct pd *only;           /* of this protected directory; NULL: of any */
    int64_t before;                  /* that waited since then, by seal_now */
    size_t files;                    /* so many at most */
    uint64_t pages;                  /* that are read; what would need more is passed by */
    bool (*go_on)(struct volume *v); /* asked now and then; NULL: always */
    uint64_t sealed;                 /* how many were */
};
int64_t seal_now(void); /* seconds of a clock that only goes forward */
int64_t seal_seconds(const struct volume *v);
int seal_run_turn(struct volume *v, struct seal_turn *t);

/* Seals what is cheap to seal, before keys go. only NULL: of the whole volume. */
void seal_before_lock(struct volume *v, const struct pd *only);

/* Detaches those that t names; they go back with seal_put_back, or end with seal_waiter_free. */
struct seal_waiter {
    struct node *n; /* referenced */
    struct file *f; /* one user, or NULL */
    bool synced;
    int64_t since;
    struct seal_waiter *prev, *next;
};
struct seal_waiter *seal_take(struct volume *v, struct seal_turn *t);
void seal_put_back(struct volume *v, struct seal_waiter *list);
void seal_waiter_free(struct seal_waiter *w);

#endif
