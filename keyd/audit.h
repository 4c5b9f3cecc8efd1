/* The audit log: one JSON object a line, appended. */
#ifndef KEYD_AUDIT_H
#define KEYD_AUDIT_H

#include "latchfs/format.h"

#include <stdbool.h>
#include <sys/socket.h>

struct audit;

/* path: of the log, or "" for audit.log in statedir. Made with mode 0600; refused if it is not this user's.
 */
int audit_open(int statedir, const char *path, struct audit **out);
void audit_free(struct audit *a);

struct audit_act {
    const char *act;          /* "unlock", ... */
    const struct ucred *peer; /* NULL: keyd itself */
    const uint8_t *volume_id; /* or NULL */
    const uint8_t *pd_id;     /* or NULL; logged as a keyed hash */
    int result;               /* 0 or an error of err.h */
    const char *detail;       /* one line without secrets, or NULL */
};

/* Appends; synced if sync. Returns -errno when the line is not whole in the file. */
int audit_write(struct audit *a, const struct audit_act *act, bool sync);

/* As audit_write, for acts that strangers cause at will: beyond ten a minute they are only counted, and the
 * count is logged. */
void audit_noise(struct audit *a, const struct audit_act *act);

#endif
