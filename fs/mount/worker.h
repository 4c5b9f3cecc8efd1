/* The threads that receive requests and answer them. */
#ifndef FS_MOUNT_WORKER_H
#define FS_MOUNT_WORKER_H

#include "fs/mount/session.h"

struct workers;

struct workers_of {
    const struct session_hooks *hooks;
    void *arg;
    struct fuse_session *se;
    int fd;   /* the device, non-blocking */
    int done; /* eventfd, readable once the session ends; the first worker that ends makes it so */
};

/* On failure some may run: end the session, then workers_free. */
int workers_start(const struct workers_of *about, struct workers **out);

/* Waits for all to end. Takes NULL. */
void workers_free(struct workers *w);

/* See session_wake. Takes NULL. */
void workers_wake(struct workers *w);

/* See session_wipe. Takes NULL. */
int workers_wipe(struct workers *w);

#endif
