/* keyd's own socket: one keyd per path, held by a lock beside it. */
#ifndef KEYD_LISTEN_H
#define KEYD_LISTEN_H

#include "proto.h"

#include <stdbool.h>

struct listen {
    int lock; /* held while keyd lives */
    int fd;
    char path[108];
};

/* open_to_others: the policy lets other users connect. LFS_ERR_BUSY: another keyd serves this path. why
 * (PROTO_TEXT_MAX) gets the reason. */
int listen_open(const char *path, bool open_to_others, struct listen *out, char *why);

/* Takes the socket away, then the lock. */
void listen_close(struct listen *l);

#endif
