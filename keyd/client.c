#include "client.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"

#include <errno.h>
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

int64_t client_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int client_new(int fd, int deadline_ms, struct keyclient **out)
{
    struct keyclient *kc = calloc(1, sizeof *kc);
    uint8_t *packet = locked_alloc(PROTO_PACKET_MAX);
    if (!kc || !packet || sodium_init() < 0) {
        free(kc);
        locked_free(packet);
        close(fd);
        return -ENOMEM;
    }
    kc->fd = fd;
    kc->deadline_ms = deadline_ms;
    kc->packet = packet;
    *out = kc;
    return 0;
}

void keyclient_free(struct keyclient *kc)
{
    if (!kc)
        return;
    if (kc->fd >= 0)
        close(kc->fd);
    proto_in_clear(&kc->in);
    locked_free(kc->packet);
    free(kc);
}

void keyclient_freep(struct keyclient **kc)
{
    keyclient_free(*kc);
    *kc = NULL;
}

const char *keyclient_message(const struct keyclient *kc)
{
    return kc->message;
}

bool keyclient_first_opening(const struct keyclient *kc)
{
    return kc->first_opening;
}

unsigned keyclient_idle_s(const struct keyclient *kc)
{
    return kc->idle_s;
}

unsigned keyclient_grace(const struct keyclient *kc)
{
    return kc->grace_s;
}

int keyclient_fd(const struct keyclient *kc)
{
    return kc->fd;
}

/* The stream of messages is broken: nothing that comes later could be trusted to be an answer. */
static int broken(struct keyclient *kc, int err)
{
    if (kc->fd >= 0)
        close(kc->fd);
    kc->fd = -1;
    proto_in_clear(&kc->in);
    return err;
}

static int wait_for(struct keyclient *kc, short events, int64_t until)
{
    for (;;) {
        int64_t left = until - client_now_ms();
        if (left <= 0)
            return LFS_ERR_TIMEOUT;
        struct pollfd p = {.fd = kc->fd, .events = events};
        int n = poll(&p, 1, left > 60000 ? 60000 : (int)left);
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -errno;
    }
}

static int send_request(struct keyclient *kc, const struct proto_msg *m, int64_t until)
{
    struct proto_out out;
    int r = proto_out_init(&out, m);
    while (!r) {
        r = proto_out_send(&out, kc->fd);
        if (r == 0)
            r = wait_for(kc, POLLOUT, until);
    }
    proto_out_clear(&out);
    return r == 1 ? 0 : r;
}

/* One packet, without blocking. 1: a message is whole in kc->in. 0: not yet. */
static int receive_packet(struct keyclient *kc)
{
    ssize_t n;
    bool reset = false; /* told once, before what the peer had sent until it closed */
    do
        n = recv(kc->fd, kc->packet, PROTO_PACKET_MAX, MSG_DONTWAIT | MSG_TRUNC);
    while (n < 0 && (errno == EINTR || (errno == ECONNRESET && !reset && (reset = true))));
    if (n < 0)
        return errno == EAGAIN ? -EAGAIN : errno == ECONNRESET ? -ENOTCONN : -errno;
    if (n == 0)
        return -ENOTCONN;
    if ((size_t)n > PROTO_PACKET_MAX)
        return LFS_ERR_PROTO;
    int r = proto_in_packet(&kc->in, kc->packet, (size_t)n);
    sodium_memzero(kc->packet, (size_t)n);
    return r;
}

static const struct {
    uint16_t type;
    enum key_event_type event;
} pushes[] = {
    {P_PUSH_REVOKE, KEY_EVENT_REVOKE},
    {P_PUSH_UNLOCKED, KEY_EVENT_UNLOCKED},
    {P_PUSH_REKEY, KEY_EVENT_REKEY},
    {P_PUSH_HELD, KEY_EVENT_HELD},
};

static enum key_event_type event_of(uint16_t type)
{
    for (size_t i = 0; i < sizeof pushes / sizeof *pushes; i++)
        if (pushes[i].type == type)
            return pushes[i].event;
    return KEY_EVENT_NONE;
}

