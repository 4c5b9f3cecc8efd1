/* The connection to the kernel: mount, INIT, the threads that receive and answer requests, notifications,
 * unmount. It knows nothing of volumes: what it needs of the program behind it, it asks by hooks. The receive
 * loop is in worker.c alone. */
#ifndef FS_MOUNT_SESSION_H
#define FS_MOUNT_SESSION_H

#define FUSE_USE_VERSION 314

#include <fuse3/fuse_lowlevel.h>
#include <linux/fuse.h>
#include <stdbool.h>
#include <stdint.h>

#define REQUEST_BYTES_MAX (1u << 20) /* data of one READ or WRITE */
#define MAX_BACKGROUND 128           /* writes and reads ahead that the kernel sends at a time */

/* For attributes, names and missing names when nobody else changes what is served. */
#define CACHE_SECONDS 86400.0

struct session;

/* What a session asks of its program, with the arg of session_new. Any may be NULL. */
struct session_hooks {
    /* INIT is answered, with these flags (FUSE_*, also those that libfuse does not know). Called before any
     * other request, on the thread that mounts. */
    void (*negotiated)(void *arg, uint32_t flags);

    /* Begins a worker, on its thread. An error of err.h ends the session. */
    int (*begin_thread)(void *arg);

    /* Wipes what the thread keeps between requests. Called by every worker for session_wipe and at its end.
     */
    void (*wipe_thread)(void *arg);

    /* Around each request that changes something. False: not now; the request is put aside, and tried again
     * after the next one and after session_wake. */
    bool (*try_change)(void *arg);
    void (*end_change)(void *arg);

    /* There is no room to put aside another one: try_change must succeed soon. */
    void (*no_room)(void *arg);
};

/* hooks: a constant; ops is copied. options: the -o string for libfuse and the kernel. arg is handed to every
 * operation and hook. */
int session_new(const struct session_hooks *hooks, void *arg, const struct fuse_lowlevel_ops *ops,
                const char *options, struct session **out);

/* For the operation init: asks for all that the kernel offers and that suits a program which is alone in
 * changing what it serves, and for nothing else. */
void session_negotiate(struct fuse_conn_info *conn, bool writeback);

/* Mounts and answers INIT, on this thread. On failure nothing is mounted. by_ring: requests come by io_uring
 * where the host has that switched on (module parameter enable_uring of fuse). */
int session_mount(struct session *s, const char *mountpoint, bool by_ring);

/* Starts the workers: requests are answered from now on. Those that may not change something now are put
 * aside, so that there is always a worker for the others. */
int session_start(struct session *s);

/* Requests come by io_uring. */
bool session_is_by_ring(const struct session *s);

/* Readable once the connection is over (unmounted, aborted, or session_stop). */
int session_done_fd(const struct session *s);

/* Asks the workers to end after the request at hand. */
void session_stop(struct session *s);

/* Stops and joins the workers and closes the connection. Does not unmount. Takes NULL. */
void session_free(struct session *s);

/* Before try_change begins to refuse for long: many changes may have to wait. Not from a worker. */
void session_make_room(struct session *s);

/* Makes every worker look whether what was put aside can go on. */
void session_wake(struct session *s);

/* ---- for operations, on the worker's own thread ---- */

/* The request being answered, whole, as the kernel sent it. */
const struct fuse_in_header *session_request(void);

/* REQUEST_BYTES_MAX bytes for the reply, this thread's own. */
char *session_reply_buffer(void);

/* The request at hand, which got no answer yet, comes again after others that wait, once: for an operation
 * that has asked a disk for something. False: not this one, it must be answered now. */
bool session_put_off(void);

/* What the request at hand has asked a disk for has not come: true: look again, false: wait. */
bool session_look_again(void);

/* The request at hand holds plaintext that was refused for want of keys: it is wiped once it is answered. */
void session_forget_request(void);

/* ---- wiping ---- */

/* Makes every worker wipe its buffers and what its wipe_thread wipes, idle ones too, and waits
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
