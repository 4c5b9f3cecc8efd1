/* The mount's dealings with latch-keyd: it leases the keys of the root's and of every other protected
 * directory, renews them, locks what is revoked, idle or whose lease has ended, takes keys back when they are
 * unlocked, and reports. Keyd's death alone changes nothing: the mount goes on until its leases end, and
 * reconnects. One thread does all of this; no request of the kernel waits for it. */
#ifndef FS_MOUNT_KEYS_H
#define FS_MOUNT_KEYS_H

#include "fs/mount/daemon.h"
#include "latchfs/keyset.h"

struct keys;

/* Connects, attaches and leases the root's keys. Logs why not. *set is the caller's (keyset_free). socket:
 * NULL for the default. */
int keys_open(struct daemon *d, const char *socket, struct keys **out, struct keyset **set);

/* Leases the other protected directories, those that it may have, and starts the thread. The volume and the
 * session are there. */
int keys_start(struct keys *k);

/* From another thread: leases a protected directory, gives its keys to the volume and calls fn, whose result
 * comes back. fn runs in the thread that locks, so no lock comes before its end. LFS_ERR_TIMEOUT, -ENOTCONN
 * while there is no latch-keyd, or its refusal. */
typedef int keys_use_fn(const struct keyset *set, void *arg);
int keys_lease_dir(struct keys *k, const uint8_t pd_id[static ID_BYTES], keys_use_fn *fn, void *arg);

/* From any thread: damaged or forged data was seen. */
void keys_note_refusal(struct keys *k);

/* Ends the thread and the leases. Nobody waits in keys_lease_dir any more. Takes NULL. */
void keys_free(struct keys *k);

#endif
