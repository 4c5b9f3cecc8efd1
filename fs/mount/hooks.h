/* What a session asks of the daemon of a volume. */
#ifndef FS_MOUNT_HOOKS_H
#define FS_MOUNT_HOOKS_H

#include "fs/mount/session.h"

/* arg: the struct daemon. */
extern const struct session_hooks daemon_hooks;

#endif
