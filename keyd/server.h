/* Inside of the daemon: one thread serves all connections (and one opens slots, worker.h). Nothing here
 * blocks on a client. */
#ifndef KEYD_SERVER_H
#define KEYD_SERVER_H

#include "alert.h"
#include "approvals.h"
#include "audit.h"
#include "latchfs/keyslots.h"
#include "metrics.h"
#include "policy.h"
#include "proto.h"
#include "statedir.h"
#include "suspend.h"
#include "vault.h"
#include "worker.h"

#include <string.h>

#define STALL_MS 10000           /* a message half sent, or half taken, for so long ends the connection */
#define OUT_BYTES_MAX (4u << 20) /* waiting for a client that does not read */
#define ANSWERED_MAX 32u
#define RATES_MAX 2048u
#define RATES_OF_USER 512u /* as many directories as a user may lease in a minute where they are counted */
#define MARKS_MAX 4096u
/* Revocation, rekeying and question of each directory, once. */
#define PUSHES_MAX (3u * (KEYSTORE_DIRS_MAX + 1))

struct lease {
    struct lease *next;
    uint8_t volume_id[ID_BYTES], pd_id[ID_BYTES];
    unsigned lease_s;
    int64_t until;    /* 0: no end */
    uint32_t version; /* the active one when it was given */
    uint32_t said;    /* the mount makes no header below it; 0: it has not said so */
    uint64_t moment;  /* of server.moment, when it was given last */
};

struct push { /* not answered yet */
    struct push *next;
    uint16_t type;
    uint32_t serial;
    bool again;              /* the keys changed once more, and were not leased since */
    uint8_t pd_id[ID_BYTES]; /* zeros: the whole volume */
    bool leased;             /* once: the lease that it asks for does not count against the rate */
};

struct waiting_out {
    struct waiting_out *next;
    struct proto_out out;
};

struct session; /* of administration: admin.c */

struct conn {
    struct conn *next;
    uint64_t id; /* never used twice */
    int fd;
    struct ucred peer;
    gid_t *gids; /* all of the peer's groups */
    size_t ngids;
    unsigned roles;
    struct proto_in in;
    int64_t in_since;  /* of a message half received; 0: none */
    int64_t out_since; /* since when the client took nothing; 0: nothing waits */
    struct waiting_out *out;
    size_t out_bytes;
    bool busy; /* a job or a wait is under way: no request is read meanwhile */
    bool dead; /* to be freed at the end of the round */
    bool attached;
    uint8_t volume_id[ID_BYTES]; /* attached to */
    char *mountpoint;
    bool may_lease;       /* of that volume, by policy */
    bool leased;          /* of that volume, at any time */
    uint64_t attached_at; /* of server.moment */
    struct lease *leases;
    struct push *pushes;
    bool wiped;    /* it answered a revocation of the whole volume, and leased nothing since; else it may have
                      keys, even of an earlier keyd */
    unsigned held; /* files that the mount could not let go at the last one */
    uint64_t auth_failures; /* as it last reported */
    struct session *session;
};

struct dir_note { /* what keyd remembers of a protected directory while the volume is unlocked */
    uint8_t id[ID_BYTES];
    char name[KEYSTORE_LABEL_MAX + 1];
    bool name_known; /* unwrapped from the key store that is here now */
    time_t last_lease, last_use;
};

struct unlocked { /* a volume whose master keys are here */
    struct unlocked *next;
    struct keystore *ks;
    struct vault *vault;
    struct dir_note *notes; /* one for each of ks->dirs, in their order */
    uint64_t auth_failures; /* of all its mounts, the gone ones too */
};

struct dir_mark { /* a directory that is locked while its volume is not */
    struct dir_mark *next;
    uint8_t volume_id[ID_BYTES], pd_id[ID_BYTES];
    uint64_t conn_id; /* only for this mount (it was idle); 0: for all */
};

struct rate { /* leases of one directory by one user in the minute since */
    uint8_t volume_id[ID_BYTES], pd_id[ID_BYTES];
    uid_t uid;
    int64_t since;
    unsigned count;
};

