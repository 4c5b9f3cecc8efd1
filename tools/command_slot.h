/* Command slots: a program turns 32 secret bytes into a blob that is kept in the volume, and that blob back
 * into the bytes, with the help of a token, a server or a module of the machine. Contract: latch(1), "COMMAND
 * SLOTS". The name in a volume is hostile: only a program of that name in a trusted directory is ever run. */
#ifndef TOOLS_COMMAND_SLOT_H
#define TOOLS_COMMAND_SLOT_H

#include "latchfs/secret.h"

#include <stddef.h>
#include <stdint.h>

#define COMMAND_SECRET_BYTES 32u
#define COMMAND_SECONDS 30
#define COMMAND_SECONDS_MAX 3600
#define COMMAND_WHY_MAX 512u

/* Why it did not work: the exit code, and a line without secrets. */
struct command_why {
    int code;
    char text[COMMAND_WHY_MAX];
};

/* NAME wrap ARG...: *blob is malloc'ed, 1..KEYSTORE_BLOB_MAX bytes. args ends with NULL. Returns an exit
 * code; prints nothing. */
int command_wrap(const char *name, char *const *args, int seconds, const struct secret *secret,
                 uint8_t **blob, size_t *len, struct command_why *why);

/* NAME unwrap. */
int command_unwrap(const char *name, const uint8_t *blob, size_t len, int seconds, struct secret **secret,
                   struct command_why *why);

/* --command-timeout as given, or NULL: the default. -1 if it is no number of seconds. */
int command_seconds(const char *text);

#endif
