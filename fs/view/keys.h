/* The view's dealings with latch-keyd: one lease, of the root's protected directory. One thread renews it,
 * locks when it is revoked, over, idle, or latch-keyd is gone for too long, and takes the keys back when they
 * are unlocked. */
#ifndef FS_VIEW_KEYS_H
#define FS_VIEW_KEYS_H

#include "fs/view/view.h"

struct keys;

/* Connects, attaches, leases, and gives the keys to the view. Logs why not. socket: NULL for the default. */
int keys_open(struct view *v, const char *socket, struct keys **out);
int keys_start(struct keys *k);

/* Ends the thread and the lease, and wipes the keys. Takes NULL. */
void keys_free(struct keys *k);

#endif
