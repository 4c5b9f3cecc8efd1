/* Inside of the daemon: one thread serves all connections (and one opens slots, worker.h). Nothing here
 * blocks on a client. */
#ifndef KEYD_SERVER_H
#define KEYD_SERVER_H

#include "audit.h"
#include "latchfs/keyslots.h"
#include "policy.h"
#include "proto.h"
#include "statedir.h"
#include "vault.h"
#include "worker.h"

#define STALL_MS 10000           /* a message half sent, or half taken, for so long ends the connection */
#define OUT_BYTES_MAX (2u << 20) /* waiting for a client that does not read */
#define ANSWERED_MAX 32u

enum role {
    ROLE_USER = 1,     /* unlock, lease, attach */
    ROLE_OPERATOR = 2, /* lock, status */
    ROLE_KEYADMIN = 4, /* new volumes, slots, pins */
    ROLE_ALL = 7,
};

struct lease {
    struct lease *next;
    uint8_t volume_id[ID_BYTES], pd_id[ID_BYTES];
    int64_t until; /* 0: no end */
};

struct waiting_out {
    struct waiting_out *next;
    struct proto_out out;
};

struct conn {
    struct conn *next;
    uint64_t id; /* never used twice */
    int fd;
    struct ucred peer;
    unsigned roles;
    struct proto_in in;
    int64_t in_since;  /* of a message half received; 0: none */
    int64_t out_since; /* since when the client took nothing; 0: nothing waits */
    struct waiting_out *out;
    size_t out_bytes;
    bool busy; /* a job or a lock is under way: no request is read meanwhile */
    bool dead; /* to be freed at the end of the round */
    bool attached;
    uint8_t volume_id[ID_BYTES]; /* attached to */
    char *mountpoint;
    struct lease *leases;
    uint32_t revoke; /* serial of a revocation not yet answered; 0: none */
    bool
        wiped; /* it answered one, and leased nothing since; else it may have keys, even of an earlier keyd */
    unsigned held; /* files that the mount could not let go at the last one */
};

struct unlocked { /* a volume whose master keys are here */
    struct unlocked *next;
    struct keystore *ks;
    struct vault *vault;
};

struct lock_wait { /* a lock request that waits for mounts */
    struct lock_wait *next;
    uint64_t conn_id;
    uint32_t serial;
    uint8_t volume_id[ID_BYTES];
    int64_t until;
};

struct server {
    const struct policy *policy;
    int statedir;
    struct audit *audit;
    struct worker *worker;
    int epoll, listener, signals;
    struct conn *conns;
    struct unlocked *volumes;
    struct lock_wait *locks;
    uint64_t next_conn;
    uint32_t next_push;
    uint8_t answered[ANSWERED_MAX][32]; /* hashes of key stores made here and not yet pinned */
    unsigned next_answered;
    uint8_t *packet; /* PROTO_PACKET_MAX of locked memory */
    int64_t idle_since;
    bool stop;
};

int64_t now_ms(void);

/* ---- server.c ---- */
/* Serves until idle or told to stop. listener listens already. Returns 0 or an error. */
int server_run(struct server *s);

/* ---- conn.c ---- */
void conn_accept(struct server *s);
void conn_ready(struct server *s, struct conn *c, uint32_t events);
void conn_send(struct server *s, struct conn *c, const struct proto_msg *m);
void conn_set_busy(struct server *s, struct conn *c, bool busy);
void conn_check_stalls(struct server *s, int64_t now);
void conn_reap(struct server *s); /* frees the dead */
struct conn *conn_find(struct server *s, uint64_t id);

/* ---- requests.c ---- */
/* c->in holds a whole message. An error ends the connection. */
int request_handle(struct server *s, struct conn *c);
void request_done(struct server *s, struct job *j); /* takes j */
struct about {
    const uint8_t *volume_id, *pd_id;
    const char *detail;
};
/* Logs as the request asks for it, then replies; a success that cannot be logged where it must be becomes an
 * error. c may be NULL (gone). */
void request_answer(struct server *s, struct conn *c, const struct proto_msg *reply,
                    const struct about *about);
void request_refuse(struct server *s, struct conn *c, uint16_t type, uint32_t serial, int err,
                    const char *why, const struct about *about);

/* ---- slot_jobs.c ---- */
void job_init(struct job *j);
void job_unlock(struct job *j);
void job_slot_test(struct job *j);
void job_slot_add(struct job *j);
void job_slot_remove(struct job *j);
void done_init(struct server *s, struct conn *c, struct job *j);
void done_unlock(struct server *s, struct conn *c, struct job *j);
void done_slot_test(struct server *s, struct conn *c, struct job *j);
void done_slot_change(struct server *s, struct conn *c, struct job *j);
void handle_pin(struct server *s, struct conn *c, const struct proto_msg *q);

/* ---- volumes.c ---- */
struct unlocked *volume_find(struct server *s, const uint8_t id[static ID_BYTES]);
/* Takes both; replaces what was there and tells the mounts. */
int volume_put(struct server *s, struct keystore *ks, struct vault *v);
bool volume_drop(struct server *s, const uint8_t id[static ID_BYTES]);
void volumes_clear(struct server *s);
void volumes_check_time(struct server *s, int64_t now); /* leases that end, locks that wait too long */
void volumes_conn_gone(struct server *s, struct conn *c);
int64_t volumes_next_time(const struct server *s); /* 0: none */
void handle_lock(struct server *s, struct conn *c, const struct proto_msg *q);
void handle_attach(struct server *s, struct conn *c, const struct proto_msg *q);
void handle_lease(struct server *s, struct conn *c, const struct proto_msg *q);
void handle_renew(struct server *s, struct conn *c, const struct proto_msg *q);
void handle_revoked(struct server *s, struct conn *c, const struct proto_msg *q);

/* ---- status.c ---- */
void handle_status(struct server *s, struct conn *c, const struct proto_msg *q);

#endif
