/* The threads that serve a session by FUSE over io_uring.
 *
 * The kernel has a queue for each processor, and requests come by the queue of the processor that their
 * program runs on. A few threads are bound to each processor and take the requests of its queue: program and
 * thread take turns on one processor, so nothing has to cross between two, and giving an answer and taking
 * the next request are one system call. A thread that gets data by the megabyte leaves its processor to
 * itself and lets the system place it, for as long as that goes on: then deciphering is the work, and others
 * can do it. When nothing has come for half a second after that, it wipes what it used and gives the memory
 * back.
 *
 * Each thread has a ring of its own, and usually one entry, so it has at most one request. Changes that have
 * to wait (see session.h) wait in their entries, outside of threads, and a thread adds an entry for one that
 * is taken so. A request that finds no entry waits for the next answer of that queue, even when a new entry
 * is there meanwhile, so a thread that adds one may come too late for others. Before many may have to wait,
 * crew_reserve gives each queue more entries than requests are likely to come before a thread gets to run.
 * Entries cannot be taken away from the kernel: afterwards threads have several, and answer what comes in
 * them one after the other.
 *
 * FORGET, INTERRUPT and notifications do not go this way: see worker.h. */
#ifndef FS_MOUNT_CREW_H
#define FS_MOUNT_CREW_H

#include "fs/mount/request.h"
#include "fs/mount/wiping.h"

struct crew;

/* All that may fail for want of something, before the kernel is promised to be served so. */
int crew_new(struct crew **out);

/* After INIT. -EOPNOTSUPP: the kernel has thought better of it, and serves by the device. After another error
 * some may run: end the session, then crew_free. wiping: outlives the crew. */
int crew_start(struct crew *c, const struct workers_of *of, struct wiping *wiping);

/* Changes may have to wait, many at a time, from when this returns. A thread that is in a long request
 * meanwhile adds its entries later. Not from a thread of the crew. Takes NULL. */
void crew_reserve(struct crew *c);

/* Makes every thread look at what waits and at orders to wipe. Takes NULL. */
void crew_wake(struct crew *c);

/* Waits for the threads, which end with the session. Takes NULL. */
void crew_free(struct crew *c);

#endif
