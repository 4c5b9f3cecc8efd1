/* Locking a mounted volume: what was written reaches the disk, the kernel forgets, the keys go. */
#ifndef FS_MOUNT_LOCK_H
#define FS_MOUNT_LOCK_H

#include "fs/mount/daemon.h"

/* Runs the whole procedure; the volume is locked when it returns, also after an error of the last checkpoint
 * (what could not be written is then lost to its writers' next fsync). held: files still open. Call from a
 * thread that serves no requests. Does nothing to a locked volume. */
int lock_volume(struct daemon *d, unsigned *held);

#endif
