/* The mount's dealings with latch-keyd: lease the keys, renew, lock when they are revoked or the lease has
 * ended, take them back when the volume is unlocked. Keyd's death alone changes nothing: the mount goes on
 * until its lease ends, and reconnects. */
#ifndef FS_MOUNT_KEYS_H
#define FS_MOUNT_KEYS_H

#include "fs/mount/daemon.h"
#include "latchfs/keyset.h"

struct keys;

/* Connects, attaches and leases the root's keys. Logs why not. *set is the caller's (keyset_free). socket:
 * NULL for the default. */
int keys_open(struct daemon *d, const char *socket, struct keys **out, struct keyset **set);

/* Starts the thread; the volume and the session are there. */
int keys_start(struct keys *k);

/* Ends the thread and the lease. Takes NULL. */
void keys_free(struct keys *k);

#endif
