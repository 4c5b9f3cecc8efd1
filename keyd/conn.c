#include "server.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/log.h"

#include <errno.h>
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define PACKETS_A_ROUND 8 /* then the others get their turn */

static void watch(struct server *s, struct conn *c)
{
    struct epoll_event ev = {.data.ptr = c};
    ev.events = (c->busy ? 0u : EPOLLIN) | (c->out ? EPOLLOUT : 0u);
    epoll_ctl(s->epoll, EPOLL_CTL_MOD, c->fd, &ev);
}

void conn_set_busy(struct server *s, struct conn *c, bool busy)
{
    c->busy = busy;
    watch(s, c);
}

struct conn *conn_find(struct server *s, uint64_t id)
{
    for (struct conn *c = s->conns; c; c = c->next)
        if (c->id == id && !c->dead)
            return c;
    return NULL;
}

/* ---- out ---- */

static void drop_out(struct conn *c)
{
    while (c->out) {
        struct waiting_out *w = c->out;
        c->out = w->next;
        proto_out_clear(&w->out);
        free(w);
    }
    c->out_bytes = 0;
}

static void flush(struct server *s, struct conn *c)
{
    while (c->out && !c->dead) {
        struct waiting_out *w = c->out;
        size_t before = w->out.sent;
        int r = proto_out_send(&w->out, c->fd);
        if (r < 0) {
            c->dead = true;
            return;
        }
        if (r == 1 || w->out.sent != before)
            c->out_since = now_ms();
        if (r == 0)
            break;
        c->out = w->next;
        c->out_bytes -= w->out.body.len;
        proto_out_clear(&w->out);
        free(w);
    }
    if (!c->out)
        c->out_since = 0;
    watch(s, c);
}

void conn_send(struct server *s, struct conn *c, const struct proto_msg *m)
{
    if (c->dead)
        return;
    struct waiting_out *w = calloc(1, sizeof *w), **end = &c->out;
    int r = w ? proto_out_init(&w->out, m) : -ENOMEM;
    if (r || c->out_bytes + w->out.body.len > OUT_BYTES_MAX) {
        if (w)
            proto_out_clear(&w->out);
        free(w);
        c->dead = true;
        return;
    }
    while (*end)
        end = &(*end)->next;
    *end = w;
    c->out_bytes += w->out.body.len;
    if (!c->out_since)
        c->out_since = now_ms();
    flush(s, c);
}

/* ---- in ---- */

static void malformed(struct server *s, struct conn *c, int err)
{
    char detail[64];
    snprintf(detail, sizeof detail, "%s request, type %u",
             err == LFS_ERR_UNSUPPORTED ? "foreign" : "malformed", c->in.type);
    audit_noise(s->audit,
                &(struct audit_act){.act = "protocol", .peer = &c->peer, .result = err, .detail = detail});
    metrics_count(s->metrics, METRIC_PROTOCOL_ERRORS, 1);
    c->dead = true;
}

/* 1: something came, 0: nothing now or the end. */
static int receive(struct server *s, struct conn *c)
{
    ssize_t n = recv(c->fd, s->packet, PROTO_PACKET_MAX, MSG_DONTWAIT | MSG_TRUNC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n <= 0) {
        c->dead = true;
        return 0;
    }
    int r = (size_t)n > PROTO_PACKET_MAX ? LFS_ERR_PROTO : proto_in_packet(&c->in, s->packet, (size_t)n);
    sodium_memzero(s->packet, PROTO_PACKET_MAX < (size_t)n ? PROTO_PACKET_MAX : (size_t)n);
    if (r == 0 && !c->in_since)
        c->in_since = now_ms();
    if (r == 1) {
        c->in_since = 0;
        r = request_handle(s, c);
        if (!c->busy)
            proto_in_clear(&c->in);
    }
    if (r < 0)
        malformed(s, c, r);
    return 1;
}

void conn_ready(struct server *s, struct conn *c, uint32_t events)
{
    if (events & EPOLLOUT && !c->dead)
        flush(s, c);
    if (events & EPOLLIN)
        for (int i = 0; i < PACKETS_A_ROUND && !c->dead && !c->busy && receive(s, c); i++)
            ;
    /* What the client left unread or unsent does not matter once it is gone. */
    if (events & (EPOLLHUP | EPOLLERR) && (c->busy || !(events & EPOLLIN)))
        c->dead = true;
}

