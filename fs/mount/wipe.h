/* Plaintext and keys that a thread leaves behind in its own memory. */
#ifndef FS_MOUNT_WIPE_H
#define FS_MOUNT_WIPE_H

/* Wipes what this thread keeps between requests, and the part of its stack below the caller. For a thread
 * that has just been at work on plaintext. */
void wipe_thread(void);

#endif
