/* Keeps the table of inodes bounded: when the kernel knows too many, names that nobody uses are taken out of
 * its cache, and it forgets them. */
#ifndef FS_VIEW_PRUNE_H
#define FS_VIEW_PRUNE_H

#include "fs/view/ops.h"

#define PRUNE_NODES_DEFAULT 131072u /* some 25 MiB */

struct prune;

/* Starts its thread. most: nodes from which on names go. */
int prune_start(struct view *v, struct fuse_session *se, uint64_t most, struct prune **out);

/* Ends it; requests are still answered. Takes NULL. */
void prune_free(struct prune *p);

#endif