/* ---- life ---- */

/* The peer's own group and its supplementary ones, as they were when it connected. */
static int groups_of(int fd, const struct ucred *peer, gid_t **out, size_t *count)
{
    socklen_t len = 0;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &len) && errno != ERANGE)
        return -errno;
    gid_t *gids = malloc(len + sizeof *gids);
    if (!gids)
        return -ENOMEM;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, gids + 1, &len)) {
        free(gids);
        return -errno;
    }
    gids[0] = peer->gid;
    *out = gids;
    *count = 1 + len / sizeof *gids;
    return 0;
}

static unsigned count_of_uid(const struct server *s, uid_t uid)
{
    unsigned n = 0;
    for (const struct conn *c = s->conns; c; c = c->next)
        n += c->peer.uid == uid && !c->dead;
    return n;
}

/* One message, if the socket takes it; the client asked nothing yet, so it bears serial 0. */
static void turn_away(struct server *s, int fd, const struct ucred *peer, int err, const char *why)
{
    struct proto_msg m = {
        .type = P_HELLO | P_REPLY, .result = err, .text = {(const uint8_t *)why, strlen(why)}};
    struct proto_out out;
    if (proto_out_init(&out, &m) == 0)
        proto_out_send(&out, fd);
    proto_out_clear(&out);
    audit_noise(s->audit, &(struct audit_act){.act = "connect", .peer = peer, .result = err, .detail = why});
    close(fd);
}

/* Takes gids. */
static void add(struct server *s, int fd, const struct ucred *peer, unsigned roles, gid_t *gids, size_t ngids)
{
    struct conn *c = calloc(1, sizeof *c);
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
    if (!c || epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &ev)) {
        free(c);
        free(gids);
        close(fd);
        return;
    }
    c->id = ++s->next_conn;
    c->fd = fd;
    c->peer = *peer;
    c->gids = gids;
    c->ngids = ngids;
    c->roles = roles;
    c->next = s->conns;
    s->conns = c;
}

static void admit(struct server *s, int fd)
{
    struct ucred peer;
    socklen_t len = sizeof peer;
    AUTO_FREE gid_t *gids = NULL;
    size_t ngids;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) || groups_of(fd, &peer, &gids, &ngids)) {
        close(fd);
        return;
    }
    unsigned roles = policy_roles(s->policy, peer.uid, gids, ngids, geteuid());
    if (!roles) {
        turn_away(s, fd, &peer, LFS_ERR_DENIED, "this user may not use this latch-keyd");
    } else if (count_of_uid(s, peer.uid) >= s->policy->max_connections) {
        turn_away(s, fd, &peer, LFS_ERR_BUSY, "too many connections of this user");
    } else {
        add(s, fd, &peer, roles, gids, ngids);
        gids = NULL;
    }
}

void conn_accept(struct server *s)
{
    int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0)
        admit(s, fd);
    else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
        poll(NULL, 0, 10); /* the queue stays readable: do not spin on it */
}

void conn_check_stalls(struct server *s, int64_t now)
{
    for (struct conn *c = s->conns; c; c = c->next) {
        if ((c->in_since && now - c->in_since >= STALL_MS) ||
            (c->out_since && now - c->out_since >= STALL_MS)) {
            audit_noise(s->audit, &(struct audit_act){.act = "protocol",
                                                      .peer = &c->peer,
                                                      .result = LFS_ERR_TIMEOUT,
                                                      .detail = "a message was not finished in time"});
            c->dead = true;
        }
    }
}

void conn_reap(struct server *s)
{
    for (struct conn **at = &s->conns; *at;) {
        struct conn *c = *at;
        if (!c->dead) {
            at = &c->next;
            continue;
        }
        *at = c->next;
        mount_gone(s, c);
        waits_conn_gone(s, c);
        for (struct job *j; (j = worker_cancel(s->worker, c->id));)
            request_dropped(s, j);
        session_free(c->session);
        close(c->fd);
        drop_out(c);
        proto_in_clear(&c->in);
        free(c->gids);
        free(c->mountpoint);
        free(c);
    }
}
