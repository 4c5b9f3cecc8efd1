/* A walk over the files of one protected directory (rewrap, re-encrypt, scan), with progress for people or
 * programs: in the mount where the volume is mounted, else in this process. */
#ifndef TOOLS_ROTATE_JOB_H
#define TOOLS_ROTATE_JOB_H

#include "target.h"

#include "latchfs/keyclient.h"

struct rotate_job {
    enum mount_job job;
    uint64_t bytes_per_second; /* 0: no limit */
    uint32_t version;          /* of the directory's key, that the mount must have; 0: any */
    bool json; /* progress as JSON lines on standard output; else a bar on a terminal, lines in
                  a log */
    bool quiet;
    const char *what; /* "files", for the bar: "rewrapping", "re-encrypting", "looking" */
};

/* Runs it for t->pd_id to its end, or until SIGINT or SIGTERM (-EINTR: what is done stays done). kc: a
 * connection for leases, where the volume is not mounted. Prints its own error and returns an exit code. */
int rotate_job_run(struct target *t, struct keyclient *kc, const struct rotate_job *j,
                   struct rotate_progress *out);

/* "500K", "20M", "1G" a second, or a number of bytes. False if it is none. */
bool rate_parse(const char *text, uint64_t *bytes_per_second);

#endif
