/* How a worker waits for the next request: it spins, sleeps, or goes off duty.
 *
 * A sleeping worker costs each request a wakeup, so a worker spins on the device for a moment while that paid
 * lately. It gives its core away between two looks. It stops spinning for a while where somebody else kept
 * the core then, and where more threads want to run than there are processors: a yield reaches only threads
 * of its own session or control group.
 *
 * The kernel wakes a sleeping worker for a request although another one spins for it. So a worker that was
 * woken for nothing again and again goes off duty: it leaves the device alone and looks at it now and then,
 * for as long as the others are at work. When it finds a request that nobody took, or no work at all, it
 * is on duty again and sleeps until the kernel wakes it. One at least is always on duty. */
#ifndef FS_MOUNT_WAITER_H
#define FS_MOUNT_WAITER_H

#include "fs/mount/session.h"

#include <stdatomic.h>

/* What the workers of a session share. Zeros are right at first. */
struct waiting {
    atomic_bool spinning;           /* one at a time */
    bool rare;                      /* requests that anybody waits for come by another way: no spinning */
    _Atomic unsigned on_duty;       /* how many the kernel may wake */
    _Atomic uint64_t received;      /* requests so far */
    _Atomic uint64_t crowded_until; /* no spinning before, in ns of CLOCK_MONOTONIC */
};

struct waiter {
    struct waiting *all;
    int fd;          /* the device, non-blocking */
    int epoll, wake; /* wake: eventfd */
    int load;        /* /proc/loadavg; -1: not to be had */
    long processors;
    bool on_duty;
    bool woken;        /* by the device, from the sleep just over */
    unsigned needless; /* such wakeups lately with nothing to do */
    int credit;        /* of spinning: a hit earns it, a miss costs it, and a short sleep earns it back */
    unsigned calm;     /* spins since somebody else wanted the core */
    uint64_t looked;   /* when at load */
    unsigned crowded;  /* looks in a row that found too many */
    uint64_t stop_ns;  /* for how long spinning stops the next time that happens */
    uint64_t seen;     /* requests of all at the last look off duty */
};

/* On the worker's own thread. wake is the caller's; waiter_clear does not close it. done: readable once the
 * session ends. */
int waiter_init(struct waiter *w, struct waiting *all, int fd, int wake, int done);
void waiter_clear(struct waiter *w);

/* As fuse_session_receive_buf. -EAGAIN after a sleep that wake, done or nothing at all has ended. */
int waiter_receive(struct waiter *w, struct fuse_session *se, struct fuse_buf *buf);

#endif
