/* The thread that opens slots: Argon2id takes a second, and mounts must not wait for it. Jobs run one after
 * another, in turn for each user; how many may wait, and how long, is bounded for each, so that whoever
 * brings costly key stores keeps only himself waiting. */
#ifndef KEYD_WORKER_H
#define KEYD_WORKER_H

#include "latchfs/keyslots.h"
#include "proto.h"

#include <sys/socket.h>

#define WORKER_JOBS_MAX 256u
#define WORKER_JOBS_OF_USER 16u
/* A job that waited longer is not begun: its client would not be there any more. */
#define WORKER_WAIT_MS 200000
/* What one job may ask of Argon2id in all the slots it tries, in passes * KiB: well below a minute. More
 * slots are tried when the client names the slot. */
#define WORKER_KDF_WORK_MAX (4 * KEYSTORE_KDF_WORK_MAX)

struct job {
    struct job *next;
    void (*run)(struct job *j); /* on the worker; touches nothing but the job */
    uint64_t conn_id;
    struct proto_in in; /* q points into it */
    struct proto_msg q;
    unsigned kdf_ms;
    uid_t uid;
    struct ucred peer; /* who asked: he may have gone when it is done */
    bool revoked;      /* the volume was locked since it was asked; only the server reads and sets it */
    int64_t queued;    /* of now_ms() of worker.c */
    struct held_source held;
    /* what run is given (edits), and what it leaves */
    int result;
    struct key_why why;
    struct keystore *ks;
    struct keystore_keys *keys;
    char *ini;
    size_t ini_len;
    unsigned slot_id;
    struct secret *recovery;
    struct key_edit_result made;
    struct held_blobs blobs;
};
void job_clear(struct job *j); /* what it owns */
void job_free(struct job *j);

struct worker;
int worker_start(struct worker **out);
void worker_stop(struct worker *w); /* waits for the job under way, drops the others */

/* Takes j. LFS_ERR_BUSY when too many wait, of this user or at all (j stays the caller's). */
int worker_add(struct worker *w, struct job *j);

/* A job of this connection that is not begun, taken out of the queue; NULL when there is none. */
struct job *worker_cancel(struct worker *w, uint64_t conn_id);

/* Marks the unlocks and sessions (their q.volume names it) of a volume that are queued, running or done as
 * revoked; NULL: of all. True if there was any. */
bool worker_revoke(struct worker *w, const uint8_t *volume_id);

/* Readable when a job is done; worker_done takes it, NULL if none. */
int worker_fd(const struct worker *w);
struct job *worker_done(struct worker *w);

bool worker_idle(struct worker *w); /* nothing queued, running or done */

#endif
