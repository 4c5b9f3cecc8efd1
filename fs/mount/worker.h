/* The threads that receive requests and answer them: by the device, or by a crew (crew.h) with one thread
 * left for what comes by the device then, too. */
#ifndef FS_MOUNT_WORKER_H
#define FS_MOUNT_WORKER_H

#include "fs/mount/request.h"

struct crew;
struct workers;

/* crew: taken over; NULL: there is none. On failure some may run: end the session, then workers_free. */
int workers_start(const struct workers_of *about, struct crew *crew, struct workers **out);

/* They serve by a crew. */
bool workers_have_crew(const struct workers *w);

/* Waits for all to end. Takes NULL. */
void workers_free(struct workers *w);

/* See session_wake. Takes NULL. */
void workers_wake(struct workers *w);

/* See session_make_room. Takes NULL. */
void workers_make_room(struct workers *w);

/* See session_wipe. Takes NULL. */
int workers_wipe(struct workers *w);

#endif
