/* Spinning: to look again and again for something that comes within microseconds costs less than to be put to
 * sleep and woken, above all on a virtual machine, where waking an idle processor goes through the host.
 *
 * A thread spins only while that paid lately, one of a session at a time, and gives its processor away
 * between two looks. It stops for a while where somebody else kept the processor then, and where more threads
 * want to run than there are processors: a yield reaches only threads of its own session or control group. */
#ifndef FS_MOUNT_SPINNER_H
#define FS_MOUNT_SPINNER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* What the threads of a session share. Zeros are right at first. */
struct spinning {
    atomic_bool taken;              /* somebody spins */
    _Atomic uint64_t crowded_until; /* nobody may before, in ns of CLOCK_MONOTONIC */
};

/* One thread's spinning for one kind of thing. */
struct spinner {
    struct spinning *all;
    int load; /* /proc/loadavg; -1: not to be had */
    long processors;
    int credit;       /* a hit earns it, a miss costs it, and a short sleep earns it back */
    unsigned calm;    /* spins since somebody else wanted the processor */
    uint64_t looked;  /* when at load */
    unsigned crowded; /* looks in a row that found too many */
    uint64_t stop_ns; /* for how long spinning stops the next time that happens */
    bool kept;        /* somebody else had the processor for longer than requests take, at the last yield */
};

void spinner_init(struct spinner *s, struct spinning *all);
void spinner_clear(struct spinner *s);

uint64_t spinner_now(void); /* ns of CLOCK_MONOTONIC */

/* False: it may not spin now. Else spinner_end follows. */
bool spinner_begin(struct spinner *s, uint64_t now);

/* Gives the processor to whoever else wants it, and notes in kept whether that was for long. */
void spinner_yield(struct spinner *s);

/* hit: what it looked for came. */
void spinner_end(struct spinner *s, uint64_t now, bool hit);

/* A sleep was so short that spinning would have done. */
void spinner_slept_short(struct spinner *s);

#endif
