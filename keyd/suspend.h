/* Locks before the machine sleeps: a delay inhibitor of logind, held while awake; when logind announces
 * sleep, the server locks and then lets the inhibitor go. Nothing here blocks: a slow or absent bus costs
 * nothing but the announcement. Built without libsystemd, suspend_start answers -EOPNOTSUPP. */
#ifndef KEYD_SUSPEND_H
#define KEYD_SUSPEND_H

#include <stdint.h>

/* Sleep is held up at most so long: logind waits 5 s by default. */
#define SUSPEND_WAIT_MS 4000

struct suspend;

/* prepare is called from suspend_ready when the machine is about to sleep. It begins to lock and returns;
 * suspend_done says that the locking has ended. -EOPNOTSUPP, or -errno when there is no system bus. */
int suspend_start(void (*prepare)(void *arg), void *arg, struct suspend **out);
void suspend_free(struct suspend *s);

/* For the epoll loop, asked before each wait: the descriptor (it changes when the bus was lost; -1: none
 * now), its events, and when suspend_ready must be called at the latest (now_ms; 0: no time). */
int suspend_fd(const struct suspend *s);
uint32_t suspend_events(const struct suspend *s);
int64_t suspend_next_time(const struct suspend *s);

/* To be called when the descriptor is ready or that time has come. */
void suspend_ready(struct suspend *s);

/* All is locked: the machine may sleep. Without this it may after SUSPEND_WAIT_MS. */
void suspend_done(struct suspend *s);

#endif
