/* The last findings of a check, numbered from 1 on, as many as there is room for. Not locked. */
#ifndef FS_MOUNT_FINDINGS_H
#define FS_MOUNT_FINDINGS_H

#include "latchfs/mountctl.h"

struct kept_finding;

struct findings {
    struct kept_finding *oldest, **newest;
    size_t count, bytes;
    uint64_t next; /* the number of the next one */
};

void findings_init(struct findings *f);
void findings_add(struct findings *f, const struct check_finding *one); /* copied */
void findings_forget(struct findings *f);                               /* wipes all; the numbers go on */
void findings_restart(struct findings *f);                              /* of none: from 1 again */

/* The first ones after a number; out points into f. */
void findings_after(const struct findings *f, uint64_t after, struct mount_findings *out);

#endif
