/* Inside of the keyd client. */
#ifndef KEYD_CLIENT_H
#define KEYD_CLIENT_H

#include "latchfs/keyclient.h"
#include "proto.h"

#define CLIENT_EVENTS_MAX 64u
#define CLIENT_DEADLINE_MS 30000

struct keyclient {
    int fd; /* -1 once broken */
    uint32_t serial;
    int deadline_ms;
    unsigned grace_s;
    char message[PROTO_TEXT_MAX + 1];
    struct proto_in in;
    uint8_t *packet; /* PROTO_PACKET_MAX of locked memory */
    struct key_event events[CLIENT_EVENTS_MAX];
    unsigned first, count; /* of events */
};

/* A request and its reply. reply points into kc->in until the next call; proto_msg_clear it. Pushes that come
 * meanwhile are kept for keyclient_event. */
int client_call(struct keyclient *kc, struct proto_msg *request, struct proto_msg *reply);

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
