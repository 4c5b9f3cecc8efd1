/* Alarms: events that policy bounds. One beyond its bound makes a record (act "alarm") and runs policy's
 * alert_command with the alarm as JSON on standard input.
 *
 * The command runs below a helper process that is forked before keyd has any secret and before the system
 * call filter. The helper gives each run ALERT_RUN_S, and at most ALERT_RUNS_MINUTE of them a minute; what it
 * leaves out it counts in the next one. It ends when keyd does. */
#ifndef KEYD_ALERT_H
#define KEYD_ALERT_H

#include "audit.h"
#include "policy.h"

#define ALERT_RUN_S 30
#define ALERT_RUNS_MINUTE 20
#define ALERT_JSON_MAX 4096u

struct alert;

enum alert_event {
    ALERT_UNLOCK_FAILED, /* wrong secrets, of one user */
    ALERT_LEASE_RATE,    /* a lease refused for its rate: an alarm at once */
    ALERT_NEW_PEER,      /* every peer that gets keys: program and user that none of the known ones is */
    ALERT_AUTH_FAILURES, /* a mount met changed data: alert_note_many with the growth of its counter */
    ALERT_AUDIT,         /* the log itself; recorded already */
    ALERT_BULK,          /* a lease given: leases, and different directories (about->pd_id), of one user */
    ALERT_EVENTS
};

/* Call it first in keyd: before secrets, threads, descriptors and the filter. policy may have no command. */
int alert_start(const struct policy *p, struct alert **out);
void alert_free(struct alert *al); /* tells the helper to end; takes NULL */

/* After the state directory is open: the peers that earlier runs have seen. */
int alert_remember(struct alert *al, int statedir);

/* Tells of the log's own findings (audit_watch). */
void alert_watch(struct alert *al, struct audit *au);

/* Counts one event; an alarm if that is beyond policy. about->peer may be NULL. al may be NULL. */
void alert_note(struct alert *al, struct audit *au, enum alert_event ev, const struct audit_act *about);
void alert_note_many(struct alert *al, struct audit *au, enum alert_event ev, const struct audit_act *about,
                     uint64_t n);

/* Alarms raised since the start, by event. */
uint64_t alert_count(const struct alert *al, enum alert_event ev);
const char *alert_event_name(enum alert_event ev);

#endif
