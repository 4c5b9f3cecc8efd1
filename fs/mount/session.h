/* The connection to the kernel: mount, INIT, the threads that receive and answer requests, notifications,
 * unmount. The receive loop is in session.c alone. */
#ifndef FS_MOUNT_SESSION_H
#define FS_MOUNT_SESSION_H

#define FUSE_USE_VERSION 314

#include "fs/mount/daemon.h"

#include <fuse3/fuse_lowlevel.h>
#include <linux/fuse.h>

#define REQUEST_BYTES_MAX (1u << 20) /* data of one READ or WRITE */
#define MAX_BACKGROUND 128           /* writes and reads ahead that the kernel sends at a time */

struct session;

/* ops is copied. options: the -o string for libfuse and the kernel. d is handed to every operation. */
int session_new(struct daemon *d, const struct fuse_lowlevel_ops *ops, const char *options,
                struct session **out);

/* Mounts and answers INIT, on this thread. On failure nothing is mounted. */
int session_mount(struct session *s, const char *mountpoint);

/* Starts the workers: requests are answered from now on. While the volume is frozen those that change
 * something are put aside, so that there is always a worker for the others. */
int session_start(struct session *s);

/* Readable once the connection is over (unmounted, aborted, or session_stop). */
int session_done_fd(const struct session *s);

/* Asks the workers to end after the request at hand. */
void session_stop(struct session *s);

/* Stops and joins the workers and closes the connection. Does not unmount. Takes NULL. */
void session_free(struct session *s);

/* Makes every worker look whether what waits for the end of a freeze can go on. */
void session_wake(struct session *s);

/* ---- for operations, on the worker's own thread ---- */

/* The request being answered, whole, as the kernel sent it. */
const struct fuse_in_header *session_request(void);

/* REQUEST_BYTES_MAX bytes for the reply, this thread's own. */
char *session_reply_buffer(void);

/* The request at hand holds plaintext that was refused for want of keys: it is wiped once it is answered. */
void session_forget_request(void);

/* ---- wiping ---- */

/* Makes every worker wipe its buffers, stack and the store's per-thread memory, idle ones too, and waits
 * until all have: every request that was under way at the call is answered then. Not from a worker.
 * LFS_ERR_TIMEOUT when one is stuck in a request for long; it wipes afterwards. */
int session_wipe(struct session *s);

/* ---- notifications; not from a worker unless said so: the kernel may wait for an answer of ours
 * meanwhile ---- */

/* Drops attributes, pages (dirty ones are written first), directory and symlink caches of an inode. 0 also
 * for an inode that the kernel does not know. */
int session_inval_inode(struct session *s, fuse_ino_t ino);

/* Attributes alone. This one may come from a worker: it waits for no page and no lock of the inode. */
int session_inval_attr(struct session *s, fuse_ino_t ino);

/* Drops a cached name with all that is cached below it; names that are in use are found anew by a lookup. 0
 * also for a name that the kernel does not know. */
int session_drop_name(struct session *s, fuse_ino_t parent, const char *name);

/* Makes one cached name be looked up again. On kernels before 6.2 it is dropped. */
int session_expire_name(struct session *s, fuse_ino_t parent, const char *name);

/* Makes every cached name be looked up again (kernel 6.16 and later, else -EINVAL). */
int session_expire_names(struct session *s);

/* Drops the cached names of these inodes where nobody uses them (kernel 6.18 and later, else -EINVAL). */
int session_prune(struct session *s, const fuse_ino_t *inos, size_t n);

#endif
