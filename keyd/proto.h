/* The messages between latch-keyd and its clients, compiled once for both sides. docs/PROTOCOL-keyd.md gives
 * the bytes. A message is one body in one or more packets of a SOCK_SEQPACKET socket. */
#ifndef KEYD_PROTO_H
#define KEYD_PROTO_H

#include "latchfs/keystore.h"

#include <stdbool.h>

#define PROTO_VERSION 1
#define PROTO_HEADER_BYTES 8u
#define PROTO_PACKET_MAX 65536u
#define PROTO_BODY_MAX (KEYSTORE_MAX_BYTES + 65536u)
#define PROTO_TEXT_MAX 400u
#define PROTO_SECRET_MAX 8192u
#define PROTO_PATH_MAX 4096u
#define PROTO_JSON_MAX (KEYSTORE_MAX_BYTES)

enum proto_type {
    P_HELLO = 1,
    P_INIT = 2,
    P_UNLOCK = 3,
    P_LOCK = 4,
    P_SLOT_TEST = 5,
    P_SLOT_ADD = 6,
    P_SLOT_REMOVE = 7,
    P_PIN = 8,
    P_STATUS = 9,
    P_ATTACH = 10,
    P_LEASE = 11,
    P_RENEW = 12,
    P_REVOKED = 13,
    P_PUSH_REVOKE = 0x4001, /* keyd to mount; the serial is keyd's */
    P_PUSH_UNLOCKED = 0x4002,
    P_REPLY = 0x8000, /* or'ed to the type of the request */
};

enum proto_flags { PF_FAST_KDF = 1, PF_RECOVERY = 2, PF_ACCEPT_OLDER = 4, PF_ALL = 7 };

struct proto_blob {
    const uint8_t *p; /* decoded: into the body */
    size_t len;
};

/* Any message; which fields count follows from its type. */
struct proto_msg {
    uint16_t type;
    uint32_t serial;
    int32_t result;         /* replies: 0 or an error of err.h; after an error only text follows */
    struct proto_blob text; /* replies: keyd's words on a refusal */
    uint8_t volume[ID_BYTES];
    uint8_t pd[ID_BYTES]; /* zeros: the root's, or the whole volume */
    uint8_t suite;
    uint8_t cred, fresh_cred; /* enum credential_type */
    uint32_t flags;           /* enum proto_flags */
    uint32_t slot, held, push, lease_s, grace_s, pid;
    struct proto_blob ini, json, secret, fresh, recovery, label, path;
    struct keyset *keys; /* decoded: keyset_new'ed, owned by the message */
};
void proto_msg_clear(struct proto_msg *m); /* frees keys */

/* A body in guarded, locked memory that is wiped when freed. */
struct proto_body {
    uint8_t *p;
    size_t len, cap;
};
void proto_body_clear(struct proto_body *b);

/* LFS_ERR_PROTO for bytes that do not fit the type, or an unknown type. Points into data. */
int proto_decode(uint16_t type, uint32_t serial, const uint8_t *data, size_t len, struct proto_msg *out);

/* LFS_ERR_MISUSE for a field over its limit. body is cleared first. */
int proto_encode(const struct proto_msg *m, struct proto_body *body);

/* "unlock", ... of a request or push; "unknown". */
const char *proto_type_name(uint16_t type);

/* Puts a message together out of packets. */
struct proto_in {
    struct proto_body body;
    uint16_t type;
    uint32_t serial;
    bool partial; /* more packets are to come */
};
/* 1: whole, in type, serial and body, until the next call. 0: more to come. LFS_ERR_PROTO,
 * LFS_ERR_UNSUPPORTED (another version), -ENOMEM. */
int proto_in_packet(struct proto_in *in, const uint8_t *packet, size_t len);
void proto_in_clear(struct proto_in *in);

/* A message on its way out. */
struct proto_out {
    struct proto_body body;
    uint16_t type;
    uint32_t serial;
    size_t sent;
};
int proto_out_init(struct proto_out *out, const struct proto_msg *m);
void proto_out_clear(struct proto_out *out);
/* Sends the next packets. 1: all is sent. 0: the socket takes no more now. -errno. */
int proto_out_send(struct proto_out *out, int fd);

#endif
