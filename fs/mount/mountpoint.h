/* The place where the volume is mounted: checks before, tuning after, and taking it away. */
#ifndef FS_MOUNT_MOUNTPOINT_H
#define FS_MOUNT_MOUNTPOINT_H

#include <stdbool.h>

/* Both paths are resolved. Refuses, with a line in the log: what is no directory, not empty (unless
 * nonempty), a latchfs mount already, or inside the volume or around it. */
int mountpoint_check(const char *mountpoint, const char *volume, bool nonempty);

/* True if a latchfs volume is mounted at this resolved path (what is on top counts). */
bool mountpoint_is_latchfs(const char *mountpoint);

/* Lets the kernel send more and read further ahead. Needs root; without effect otherwise. Requests are being
 * answered already. */
void mountpoint_tune(const char *mountpoint);

/* The number of the mount's connection in /sys/fs/fuse/connections. */
unsigned mountpoint_connection(const char *mountpoint);

/* How many writes and reads ahead the kernel sends without waiting for answers. Nothing where it can't be
 * set: without fusectl, or above what the kernel lets this user have. */
void mountpoint_background(unsigned connection, unsigned requests);

/* Unmounts, while requests are still answered: dirty pages come in during this. If programs use the mount it
 * is taken out of the tree all the same, and *busy set: the connection then lasts until they end. */
int mountpoint_unmount(const char *mountpoint, bool *busy);

#endif
