/* The engine of checks (latchfs/check.h), among its own sources.
 *
 * One thread, the caller's, walks the ciphertext in a fixed order: a directory, then its entries by the bytes
 * of their stored names, each with what is below it. Names, records and links are looked at on the way, under
 * the directory's lock. Regular files go to workers through a bounded queue, large ones in pieces. So a place
 * in the walk is a ciphertext path, and everything before it has been looked at.
 *
 * Locks: check.lock is a leaf. check.telling is held while a callback runs, and nothing of the store is. */
#ifndef LATCHFS_STORE_CHECK_INT_H
#define LATCHFS_STORE_CHECK_INT_H

#include "fs/store/file.h"
#include "fs/store/inode_set.h"
#include "fs/store/tree.h"
#include "latchfs/check.h"

struct check_queue;

struct look;

/* ---- ids that were seen (check_ids.c) ---- */

struct id_seen {
    uint8_t id[ID_BYTES];
    uint64_t ino, what; /* what: of the content, as far as the id's owner tells */
};
struct id_set {
    struct id_seen *slot; /* open addressing, power of two; an id of zeros: free */
    size_t cap, count;
};
/* Whether the id was seen with another inode, and if so, with the same content. What the set can't hold is
 * fresh every time. */
enum id_verdict { ID_FRESH, ID_COPY, ID_OTHER };
enum id_verdict id_set_add(struct id_set *s, const struct id_seen *seen);
bool id_set_has(const struct id_set *s, const uint8_t id[static ID_BYTES]);
void id_set_clear(struct id_set *s);

/* ---- texts that grow ---- */

struct text {
    char *s; /* NUL-terminated once something was put; malloc'ed */
    size_t len, cap;
};
int text_cut(struct text *t, size_t len);            /* len <= t->len, or 0 for a fresh one */
int text_add_name(struct text *t, const char *name); /* with a slash before it unless it is the first */
void text_clear(struct text *t);

/* ---- one run ---- */

/* A directory that was moved to lost+found: what is in it is looked at after the walk. */
struct moved_dir {
    struct node *n; /* referenced */
    char *plain;
};

/* A directory whose record is another one's, in case that is met later. */
struct stray {
    uint8_t id[ID_BYTES];
    char *cipher, *plain;
};

struct check {
    struct volume *v;
    const struct check_options *o;
    bool keyed;    /* check_volume */
    bool contents; /* with keys: everything is read */
    bool repairs;

    pthread_mutex_t lock; /* guards what follows */
    struct check_progress p;
    int fatal; /* why the run can't go on */
    struct id_set files;
    struct inode_set moved; /* to lost+found, and told */
    uint64_t charged;       /* bytes that the throttle knows of */

    pthread_mutex_t telling; /* one callback at a time; guards shown_ns, placed_ns */
    uint64_t shown_ns, placed_ns;

    uint64_t began_ns;
    struct check_queue *q;

    /* The walker's own. */
    struct check_progress walked; /* since the queue was last told */
    struct inode_set seen;        /* files with several links */
    struct id_set dirs;
    struct id_set pending;        /* files that an unclean journal speaks of, without keys */
    struct inode_set pending_ino; /* the same by their hints */
    struct text cipher, plain;    /* paths of where the walk is */
    struct moved_dir *later;
    size_t later_count;
    struct stray *strays;
    size_t stray_count;
    size_t names; /* in the windows of all directories on the way */
};

/* Why the run must end: -EINTR, or what is fatal; else 0. */
int check_stopped(struct check *c);
void check_fail(struct check *c, int err);

/* ---- findings and progress (check_report.c) ---- */

/* What was found, before it is told: under locks findings are only gathered. */
struct hit {
    enum check_kind kind;
    enum check_severity severity;
    int err;
    uint64_t offset, length;
    const char *repair;
    bool repaired;
    char *moved_to; /* malloc'ed, or NULL */
};
#define HITS_MAX 8u
struct hits {
    struct hit hit[HITS_MAX];
    unsigned count;
};
/* Whose counts what this thread counts belongs to, beside those of the whole run: a place of the check comes
 * with what was done before it, and no more. */
void check_count_for(struct check_progress *own);
/* Adds to both. */
void check_count(struct check *c, const struct check_progress *more);

/* With the kind's usual severity. NULL when there is no room. */
struct hit *hits_add(struct hits *h, enum check_kind kind, int err);
void hits_clear(struct hits *h);

/* Tells and counts. plain may be NULL. */
void check_tell(struct check *c, const struct hit *first, size_t n, const char *cipher, const char *plain);

uint64_t check_now_ns(void);
void check_show(struct check *c, bool always); /* progress */
void check_place(struct check *c, const char *where, const struct check_progress *done, bool always);

