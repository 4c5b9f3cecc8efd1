/* Questions to the system that may never be answered. A process whose exec(2) closes a file of a filesystem
 * that does not answer can't be asked about in /proc, for as long as its owner likes. So a thread asks, and
 * is left behind at a deadline with what is its own; the end of the process ends it at the latest. */
#ifndef LATCHFS_ASIDE_H
#define LATCHFS_ASIDE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define ASIDE_LEFT_MAX 4u /* then nobody asks, until one of these has ended */

struct aside {
    void (*ask)(void *arg);  /* on the thread; touches nothing but what arg has */
    void (*drop)(void *arg); /* frees it, on any thread */
    atomic_uint asking;      /* 0 at first */
};

/* True: it was answered in time, and arg is the caller's. False: it was not, or no thread could be had; arg
 * is dropped, or will be. */
bool aside_ask(struct aside *kind, void *arg, uint64_t deadline_ns);

#endif
