/* Making a key store, and the volume around it: what `latch init` and `latch view --init` share. */
#ifndef TOOLS_INIT_MAKE_H
#define TOOLS_INIT_MAKE_H

#include "fresh_slot.h"

#include "latchfs/aead.h"

struct init_args {
    const char *path;   /* of the volume, or of the plain directory of a view */
    const char *config; /* a view: the key store's file, nothing else is made; else NULL */
    enum suite suite;
    bool no_recovery;
    const char *recovery_file; /* the new recovery key goes there */
    const char *environment;
    const char *identity; /* private key of the recipient in first */
    struct fresh_source first;
};

/* Gets the secret, makes all of it or nothing, and says so. Prints its own error; returns an exit code. */
int init_make(const struct init_args *a);

#endif