/* Bytes of ciphertext were read: counts them, and waits as long as the throttle asks for. No lock is held. */
void check_charge(struct check *c, uint64_t bytes);

/* ---- the queue (check_queue.c) ---- */

/* A regular file. Its pieces share it. */
struct check_item {
    struct node *n;       /* referenced */
    struct node *dir;     /* where it was found, referenced */
    char *stored;         /* its name there */
    char *cipher, *plain; /* paths; plain may be NULL */
    struct node *top;     /* of its protected directory, referenced; NULL: not known */
    char *top_plain;      /* its path, or NULL */
    bool lost;            /* it is in lost+found already */
    bool other_link;      /* it was looked at under another name */
    uint64_t links;
    bool keyed; /* its keys are here */
    bool pd_known;
    uint8_t pd_id[ID_BYTES], dir_id[ID_BYTES]; /* of its directory */
    bool dir_known;
    uint64_t length;            /* of the backing file when it was found */
    atomic_bool unreadable;     /* nothing more is to be done: damaged as a whole, or gone */
    atomic_bool partial;        /* not all of it was read: nothing is concluded from what was */
    _Atomic uint64_t last_good; /* 1 + the last chunk that can be read; 0: none */
    bool resumed;               /* pieces before were passed by */
    struct hits hits;           /* of the head; the head's alone until all pieces are done */

    /* Guarded by check.lock. */
    unsigned left; /* pieces not done, and one for the walker while it adds some */
    struct bad_run *bad;
    size_t bad_count;
    bool bad_more; /* the last one stands for more than one */
};
struct bad_run {
    uint64_t first, end; /* chunks */
    int err;
    enum check_kind kind;
};

struct check_job {
    struct check_item *item;
    uint64_t first, end; /* chunks */
    bool head;           /* the file's first: header, attributes, seal */
};

/* The file that was looked at goes to the workers (check_item.c), from this chunk on. again: only what
 * belongs to its other names. */
int check_push_file(struct check *c, const struct look *l, uint64_t from, bool again);

int queue_start(struct check *c);
/* Waits for room. position: malloc'ed, taken over; where the walk stands once it is done. */
void queue_push(struct check *c, const struct check_job *job, char *position);
/* The walk came to here with nothing to queue. */
void queue_passed(struct check *c, const char *position);
/* What was counted for the file that was pushed last. */
void queue_settle(struct check *c);
/* Waits for the workers and ends them. */
void queue_finish(struct check *c);

/* ---- the estimate (check_total.c) ---- */

/* Begins to count what there is, for progress; NULL: nobody wants to know. */
struct check_total;
struct check_total *total_start(struct check *c);
void total_stop(struct check_total *t); /* takes NULL */

/* ---- the walk (check_walk.c, check_window.c) ---- */

/* A part of a directory's entries, in order: memory is bounded however large it is. */
struct window {
    char **name;
    size_t count, at;
    bool more; /* there are entries behind the last one */
};

struct frame {
    struct frame *up; /* the directory above, NULL: none */
    struct node *n;   /* referenced */
    size_t cipher_len, plain_len;
    bool plain_known;
    bool keyed;    /* record and keys are there: names and what is below decrypt */
    bool lost;     /* lost+found, or below it */
    bool id_known; /* by its record, authentic or (without keys) not */
    uint8_t id[ID_BYTES];
    bool pd_known; /* the same for the protected directory that its entries belong to */
    uint8_t pd_id[ID_BYTES];
    const char *only;               /* the one entry to visit (subtree), or NULL */
    const char *from;               /* entries before this one are passed by, or NULL */
    char last[NAME_CIPHER_MAX + 1]; /* entry visited last */
    struct window w;
    struct id_set links; /* sidecars that symbolic links in it name */
    bool links_known;
};

/* Fills f->w with entries behind f->last. -ENOENT, -ESTALE: it is gone. */
int window_fill(struct check *c, struct frame *f);
void window_clear(struct check *c, struct frame *f);

int check_walk(struct check *c);

/* ---- entries (check_entry.c, check_dir.c) ---- */

/* An entry as it is looked at, with the directory locked for reading. */
struct look {
    struct check *c;
    struct frame *f;
    const char *name;
    int fd; /* of the directory */
    struct stat st;
    const struct pd_keys *keys; /* of the directory, NULL: structure only */
    bool plain_known;
    char plain[NAME_PLAIN_MAX + 1];
    struct node *n; /* of a directory or regular file, referenced */
    bool dir_keyed;
    bool stray;                    /* a directory, with another one's record */
    bool lost;                     /* without f: it is in lost+found */
    bool moved, gone;              /* by a repair: it is elsewhere now, or nowhere */
    char now[NAME_CIPHER_MAX + 1]; /* its name, once a repair gave it another */
    char *moved_plain;             /* where it is then; malloc'ed */
    bool dir_id_known, dir_pd_known;
    uint8_t dir_id[ID_BYTES], dir_pd[ID_BYTES];
    struct hits hits;
};

