/* Counters of keyd and the OpenMetrics text file made of them and of what the server has now. */
#ifndef KEYD_METRICS_H
#define KEYD_METRICS_H

#include "alert.h"
#include "audit.h"
#include "latchfs/keystore.h"

#include <stdint.h>

struct metrics;

enum metric {
    METRIC_UNLOCKS, /* that succeeded */
    METRIC_UNLOCK_FAILURES,
    METRIC_LEASES,         /* given */
    METRIC_LEASE_REFUSALS, /* by policy, rate, environment or lock */
    METRIC_EDITS,          /* changes of key stores */
    METRIC_PROTOCOL_ERRORS,
    METRICS
};
enum metric_timer { METRIC_WRAP, METRIC_UNWRAP, METRIC_TIMERS };

struct metrics *metrics_new(void); /* NULL when memory is out */
void metrics_free(struct metrics *m);

/* m may be NULL in both. */
void metrics_count(struct metrics *m, enum metric what, uint64_t n);
void metrics_time(struct metrics *m, enum metric_timer which, uint64_t nanoseconds);

/* CLOCK_MONOTONIC in nanoseconds, for metrics_time(m, which, metrics_now() - begun). */
uint64_t metrics_now(void);

/* What the server knows of one volume. */
struct metrics_volume {
    const uint8_t *id;
    const struct keystore *ks; /* NULL while it is locked: then no versions are known */
    unsigned mounts, leases;
    uint64_t auth_failures;    /* sum over its mounts, also those that are gone */
    unsigned rotation_overdue; /* key versions older than policy's age */
};
struct metrics_view {
    const struct metrics_volume *volumes;
    size_t count;
    const struct alert *alert; /* or NULL */
    const struct audit *audit; /* or NULL */
    unsigned approvals_pending;
    unsigned connections;
    int64_t now; /* seconds since 1970, for ages */
};

/* The text, malloc'ed; ends with "# EOF". */
int metrics_text(const struct metrics *m, const struct metrics_view *v, char **text, size_t *len);

/* Writes it to path (absolute) by a temporary file beside it and rename, mode 0644, not synced. */
int metrics_write(const struct metrics *m, const struct metrics_view *v, const char *path);

#endif