enum wait_kind { WAIT_LOCK, WAIT_HELD, WAIT_LOCK_DIR, WAIT_REKEYED };
struct wait { /* a request that waits for mounts */
    struct wait *next;
    enum wait_kind kind;
    uint64_t conn_id; /* 0: keyd itself, before the machine sleeps */
    struct ucred peer;
    uint16_t type; /* of the request */
    uint32_t serial;
    uint8_t volume_id[ID_BYTES], pd_id[ID_BYTES];
    uint32_t version;
    uint64_t asked; /* WAIT_HELD: mounts that leased or attached since this moment were not asked yet */
    unsigned held;
    int failed; /* an error that ended it */
    int64_t until;
};

struct server {
    const struct policy *policy;
    int statedir;
    struct audit *audit;
    struct alert *alert;         /* or NULL */
    struct metrics *metrics;     /* or NULL */
    struct approvals *approvals; /* or NULL: none are demanded */
    struct suspend *suspend;     /* or NULL */
    int suspend_fd;              /* in the epoll set; -1: none */
    bool suspending;
    struct worker *worker;
    int epoll, listener, signals;
    struct conn *conns;
    struct unlocked *volumes;
    struct dir_mark *marks;
    unsigned mark_count; /* of those for all */
    struct wait *waits;
    struct rate rates[RATES_MAX];
    uint64_t next_conn;
    uint64_t moment; /* counts leases given and mounts attached */
    uint32_t next_push;
    uint8_t answered[ANSWERED_MAX][32]; /* hashes of key stores made here and not yet pinned */
    unsigned next_answered;
    uint8_t *packet; /* PROTO_PACKET_MAX of locked memory */
    int64_t idle_since;
    int64_t metrics_at; /* next time that the metrics are written; 0: never */
    bool stop;
};

int64_t now_ms(void);
static inline bool same_id(const uint8_t *a, const uint8_t *b)
{
    return memcmp(a, b, ID_BYTES) == 0;
}
bool is_zero_id(const uint8_t id[static ID_BYTES]);
static inline int64_t sooner(int64_t a, int64_t b) /* of two times; 0: never */
{
    return a == 0 || (b && b < a) ? b : a;
}

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
void request_done(struct server *s, struct job *j);    /* takes j */
void request_dropped(struct server *s, struct job *j); /* its client has gone before it was begun; takes j */
struct about {
    const uint8_t *volume_id, *pd_id;
    const char *detail;
    const char *act;          /* NULL: the request's name */
    const struct ucred *peer; /* of a client that may have gone; else NULL */
    int logged;               /* what the log says of a reply without error */
};
/* Logs as the request asks for it. An error only where it must be logged and was not: then nothing may be
 * done. c may be NULL (gone). */
int request_log(struct server *s, struct conn *c, uint16_t type, int result, const struct about *about);
/* Logs, then replies; a success that cannot be logged where it must be becomes an error. */
void request_answer(struct server *s, struct conn *c, const struct proto_msg *reply,
                    const struct about *about);
void request_refuse(struct server *s, struct conn *c, uint16_t type, uint32_t serial, int err,
                    const char *why, const struct about *about);
/* Takes over the message that is in c. ks and keys (taken, may be NULL): of the session that the job works
 * on. An error was replied. */
int request_queue(struct server *s, struct conn *c, struct proto_msg *q, struct keystore *ks,
                  struct keystore_keys *keys);

/* ---- slot_jobs.c ---- */
/* Before the job; 0: go on, and q->volume names the volume. */
int check_open(struct server *s, struct conn *c, struct proto_msg *q);
void job_init(struct job *j);
void job_open(struct job *j);
void done_init(struct server *s, struct conn *c, struct job *j);
void done_unlock(struct server *s, struct conn *c, struct job *j);
void done_slot_test(struct server *s, struct conn *c, struct job *j);
void refuse_job(struct server *s, struct conn *c, const struct job *j, int err, const char *why);
struct opened {       /* a key store that a job opened, held against the pin */
    bool older;       /* than the pin, and accepted */
    bool fresh;       /* differs from the pin */
    bool first;       /* there was no pin */
    bool same_signer; /* as the pin's */
    struct pin pin;
    char why[200];
};
/* Logs before it accepts another signing key. */
int check_opened(struct server *s, const struct conn *c, const struct job *j, struct opened *o);

