/* Locking a mounted volume, or one protected directory of it: what was written reaches the disk, the kernel
 * forgets, the keys go, and so does every copy of plaintext in this process. */
#ifndef FS_MOUNT_LOCK_H
#define FS_MOUNT_LOCK_H

#include "fs/mount/daemon.h"

/* Asked when no file can be opened any more, before anything is wiped. False: the caller has given the keys
 * again, and nothing is locked. */
typedef bool lock_ask_fn(void *arg);

/* Runs the whole procedure; the volume is locked when it returns, also after an error of the last checkpoint
 * (what could not be written is then lost to its writers' next fsync). held: files still open. Call from a
 * thread that serves no requests, one call at a time. Does nothing to a locked volume. ask may be NULL;
 * -ECANCELED: it said no. */
int lock_volume(struct daemon *d, lock_ask_fn *ask, void *arg, unsigned *held);

/* The same for a protected directory that is not the root's, while the rest of the volume goes on. */
int lock_directory(struct daemon *d, const uint8_t pd_id[static ID_BYTES], lock_ask_fn *ask, void *arg,
                   unsigned *held);

/* From now on the next use of every name is heard of: the kernel looks it up again. From a thread that serves
 * no requests. */
void lock_watch_use(struct daemon *d);

/* A WRITE request for n has come: counts it if n belongs to a directory that is being locked. */
void lock_note_write(struct daemon *d, struct node *n);

#endif
