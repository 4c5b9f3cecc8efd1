/* What the control socket asks about protected directories. */
#ifndef FS_MOUNT_CONTROL_DIRS_H
#define FS_MOUNT_CONTROL_DIRS_H

#include "fs/mount/daemon.h"
#include "latchfs/mountctl.h"

/* Whose directory path is (latchfs/mountctl.h). -ENOENT, LFS_ERR_NOKEY for what is below a locked one. */
int control_resolve(struct daemon *d, const char *path, struct mount_resolved *out);

/* Leases the keys of pd_id and makes the empty directory path the top of it. */
int control_protect(struct daemon *d, const char *path, const uint8_t pd_id[static ID_BYTES]);

/* Fills at most room; returns how many. */
size_t control_dirs(struct daemon *d, struct mount_dir *out, size_t room);

#endif
