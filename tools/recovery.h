/* Handing out a new recovery key, once: on the terminal or into a file. */
#ifndef TOOLS_RECOVERY_H
#define TOOLS_RECOVERY_H

#include "latchfs/secret.h"

/* Before anything is made: path NULL: LFS_EXIT_USAGE with a message unless there is a terminal; else the
 * file is made (mode 0600, refused if it exists) and *fd is its descriptor. */
int recovery_prepare(const char *path, int *fd);

/* Shows key (text, NUL-terminated) on the terminal, set off from the rest, or writes it into the file of
 * recovery_prepare and syncs that and its directory. Prints its own error; returns an exit code. */
int recovery_hand_out(const char *path, int fd, const struct secret *key);

/* Takes the file away again after a failure. */
void recovery_abandon(const char *path, int fd);

#endif