static bool is_kept(const struct keyclient *kc, const struct key_event *ev)
{
    for (unsigned i = 0; i < kc->count; i++) {
        const struct key_event *k = &kc->events[(kc->first + i) % CLIENT_EVENTS_MAX];
        if (k->type == ev->type && memcmp(k->volume_id, ev->volume_id, ID_BYTES) == 0 &&
            memcmp(k->pd_id, ev->pd_id, ID_BYTES) == 0)
            return true;
    }
    return false;
}

static int keep_push(struct keyclient *kc)
{
    struct proto_msg m = {0};
    int r = proto_decode(kc->in.type, kc->in.serial, kc->in.body.p, kc->in.body.len, &m);
    if (r)
        return LFS_ERR_PROTO;
    struct key_event ev = {.type = event_of(m.type), .serial = m.serial};
    memcpy(ev.volume_id, m.volume, ID_BYTES);
    memcpy(ev.pd_id, m.pd, ID_BYTES);
    if (ev.type == KEY_EVENT_UNLOCKED && is_kept(kc, &ev))
        return 0;
    if (kc->count == CLIENT_EVENTS_MAX)
        return LFS_ERR_PROTO;
    kc->events[(kc->first + kc->count++) % CLIENT_EVENTS_MAX] = ev;
    return 0;
}

static bool is_push(uint16_t type)
{
    return event_of(type) != KEY_EVENT_NONE;
}

static int receive_reply(struct keyclient *kc, const struct proto_msg *request, int64_t until,
                         struct proto_msg *reply)
{
    for (;;) {
        int r = receive_packet(kc);
        if (r == -EAGAIN)
            r = wait_for(kc, POLLIN, until);
        if (r < 0)
            return r;
        if (r == 0)
            continue;
        if (is_push(kc->in.type)) {
            r = keep_push(kc);
            if (r)
                return r;
            continue;
        }
        /* A refusal of the connection itself has serial 0. */
        if (kc->in.type != (request->type | P_REPLY) ||
            (kc->in.serial != request->serial && kc->in.serial != 0))
            return LFS_ERR_PROTO;
        return proto_decode(kc->in.type, kc->in.serial, kc->in.body.p, kc->in.body.len, reply);
    }
}

static void keep_message(struct keyclient *kc, const struct proto_msg *reply)
{
    size_t n = 0;
    for (size_t i = 0; i < reply->text.len && n < PROTO_TEXT_MAX; i++)
        kc->message[n++] = (char)(reply->text.p[i] < ' ' ? '?' : reply->text.p[i]);
    kc->message[n] = '\0';
}

int client_call(struct keyclient *kc, struct proto_msg *request, struct proto_msg *reply)
{
    return client_call_slow(kc, request, reply, 0);
}

int client_call_slow(struct keyclient *kc, struct proto_msg *request, struct proto_msg *reply,
                     int64_t more_ms)
{
    kc->message[0] = '\0';
    if (kc->fd < 0)
        return -ENOTCONN;
    int64_t until = client_now_ms() + kc->deadline_ms + more_ms;
    request->serial = ++kc->serial ? kc->serial : ++kc->serial;
    int r = send_request(kc, request, until);
    if (r == LFS_ERR_MISUSE || r == -ENOMEM)
        return r; /* nothing was sent */
    /* keyd may have closed after saying why: read its words before giving up. */
    if (!r || r == -EPIPE || r == -ECONNRESET)
        r = receive_reply(kc, request, until, reply);
    if (r)
        return broken(kc, r == -EPIPE || r == -ECONNRESET ? -ENOTCONN : r);
    keep_message(kc, reply);
    return reply->result;
}

int keyclient_event(struct keyclient *kc, struct key_event *ev)
{
    *ev = (struct key_event){.type = KEY_EVENT_NONE};
    while (kc->count == 0) {
        if (kc->fd < 0)
            return -ENOTCONN;
        int r = receive_packet(kc);
        if (r == -EAGAIN)
            return 0;
        if (r == 1)
            r = is_push(kc->in.type) ? keep_push(kc) : LFS_ERR_PROTO;
        if (r < 0)
            return broken(kc, r == -ENOTCONN ? r : LFS_ERR_PROTO);
    }
    *ev = kc->events[kc->first];
    kc->first = (kc->first + 1) % CLIENT_EVENTS_MAX;
    kc->count--;
    return 0;
}