/* What stands under name in f->n. -ENOENT: gone. */
int check_entry(struct look *l);
/* The same for the root, which is an entry of no directory (l->f is NULL). */
int check_root_entry(struct look *l);
/* A symbolic link alone, with l->fd, st and keys set. */
void check_link(struct look *l);
/* The record in the directory n, standing at parent (NULL: not known) under stored (NULL: the root). */
void check_record(struct look *l, struct node *n, const uint8_t *parent, const char *stored);
/* Once the paths of l are those that c has: two directories with one id are told of the one that is not where
 * its record says. */
void check_strays(struct look *l);
void check_drop_strays(struct check *c);
/* Of the directory that was looked at. No directory is locked. */
void check_dir_attributes(struct look *l);

/* ---- files (check_file.c, check_content.c, check_xattr.c) ---- */

/* False if it was stopped before it was through. */
bool check_file_job(struct check *c, const struct check_job *job);
/* One use less; after the last one what was found in the content is told and the item freed. */
void check_item_put(struct check *c, struct check_item *item);
/* After the last piece: tells what was found in the content. */
void check_file_end(struct check *c, struct check_item *item);
/* The structure of a file by its first bytes, without keys. */
void check_file_bytes(struct check *c, struct check_item *item, struct hits *h);
/* Around a look at the header: whether it was in the page cache before; if not, it goes again. */
bool cache_begin(struct check_item *item);
void cache_end(struct check_item *item, bool hot);

/* One piece of content. 0 when it is through, -EINTR. */
int check_content(struct check *c, const struct check_job *job, struct file *f);

/* Asks the seal of a file that has one (check_seal.c). 0 when that was done. */
int check_seal(struct check *c, struct check_item *item, struct file *f, struct hits *hits);

/* Attributes of a node behind fd, of this kind. keys: of its protected directory, k: what values are under.
 */
void check_xattrs(struct check *c, int fd, const struct pd_keys *keys, const struct file_xattr_keys *k,
                  enum content_kind kind, struct hits *h);

/* ---- repair (check_repair.c, check_record.c, check_lost.c, check_mend.c) ---- */

/* Repairs what can be repaired of an entry, if that is asked for, and says of the rest what could be done.
 * Nothing of the directory is locked. */
int check_repair_entry(struct look *l);
/* The same for a file whose pieces are all done. */
void check_mend_file(struct check *c, struct check_item *item, struct hit *hit, size_t count);

/* Runs fn with the file locked for writing however damaged it is (file_lock_mend), and room in the journal.
 */
typedef int (*check_change_fn)(struct file *f, const void *arg, uint64_t *reserved);
int check_change_file(struct check *c, struct node *n, check_change_fn fn, const void *arg);

/* check_names.c: a leftover goes; a sidecar without an entry goes to the entry that lacks it, or goes; an
 * entry without a name gets its sidecar back, or another name. */
int fix_remove(struct look *l);
int fix_orphan(struct look *l);
int fix_name(struct look *l, struct hit *h);
/* The entry has this stored name now; it is not told again wherever the walk meets it. */
void look_renamed(struct look *l, const char *now);
void look_moved(struct look *l);
/* The plaintext path of a name in the directory f, below being what stands between: h->moved_to. */
int look_path_in(const struct look *l, const struct frame *f, const char *below, const char *name,
                 struct hit *h);

/* A new record for the directory l->n, if its id can be known. */
int record_rebuild(struct look *l);
/* Its record is mended from the copy if need be and is on disk; the copy is gone. */
int record_settle(struct look *l);

/* The topmost directory of the protected directory that f's entries belong to. */
struct frame *frame_top(struct frame *f);

/* lost+found in top, made if need be (referenced). */
#define LOST_NAME "lost+found"
int lost_dir(struct node *top, struct node **out);

/* Renames dir/stored to to/name, or to name.2 and so on: a directory with its record, a link with its target.
 * What stands there is not asked who it is. used: the name it got. */
int lost_rename(struct check *c, struct node *dir, const char *stored, struct node *to, const char *name,
                char used[static NAME_PLAIN_MAX + 1], char now[static NAME_CIPHER_MAX + 1]);

/* Out of the tree, as it is, into a directory of ciphertext that no mount shows; with its sidecars.
 * where: its path there, malloc'ed. */
#define BURIED_NAME RESERVED_PREFIX "lost"
int lost_bury(struct check *c, struct node *dir, const char *stored, char **where);

/* ---- the volume's own files (check_root.c) ---- */

void check_keystore(struct check *c, struct hits *ini, struct hits *bak);
void check_journal(struct check *c, struct hits *h);

#endif
