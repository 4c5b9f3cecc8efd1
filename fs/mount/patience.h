/* How a thread waits for a disk that the request at hand has asked for something: it looks again and again
 * for a moment, while that paid lately. Where it does not pay, the disk is slow or others want the processor,
 * the request sleeps in a call that waits. */
#ifndef FS_MOUNT_PATIENCE_H
#define FS_MOUNT_PATIENCE_H

#include "fs/mount/spinner.h"

struct patience {
    struct spinner spinner;
    uint64_t since; /* when the request at hand began to wait; 0: it does not */
    bool spinning;
    unsigned misses; /* in a row */
};

/* One thread's own. */
void patience_init(struct patience *p, struct spinning *all);
void patience_clear(struct patience *p);

/* What was asked for has not come: whether to look again, after a spinner_yield. now: spinner_now(). */
bool patience_look_again(struct patience *p, uint64_t now);

/* The request at hand has got what it waited for. */
void patience_end(struct patience *p, uint64_t now);

static inline bool patience_waits(const struct patience *p)
{
    return p->since != 0;
}

#endif
