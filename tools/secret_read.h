/* Reading secrets into a buffer of the caller's, in locked memory. */
#ifndef TOOLS_SECRET_READ_H
#define TOOLS_SECRET_READ_H

#include "latchfs/buf.h"

#include <stddef.h>
#include <sys/types.h>
#include <time.h>

#define SECRET_COMMAND_SECONDS 300 /* a passphrase command may itself ask a person */

/* Frees locked_alloc's memory; leaves NULL. */
void locked_freep(char **p);
#define AUTO_LOCKED CLEANUP(locked_freep)

/* Each reads to the end and returns the length; -E2BIG beyond len, -errno. end: a deadline (LFS_ERR_TIMEOUT),
 * or NULL. */
ssize_t secret_read_fd(int fd, char *buf, size_t len, const struct timespec *end);
ssize_t secret_read_path(const char *path, char *buf, size_t len);

/* The standard output of command, run by /bin/sh; -ECHILD when it fails, LFS_ERR_TIMEOUT after
 * SECRET_COMMAND_SECONDS. */
ssize_t secret_read_command(const char *command, char *buf, size_t len);

/* The number of an open descriptor, or -1. */
int secret_parse_fd(const char *text);

#endif
