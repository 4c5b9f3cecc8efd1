/* The mount's control socket (latchfs/mountctl.h says what goes over it): a thread that answers one peer at a
 * time. */
#ifndef FS_MOUNT_CONTROL_H
#define FS_MOUNT_CONTROL_H

#include "fs/mount/daemon.h"

struct control;

/* Makes the socket and starts the thread. */
int control_start(struct daemon *d, struct control **out);

/* Ends the thread and removes the socket. Takes NULL. */
void control_free(struct control *c);

#endif
