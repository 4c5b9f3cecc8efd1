/* What a new slot is made of: the options for it, and the secret that they name. */
#ifndef TOOLS_FRESH_SLOT_H
#define TOOLS_FRESH_SLOT_H

#include "cred.h"

struct fresh_source {
    struct cred_source from;  /* a passphrase or a key file; nothing named: a passphrase is asked twice */
    bool recovery;            /* a recovery slot, its key made by latch-keyd ... */
    const char *recovery_out; /* ... and written there, or shown */
    const char *recipient;    /* as of recipient_read */
    const char *command;
    char *const *command_args; /* behind "wrap"; ends with NULL; or NULL */
    const char *command_timeout;
    const char *label;
    bool fast_kdf;
};

/* Refuses several kinds at once, and what does not go with the one. Prints its own error; returns an exit
 * code. */
int fresh_check(const struct fresh_source *s);

/* True if any kind is named, so that nothing is typed. */
bool fresh_given(const struct fresh_source *s);

/* Gets the secret: asks, reads, or makes one and has the command wrap it, and unwrap it to see that it can.
 * Prints its own error; returns an exit code. */
int fresh_load(const struct fresh_source *s, const char *what, struct cred *out);

/* Refuses a label that cannot stand in a key store. Prints its own error; returns an exit code. */
int label_check(const char *label);

#endif
