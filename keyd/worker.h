/* The thread that opens slots: Argon2id takes a second, and mounts must not wait for it. Jobs run one after
 * another. */
#ifndef KEYD_WORKER_H
#define KEYD_WORKER_H

#include "latchfs/keyslots.h"
#include "proto.h"

#define WORKER_JOBS_MAX 64u

struct job {
    struct job *next;
    void (*run)(struct job *j); /* on the worker; touches nothing but the job */
    uint64_t conn_id;
    struct proto_in in; /* q points into it */
    struct proto_msg q;
    unsigned kdf_ms;
    /* what run leaves */
    int result;
    struct key_why why;
    struct keystore *ks;
    struct keystore_keys *keys;
    char *ini;
    size_t ini_len;
    unsigned slot_id;
    struct secret *recovery;
};
void job_free(struct job *j);

struct worker;
int worker_start(struct worker **out);
void worker_stop(struct worker *w); /* waits for the job under way, drops the others */

/* Takes j. LFS_ERR_BUSY when the queue is full (j stays the caller's). */
int worker_add(struct worker *w, struct job *j);

/* Readable when a job is done; worker_done takes it, NULL if none. */
int worker_fd(const struct worker *w);
struct job *worker_done(struct worker *w);

bool worker_idle(struct worker *w); /* nothing queued, running or done */

#endif
