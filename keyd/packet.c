/* Messages in packets: header version u8 | flags u8 | type u16 | serial u32, then a piece of the body. */
#include "proto.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <sys/socket.h>

#define FLAG_MORE 1u
#define PIECE_MAX (PROTO_PACKET_MAX - PROTO_HEADER_BYTES)

void proto_body_clear(struct proto_body *b)
{
    sodium_free(b->p);
    *b = (struct proto_body){0};
}

static int body_append(struct proto_body *b, const uint8_t *data, size_t len, size_t most)
{
    if (len > b->cap - b->len) {
        size_t cap = b->cap ? 2 * b->cap + len : len;
        cap = cap < most ? cap : most;
        if (len > cap - b->len)
            return LFS_ERR_PROTO;
        uint8_t *grown = sodium_malloc(cap);
        if (!grown)
            return -ENOMEM;
        if (b->len)
            memcpy(grown, b->p, b->len);
        sodium_free(b->p);
        b->p = grown;
        b->cap = cap;
    }
    if (len)
        memcpy(b->p + b->len, data, len);
    b->len += len;
    return 0;
}

void proto_in_clear(struct proto_in *in)
{
    proto_body_clear(&in->body);
    *in = (struct proto_in){0};
}

int proto_in_packet(struct proto_in *in, const uint8_t *packet, size_t len)
{
    struct rcur c = rcur_over(packet, len);
    uint8_t version = rcur_u8(&c), flags = rcur_u8(&c);
    uint16_t type = rcur_u16(&c);
    uint32_t serial = rcur_u32(&c);
    if (c.bad || len > PROTO_PACKET_MAX)
        return LFS_ERR_PROTO;
    if (version != PROTO_VERSION)
        return LFS_ERR_UNSUPPORTED;
    /* Only full packets may have a successor: no endless row of tiny ones. */
    if (flags > FLAG_MORE || (flags == FLAG_MORE && len != PROTO_PACKET_MAX))
        return LFS_ERR_PROTO;
    if (in->partial && (type != in->type || serial != in->serial))
        return LFS_ERR_PROTO;
    if (!in->partial)
        proto_in_clear(in);
    in->type = type;
    in->serial = serial;
    in->partial = flags == FLAG_MORE;
    int r = body_append(&in->body, c.p, c.left, type & P_REPLY ? PROTO_BODY_MAX : PROTO_REQUEST_MAX);
    return r ? r : !in->partial;
}

int proto_out_init(struct proto_out *out, const struct proto_msg *m)
{
    *out = (struct proto_out){.type = m->type, .serial = m->serial};
    return proto_encode(m, &out->body);
}

void proto_out_clear(struct proto_out *out)
{
    proto_body_clear(&out->body);
}

static int send_one(struct proto_out *out, int fd, size_t piece, bool more)
{
    uint8_t head[PROTO_HEADER_BYTES];
    struct wcur c = wcur_over(head, sizeof head);
    wcur_u8(&c, PROTO_VERSION);
    wcur_u8(&c, more ? FLAG_MORE : 0);
    wcur_u16(&c, out->type);
    wcur_u32(&c, out->serial);
    struct iovec iov[2] = {{head, sizeof head}, {out->body.p + out->sent, piece}};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
    ssize_t n;
    do
        n = sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}

int proto_out_send(struct proto_out *out, int fd)
{
    for (;;) {
        size_t left = out->body.len - out->sent;
        bool more = left > PIECE_MAX;
        size_t piece = more ? PIECE_MAX : left;
        int r = send_one(out, fd, piece, more);
        if (r == -EAGAIN || r == -ENOBUFS)
            return 0;
        if (r)
            return r;
        out->sent += piece;
        if (!more)
            return 1;
    }
}
