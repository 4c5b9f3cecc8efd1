/* A check from its beginning to its end: without keys, with them in this process, or in a mount; with its
 * report, and its place kept. */
#ifndef TOOLS_CHECK_JOB_H
#define TOOLS_CHECK_JOB_H

#include "check_place.h"
#include "check_report.h"
#include "offline.h"
#include "target.h"

struct check_job {
    struct check_report report;
    struct offline_options open;
    const char *subtree;       /* plaintext path below the root, ciphertext path without keys; or NULL */
    bool cipher;               /* subtree is a ciphertext path anyhow */
    unsigned flags;            /* enum check_flags */
    unsigned workers;          /* as in check_options */
    uint64_t bytes_per_second; /* the same */
    const char *kind;          /* of its place (check_place_open); NULL: it keeps none */
    const char *state;         /* the file of its place, or NULL: the usual one */
    bool restart;
    struct check_place place;
    struct check_progress placed; /* what this run had done at its last place */
};

#define CHECK_WORKERS_DEFAULT 2
#define CHECK_WORKERS_MAX 8

/* A number of them. False if text is none. */
bool check_job_workers(const char *text, unsigned *out);

/* Each says what went wrong and what was found, and returns an exit code. report.subject tells the volume.
 * SIGINT and SIGTERM stop them in good order. */
int check_job_structure(struct check_job *j);
int check_job_offline(struct check_job *j);
int check_job_mounted(struct check_job *j, const struct target *t); /* check_mounted.c */

/* ---- between the sources of this module ---- */

/* Set once a signal has asked for the end. */
bool check_job_stopped(void);
void check_job_catch_signals(void);

/* Reads the place of an earlier run on this volume. Prints its own error; returns an exit code. */
int check_job_place(struct check_job *j, const uint8_t volume_id[static ID_BYTES]);

/* Begins the report; takes up the place if there is one. */
void check_job_begin(struct check_job *j);

/* Notes how far it has come; written every few seconds. */
void check_job_position(struct check_job *j, const char *where, const struct check_progress *p);

/* Ends the report, keeps or removes the place, returns the exit code. */
int check_job_end(struct check_job *j, const struct check_progress *p, int err);

#endif
