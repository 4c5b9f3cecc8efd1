/* The messages between latch-keyd and its clients, compiled once for both sides. docs/PROTOCOL-keyd.md gives
 * the bytes. A message is one body in one or more packets of a SOCK_SEQPACKET socket. */
#ifndef KEYD_PROTO_H
#define KEYD_PROTO_H

#include "latchfs/keystore.h"

#include <stdbool.h>

#define PROTO_VERSION 1
#define PROTO_HEADER_BYTES 8u
#define PROTO_PACKET_MAX 65536u
#define PROTO_JSON_MAX (1024u * 1024)
#define PROTO_REQUEST_MAX (KEYSTORE_MAX_BYTES + 65536u) /* body of a request */
#define PROTO_BODY_MAX (PROTO_JSON_MAX + 65536u)        /* of anything else */
#define PROTO_TEXT_MAX 400u
#define PROTO_SECRET_MAX 8192u
#define PROTO_PATH_MAX 4096u
#define PROTO_LOG_MAX (256u * 1024)
#define PROTO_WAIT_MS_MAX 3600000u
#define PROTO_APPROVAL_ID_MAX 64u
#define PROTO_USES_MAX 256u
#define PROTO_USE_BYTES (ID_BYTES + 8u) /* dir | last use u64 */

enum proto_type {
    P_HELLO = 1,
    P_INIT = 2,
    P_UNLOCK = 3,
    P_LOCK = 4,
    P_SLOT_TEST = 5,
    P_ADMIN = 6,
    P_EDIT = 7,
    P_PIN = 8,
    P_STATUS = 9,
    P_ATTACH = 10,
    P_LEASE = 11,
    P_RENEW = 12,
    P_REVOKED = 13,
    P_WAIT_REKEYED = 14,
    P_LOCK_DIR = 15,
    P_UNLOCK_DIR = 16,
    P_APPROVALS = 17,
    P_APPROVE = 18,
    P_AUDIT_READ = 19,
    P_AUDIT_HEAD = 20,
    P_AUDIT_ENROLL = 21,
    P_LEASE_FOR = 22,
    P_REKEYED = 23,
    P_HELD = 24,
    P_LOCKED_IDLE = 25,
    P_REPORT = 26,
    P_PUSH_REVOKE = 0x4001, /* keyd to mount; the serial is keyd's */
    P_PUSH_UNLOCKED = 0x4002,
    P_PUSH_REKEY = 0x4003,
    P_PUSH_HELD = 0x4004,
    P_REPLY = 0x8000, /* or'ed to the type of the request */
};

enum proto_flags {
    PF_FAST_KDF = 1,
    PF_RECOVERY = 2,
    PF_ACCEPT_OLDER = 4,
    PF_FORCE = 8,
    PF_HELD = 16,
    PF_FIRST = 32, /* replies: this keyd had not seen the volume before */
    PF_ALL = 63
};

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
    uint8_t cred, fresh_cred; /* enum credential_type; fresh_cred 0: none */
    uint8_t op;               /* enum key_edit_op */
    uint8_t done;             /* of lock-dir: 0: files are open, nothing was locked */
    uint32_t flags;           /* enum proto_flags */
    uint32_t slot, number, held, push, lease_s, idle_s, grace_s, wait_s, wait_ms, pid, uid;
    uint64_t offset, failures;
    uint8_t signing_public[KEYSTORE_PUBLIC_BYTES]; /* whose signature is expected; zeros: any */
    uint8_t public_key[KEYSTORE_PUBLIC_BYTES];
    uint8_t signature[KEYSTORE_SIGNATURE_BYTES];
    struct proto_blob ini, json, log, secret, fresh, blob, recovery, key, uses, label, environment, command,
        id, path;
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

/* The field "keys" alone, at most PROTO_KEYS_MAX bytes; 0 if it does not fit. */
#define PROTO_KEYS_MAX (45u + KEYSET_VERSIONS_MAX * (4u + LFS_KEY_BYTES) + 2 * LFS_KEY_BYTES)
size_t proto_keys_encode(const struct keyset *k, uint8_t *out, size_t room);

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
