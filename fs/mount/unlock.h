/* Unlocking before mounting, for fstab: by the latch program, so that no passphrase ever comes into this one.
 */
#ifndef FS_MOUNT_UNLOCK_H
#define FS_MOUNT_UNLOCK_H

#include "fs/mount/options.h"

/* Runs `latch unlock` as the options ask and waits. 0 also when they ask for nothing. *exit_code: latch's own
 * when it failed (it has said why). */
int unlock_volume(const struct options *o, const char *volume_path, int *exit_code);

#endif
