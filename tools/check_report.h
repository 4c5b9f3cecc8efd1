/* What a check of a volume found, as fsck, verify and scrub say it: lines for people, one JSON document, or
 * lines for a log; progress on a terminal; a summary; the exit code. */
#ifndef TOOLS_CHECK_REPORT_H
#define TOOLS_CHECK_REPORT_H

#include "latchfs/check.h"
#include "latchfs/format.h"

#include <pthread.h>

enum report_style {
    REPORT_TEXT, /* findings and summary on standard output, progress on standard error if it is a terminal */
    REPORT_JSON, /* one document on standard output, as latch(1) has it */
    REPORT_LOG,  /* lines with a priority for systemd's journal on standard error; no plaintext names */
};

/* What is checked, and how. Strings are borrowed. */
struct check_subject {
    const char *command; /* "fsck", "verify", "scrub" */
    const char *volume;
    const char *mountpoint; /* NULL: not through a mount */
    const char *subtree;    /* as the user gave it, or NULL */
    bool structure;         /* without keys */
    bool contents, repair;
    bool continued; /* takes up an earlier run */
};

struct check_report {
    enum report_style style;
    struct check_subject subject;
    struct check_progress before; /* what the earlier run had done */
    /* counted here */
    pthread_mutex_t lock; /* of all below, and of the output */
    uint64_t findings, damage_left, damage_repaired, warnings, notes;
    bool begun, bar, bar_shown;
};
#define CHECK_REPORT_INIT                 \
    {                                     \
        .lock = PTHREAD_MUTEX_INITIALIZER \
    }

/* Once the check can run. */
void check_report_begin(struct check_report *r);
void check_report_finding(struct check_report *r, const struct check_finding *f);
void check_report_progress(struct check_report *r, const struct check_progress *p);

/* The end: p is what this run has done, err why it could not go on, or 0. Says both; returns the exit code.
 */
int check_report_end(struct check_report *r, const struct check_progress *p, int err);

/* Adds the counts of one run to those of another; estimates are taken from more. */
void check_progress_add(struct check_progress *sum, const struct check_progress *more);

/* "structure", "headers" or "contents". */
const char *check_depth_name(const struct check_subject *s);

#endif
