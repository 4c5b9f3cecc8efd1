/* How a worker waits for the next request: it spins, sleeps, or goes off duty.
 *
 * A sleeping worker costs each request a wakeup, so a worker spins on the device for a moment (spinner.h).
 *
 * The kernel wakes a sleeping worker for a request although another one spins for it. So a worker that was
 * woken for nothing again and again goes off duty: it leaves the device alone and looks at it now and then,
 * for as long as the others are at work. When it finds a request that nobody took, or no work at all, it
 * is on duty again and sleeps until the kernel wakes it. One at least is always on duty. */
#ifndef FS_MOUNT_WAITER_H
#define FS_MOUNT_WAITER_H

#include "fs/mount/session.h"
#include "fs/mount/spinner.h"

#include <stdatomic.h>

/* What the workers of a session share. Zeros are right at first, but for spinning. */
struct waiting {
    struct spinning *spinning;
    atomic_bool looking;       /* somebody spins for a request */
    bool rare;                 /* requests that anybody waits for come by another way: no spinning */
    _Atomic unsigned on_duty;  /* how many the kernel may wake */
    _Atomic uint64_t received; /* requests so far */
};

struct waiter {
    struct waiting *all;
    int fd;          /* the device, non-blocking */
    int epoll, wake; /* wake: eventfd */
    bool on_duty;
    bool woken;        /* by the device, from the sleep just over */
    unsigned needless; /* such wakeups lately with nothing to do */
    uint64_t seen;     /* requests of all at the last look off duty */
    struct spinner spinner;
};

/* On the worker's own thread. wake is the caller's; waiter_clear does not close it. done: readable once the
 * session ends. */
int waiter_init(struct waiter *w, struct waiting *all, int fd, int wake, int done);
void waiter_clear(struct waiter *w);

/* As fuse_session_receive_buf. -EAGAIN after a sleep that wake, done or nothing at all has ended. */
int waiter_receive(struct waiter *w, struct fuse_session *se, struct fuse_buf *buf);

#endif