/* ---- admin.c ---- */
void session_free(struct session *a); /* takes NULL */
/* It was used: it is not idle. a may be NULL. */
void session_touch(const struct server *s, struct session *a);
/* Ends those of a volume; NULL: all. True if there was any. */
bool sessions_end(struct server *s, const uint8_t *volume_id);
void sessions_check_time(struct server *s, int64_t now);
int64_t sessions_next_time(const struct server *s);
/* The keys of a session whose store these bytes are, or NULL. */
const struct keystore_keys *sessions_keys(struct server *s, const char *ini, size_t len);
/* These bytes are in place: whoever made them may go on, and others. */
void sessions_pinned(struct server *s, const char *ini, size_t len);
void done_admin(struct server *s, struct conn *c, struct job *j);
void handle_edit(struct server *s, struct conn *c, struct proto_msg *q);
void job_edit(struct job *j);
void done_edit(struct server *s, struct conn *c, struct job *j);

/* ---- held_end.c ---- */
/* ks counts from now on (older: than what was pinned, and accepted by c): destroys the held blobs that it
 * ends, if that was decided here; each is logged first. All are tried; returns the first error. */
int held_settle(struct server *s, const struct conn *c, const struct keystore *ks, bool older);
/* An edit that ends held keys is about to be answered: durable when it returns 0. */
int held_note_edit(struct server *s, const struct keystore *ks, unsigned op, const uint8_t *pd,
                   uint32_t version);

/* ---- pins.c ---- */
void answered_note(struct server *s, const char *ini, size_t len); /* it may be pinned */
struct adoption { /* of a key store that is proven to be the volume's */
    const struct conn *by;
    const char *ini;
    size_t len;
    const struct keystore_keys *keys; /* or NULL: LFS_ERR_NOKEY if new master keys would be needed */
    bool settle;                      /* signed with the key that was pinned before: held blobs may end */
    bool older;                       /* than what was pinned, and accepted */
    char why[200];                    /* of an error */
};
/* Pins it and ends held blobs (held_settle); if the volume is unlocked, leases from now on come from this
 * store, and mounts are told what changed. Takes *ks (NULL afterwards) if the volume is unlocked. */
int store_adopt(struct server *s, struct keystore **ks, struct adoption *a);
void handle_pin(struct server *s, struct conn *c, const struct proto_msg *q);

/* ---- volumes.c ---- */
struct unlocked *volume_find(struct server *s, const uint8_t id[static ID_BYTES]);
/* Takes both; replaces what was there, forgets locks of single directories, and tells the mounts. */
int volume_put(struct server *s, struct keystore *ks, struct vault *v);
/* Another store of a volume that is unlocked, and its vault unless NULL: takes both. Tells mounts of changed
 * and shredded directories. */
int volume_renew(struct server *s, struct unlocked *u, struct keystore *ks, struct vault *v);
bool volume_drop(struct server *s, const uint8_t id[static ID_BYTES]);
void volumes_clear(struct server *s);
/* Zeros mean the root's directory. */
const uint8_t *volume_dir(const struct keystore *ks, const uint8_t pd[static ID_BYTES]);
struct dir_note *volume_note(struct unlocked *u, const uint8_t pd[static ID_BYTES]); /* or NULL */
/* The name of a directory, "" if it has none. An error when its keys do not open here. */
int volume_dir_name(struct server *s, struct unlocked *u, struct dir_note *n, const char **name);
struct held_source held_blobs_of(const struct server *s);

/* ---- leases.c ---- */
struct lease *lease_find(const struct conn *c, const uint8_t *volume_id, const uint8_t *pd_id);
unsigned leases_end(struct conn *c, const uint8_t *volume_id, const uint8_t *pd_id); /* NULL: any */
bool lease_any(const struct conn *c, const uint8_t *volume_id);
void leases_check_time(struct server *s, int64_t now);
int64_t leases_next_time(const struct server *s);
void handle_lease(struct server *s, struct conn *c, const struct proto_msg *q);
void handle_lease_for(struct server *s, struct conn *c, const struct proto_msg *q);
void handle_renew(struct server *s, struct conn *c, const struct proto_msg *q);
/* May this connection lease it, as policy stands? */
int lease_allowed(struct server *s, const struct conn *c, struct unlocked *u, const uint8_t *pd, char *why,
                  size_t size);

