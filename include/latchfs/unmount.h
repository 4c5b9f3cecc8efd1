/* Taking a FUSE mount away, as root or as its ordinary owner. */
#ifndef LATCHFS_UNMOUNT_H
#define LATCHFS_UNMOUNT_H

#include <stdbool.h>

/* What is on top at the resolved path mountpoint. lazy: it leaves the tree at once, and ends with its last
 * user. Ordinary users need the program fusermount3. -EBUSY, or -errno. */
int unmount_path(const char *mountpoint, bool lazy);

#endif
