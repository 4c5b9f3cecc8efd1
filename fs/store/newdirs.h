/* Directories whose records may not be on disk, but in a copy (see dirrec_copy.c): made lately, or found so.
 * A checkpoint syncs the records, mends those that need it, and removes the copies. Bounded: when there is no
 * room, a new directory's record is synced at once. The list holds references; it is guarded by dirty_lock,
 * and is kept by the flusher's side of the store. */
#ifndef LATCHFS_STORE_NEWDIRS_H
#define LATCHFS_STORE_NEWDIRS_H

#include "fs/store/node.h"

enum newdir_state {
    NEWDIR_NONE,  /* not on the list */
    NEWDIR_MADE,  /* by us: the record was written, and is in the page cache */
    NEWDIR_FOUND, /* with a copy: whatever became of the record */
};

struct newdirs *newdirs_new(void);
/* Drops the references; before the node table goes. Takes NULL. */
void newdirs_free(struct newdirs *l);

bool newdirs_have_room(struct volume *v);
/* Nothing where there is no room or it is on the list: its copy then stays until somebody finds it. */
void newdirs_add(struct node *dir, enum newdir_state state);
/* It is about to be removed. True if it was on the list. */
bool newdirs_drop(struct node *dir);
/* dirty_lock is held. */
size_t newdirs_count(const struct newdirs *l);

/* ---- for a checkpoint ---- */

/* What one round settles. */
struct newdirs_round {
    struct node **dir; /* referenced */
    size_t count;
};
/* Takes the list, and mends what needs it. */
void newdirs_begin(struct volume *v, struct newdirs_round *round);
/* Syncs the records one by one. A failure is one of a sync. */
int newdirs_sync(struct volume *v, struct newdirs_round *round);
/* done: the records are on disk, so the copies go. */
void newdirs_end(struct volume *v, struct newdirs_round *round, bool done);

#endif
