/* A file that holds as much space as the journal may need to put in place, for backing filesystems where
 * fallocate is missing or promises nothing (copy on write, network). When putting in place finds no space,
 * the ballast goes; until it could be filled again, writers get ENOSPC. */
#ifndef LATCHFS_STORE_BALLAST_H
#define LATCHFS_STORE_BALLAST_H

#include "fs/store/volume.h"

struct ballast;

/* Makes and fills the ballast if the volume needs one; v->ballast stays NULL otherwise. -ENOSPC. */
int ballast_open(struct volume *v, uint64_t bytes);
void ballast_free(struct volume *v);    /* removes it */
void ballast_discard(struct volume *v); /* of a daemon that died: a replay may need its space */

/* Gives its space back. False when there is none to give. */
bool ballast_release(struct volume *v);

/* After a checkpoint: takes its space again if it was given back. */
void ballast_refill(struct volume *v);

/* -ENOSPC while the ballast is not whole. */
int ballast_check(const struct volume *v);

#endif
