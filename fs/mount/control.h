/* The mount's control socket (latchfs/mountctl.h says what goes over it): threads that answer one peer at a
 * time each. */
#ifndef FS_MOUNT_CONTROL_H
#define FS_MOUNT_CONTROL_H

#include "fs/mount/daemon.h"

struct control;

/* Makes the socket and starts the threads. */
int control_start(struct daemon *d, struct control **out);

/* Ends the threads and removes the socket. Takes NULL. */
void control_free(struct control *c);

#endif
