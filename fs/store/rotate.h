/* A rotation under way: what volume_rewrap, volume_reencrypt and volume_scan_versions share. The walk
 * (rotate_walk.c) brings every regular file of one protected directory; what is done to it is the kind's.
 *
 * No file escapes by being renamed: a rename or link while a rotation runs leaves a note of its node
 * (rotate_moved). When the walk is over, and the calls that were under way then are over too, what was noted
 * is visited: a file has stood still through the whole walk, or it is noted. This ends on a busy volume as
 * well, which repeating the walk until nothing moves would not. */
#ifndef LATCHFS_STORE_ROTATE_H
#define LATCHFS_STORE_ROTATE_H

#include "fs/store/file.h"
#include "fs/store/inode_set.h"

struct rotation;

struct rotation_kind {
    bool changes; /* it writes */
    /* By the header in place, which nobody has authenticated: nothing is to be done. */
    bool (*is_right)(const struct rotation *r, const struct file_header *h);
    /* To a file that has no such header. Outside volume_enter; errors that rotate_count_damage knows are
     * counted, any other ends the rotation. */
    int (*work)(struct rotation *r, struct node *n);
    /* After the last file of a pass. */
    int (*finish)(struct rotation *r);
};

struct reencrypt_batch;

struct rotation {
    struct volume *v;
    const struct rotate_options *o;
    const struct rotation_kind *kind;
    struct rotate_progress p;
    uint32_t active;                  /* version of the directory key */
    uint64_t files, changed, damaged; /* of this pass */
    uint64_t since_checkpoint;        /* files changed */
    uint64_t began_ns, charged;       /* throttle: bytes since then */
    uint64_t shown_ns;                /* when progress was called */
    struct inode_set seen, walked;    /* of this pass: files with several links, directories */
    bool missed;                      /* something was there and could not be found again */
    bool settles;                     /* the result counts when all is in place; else what lies there does */
    bool counting;                    /* only lengths are looked at, for the estimate */
    struct reencrypt_batch *batch;    /* reencrypt.c's */
};

/* The files below dir (rotate_walk.c), and one file by its node, which may be of another protected
 * directory. */
int rotate_walk(struct rotation *r, struct node *dir, int depth);
int rotate_visit(struct rotation *r, struct node *n);

/* Runs passes until one finds nothing to change. */
int rotate_run(struct volume *v, const struct rotate_options *o, const struct rotation_kind *kind,
               struct rotation *r, struct rotate_progress *out);

/* Waits as long as the throttle asks for; -EINTR when it is to stop. Shows progress. No lock is held. */
int rotate_pace(struct rotation *r, uint64_t bytes);

/* A file changed whose state stays in memory until it is in place: now and then a checkpoint. */
int rotate_checkpoint(struct rotation *r);

/* Everything is durable and in place. */
int rotate_settle(struct rotation *r);

/* The file with this version counts. */
void rotate_found(struct rotation *r, uint32_t version);

/* 0 for an error that says "this file is damaged" (it is counted and passed by) or gone; others come back. */
int rotate_count_damage(struct rotation *r, int err);

/* freeze_enter, volume_enter, and the keys of the protected directory are there (r->active). */
int rotate_enter(struct rotation *r);
void rotate_leave(struct rotation *r);

/* ---- what moves meanwhile ---- */

/* n was renamed or linked; the caller is inside volume_enter. */
void rotate_moved(struct node *n);
static inline bool rotate_is_on(const struct volume *v)
{
    return atomic_load(&v->rotation) != NULL;
}

#endif