/* ---- mounts.c ---- */
bool conn_mounts(const struct conn *c, const uint8_t *volume_id); /* attached to it, alive */
/* A mount that may have keys of the directory (pd NULL: any): it leases it, or keyd does not know. */
bool conn_may_have(const struct conn *c, const uint8_t *volume_id, const uint8_t *pd_id);
/* Sends a push unless the same one is not answered yet. unlocked needs no answer. */
void push_send(struct server *s, struct conn *c, uint16_t type, const uint8_t *pd_id);
struct push *push_find(const struct conn *c, uint16_t type, const uint8_t *pd_id);
/* The keys of a directory changed: sends P_PUSH_REKEY, now or when the one before is answered. */
void push_rekey(struct server *s, struct conn *c, const uint8_t *pd_id);
void pushes_clear(struct conn *c);
void mount_gone(struct server *s, struct conn *c);
void handle_attach(struct server *s, struct conn *c, const struct proto_msg *q);
void handle_revoked(struct server *s, struct conn *c, const struct proto_msg *q);
void handle_rekeyed(struct server *s, struct conn *c, const struct proto_msg *q);
void handle_held(struct server *s, struct conn *c, const struct proto_msg *q);
void handle_locked_idle(struct server *s, struct conn *c, const struct proto_msg *q);
void handle_report(struct server *s, struct conn *c, const struct proto_msg *q);

/* ---- marks.c ---- */
int mark_add(struct server *s, const uint8_t *volume_id, const uint8_t *pd_id, uint64_t conn_id);
/* pd_id NULL: all of the volume. */
void marks_remove(struct server *s, const uint8_t *volume_id, const uint8_t *pd_id);
void marks_conn_gone(struct server *s, uint64_t conn_id);
/* Is it locked, for all or for this connection? 0: for all. */
bool marked(const struct server *s, const uint8_t *volume_id, const uint8_t *pd_id, uint64_t conn_id);

/* ---- waits.c ---- */
int64_t revoke_end(const struct server *s); /* when a mount asked now is late */
/* Holds up the connection (NULL: keyd itself waits) until waits_check answers. NULL when memory is out. */
struct wait *wait_add(struct server *s, enum wait_kind kind, struct conn *c, const struct proto_msg *q);
void waits_check(struct server *s, int64_t now);
int64_t waits_next_time(const struct server *s);
void waits_conn_gone(struct server *s, const struct conn *c);
void waits_clear(struct server *s);
/* A mount answered: so many files are open. */
void waits_count(struct server *s, enum wait_kind kind, const uint8_t *volume_id, const uint8_t *pd_id,
                 unsigned held);

/* ---- rekey.c ---- */
void handle_wait_rekeyed(struct server *s, struct conn *c, const struct proto_msg *q);

/* ---- locks.c ---- */
void handle_lock(struct server *s, struct conn *c, const struct proto_msg *q);
void handle_lock_dir(struct server *s, struct conn *c, const struct proto_msg *q);
void handle_unlock_dir(struct server *s, struct conn *c, const struct proto_msg *q);
/* The mounts said that nothing is open, or nobody asked them: from now on w waits for their revocation. */
void begin_lock_dir(struct server *s, struct wait *w);
/* Ends all leases of a directory and tells the mounts; nobody waits. */
void dir_revoke(struct server *s, const uint8_t *volume_id, const uint8_t *pd_id);
/* Begins to lock what policy wants locked before the machine sleeps. */
void locks_before_sleep(void *server);
bool locks_before_sleep_done(const struct server *s);

/* ---- oversight.c ---- */
void handle_approvals(struct server *s, struct conn *c, const struct proto_msg *q);
void handle_approve(struct server *s, struct conn *c, const struct proto_msg *q);
void handle_audit_read(struct server *s, struct conn *c, const struct proto_msg *q);
void handle_audit_head(struct server *s, struct conn *c, const struct proto_msg *q);
void handle_audit_enroll(struct server *s, struct conn *c, const struct proto_msg *q);

/* ---- status.c, gauges.c ---- */
void handle_status(struct server *s, struct conn *c, const struct proto_msg *q);
/* How many active keys of the store are older than policy wants them. */
unsigned store_overdue(const struct policy *p, const struct keystore *ks, time_t now);
void gauges_write(struct server *s);

#endif
