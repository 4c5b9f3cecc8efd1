/* Inside of the keyd client. */
#ifndef KEYD_CLIENT_H
#define KEYD_CLIENT_H

#include "latchfs/keyclient.h"
#include "proto.h"

/* keyd has at most one revoke, one rekey and one held of each directory under way, and "unlocked" is kept
 * once for each: none is ever too many. */
#define CLIENT_EVENTS_MAX (4u * (KEYSTORE_DIRS_MAX + 1))
#define CLIENT_DEADLINE_MS 30000
/* For calls that open or make a slot: how long such a job may wait for others in keyd, and take (worker.h).
 */
#define CLIENT_SLOT_MS 300000

struct keyclient {
    int fd; /* -1 once broken */
    uint32_t serial;
    int deadline_ms;
    unsigned grace_s;
    unsigned wait_s;    /* for which keyd waits for mounts */
    unsigned idle_s;    /* of the last lease */
    bool first_opening; /* of the last unlock or admin */
    char message[PROTO_TEXT_MAX + 1];
    struct proto_in in;
    uint8_t *packet; /* PROTO_PACKET_MAX of locked memory */
    struct key_event events[CLIENT_EVENTS_MAX];
    unsigned first, count; /* of events */
};

/* A request and its reply. reply points into kc->in until the next call; proto_msg_clear it. Pushes that come
 * meanwhile are kept for keyclient_event. */
int client_call(struct keyclient *kc, struct proto_msg *request, struct proto_msg *reply);
/* With more milliseconds than the connection's deadline. */
int client_call_slow(struct keyclient *kc, struct proto_msg *request, struct proto_msg *reply,
                     int64_t more_ms);

/* Between messages and the caller's types. */
struct proto_blob client_blob(const void *p, size_t len);
struct proto_blob client_text(const char *s); /* NULL: empty */
struct proto_blob client_secret(const struct secret *s);
char *client_copy(const struct proto_blob *b); /* with a NUL behind it; NULL when memory is out */
int client_take_json(const struct proto_msg *reply, char **json);
/* New key store bytes and, with recovery not NULL, the key that came with them (NULL if none did). */
int client_take_ini(const struct proto_msg *reply, char **ini, size_t *len, struct secret **recovery);
struct proto_msg client_for_dir(uint16_t type, const uint8_t *volume_id, const uint8_t *pd_id);
/* Adds what a new slot is made of. LFS_ERR_MISUSE if a part is too long for a message. */
int client_put_fresh(struct proto_msg *q, const struct credential *c);
struct proto_msg client_with_store(uint16_t type, const char *ini, size_t len, const struct credential *c);

/* A connected client over fd, which it takes. */
int client_new(int fd, int deadline_ms, struct keyclient **out);

/* Milliseconds of a clock that does not jump. */
int64_t client_now_ms(void);

/* The directory of a socket, made (0700) if only that one is missing: LFS_ERR_DENIED unless it is this user's
 * or root's and closed to writing by others. */
int client_check_directory(const char *path, char *why);

/* A descriptor connected to path, whose directory and peer are this user's or root's. -ENOENT, -ECONNREFUSED:
 * nothing listens; LFS_ERR_DENIED. why (PROTO_TEXT_MAX) gets the reason. */
int client_dial(const char *path, int *fd, char *why);

/* Starts program, waits until it is ready (or says why not). One starter at a time: the others wait and find
 * it started. */
int client_start_keyd(const char *path, const char *program, int64_t until_ms, char *why);

#endif
