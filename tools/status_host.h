/* Settings of the host that would make a mount faster. Those of the mount alone latchfs makes for root's
 * mounts; nobody else may. That of the whole host is its administrator's. */
#ifndef TOOLS_STATUS_HOST_H
#define TOOLS_STATUS_HOST_H

#include <stdbool.h>
#include <stddef.h>

#define HOST_ADVICE_MAX 4

struct host_advice {
    char path[64]; /* the file below /sys */
    unsigned long now, better;
    const char *helps; /* what may get faster */
    unsigned
        percent; /* by how much at most, where it was measured (docs/PERFORMANCE.md); 0: not measurable */
};

/* What is not as it should be for the mount at mountpoint (resolved). The mount itself is not touched. What
 * the kernel does not tell is left out. Returns the number of entries. */
size_t host_advice_for(const char *mountpoint, bool read_only,
                       struct host_advice out[static HOST_ADVICE_MAX]);

#endif
