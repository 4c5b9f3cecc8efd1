/* The messages of latch-keyd, and their packets. */
#include "keyd_support.h"

#include "latchfs/keyedit.h"
#include "proto.h"

#include <sodium.h>
#include <sys/socket.h>
#include <unistd.h>

static const uint16_t requests[] = {
    P_HELLO,       P_INIT,         P_UNLOCK,       P_LOCK,          P_SLOT_TEST,  P_ADMIN,
    P_EDIT,        P_PIN,          P_STATUS,       P_ATTACH,        P_LEASE,      P_RENEW,
    P_REVOKED,     P_WAIT_REKEYED, P_LOCK_DIR,     P_UNLOCK_DIR,    P_APPROVALS,  P_APPROVE,
    P_AUDIT_READ,  P_AUDIT_HEAD,   P_AUDIT_ENROLL, P_LEASE_FOR,     P_REKEYED,    P_HELD,
    P_LOCKED_IDLE, P_REPORT,       P_PUSH_REVOKE,  P_PUSH_UNLOCKED, P_PUSH_REKEY, P_PUSH_HELD,
};

static struct proto_blob blob(const char *s)
{
    return (struct proto_blob){(const uint8_t *)s, strlen(s)};
}

/* Every field filled. */
static struct proto_msg full(uint16_t type)
{
    struct proto_msg m = {.type = type,
                          .serial = 7,
                          .suite = 1,
                          .cred = 1,
                          .fresh_cred = 2,
                          .op = EDIT_DIR_ROTATE,
                          .done = 1,
                          .flags = PF_ALL,
                          .slot = 3,
                          .held = 4,
                          .push = 5,
                          .lease_s = 6,
                          .grace_s = 7,
                          .pid = 8,
                          .number = 9,
                          .idle_s = 10,
                          .wait_s = 11,
                          .wait_ms = 12,
                          .uid = 13,
                          .offset = UINT64_C(0x0102030405060708),
                          .failures = 15,
                          .ini = blob("[volume]\n"),
                          .json = blob("{}"),
                          .log = blob("{}\n"),
                          .secret = blob("word"),
                          .fresh = blob("new word"),
                          .blob = blob("blob"),
                          .recovery = blob("ABCDE"),
                          .key = blob("kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"),
                          .uses = blob("ddddddddddddddddtttttttt"),
                          .label = blob("label"),
                          .environment = blob("staging"),
                          .command = blob("clevis"),
                          .id = blob("0123"),
                          .path = blob("/mnt"),
                          .keys = keyset_new()};
    memset(m.volume, 0x11, ID_BYTES);
    memset(m.pd, 0x22, ID_BYTES);
    memset(m.signing_public, 0x66, sizeof m.signing_public);
    memset(m.public_key, 0x77, sizeof m.public_key);
    memset(m.signature, 0x88, sizeof m.signature);
    m.keys->count = 2;
    m.keys->versions[1].key[31] = 0x33;
    m.keys->name_key[0] = 0x44;
    m.keys->journal_key[31] = 0x55;
    return m;
}

static struct proto_body encoded(uint16_t type)
{
    struct proto_msg m = full(type);
    struct proto_body b = {0};
    assert_int_equal(proto_encode(&m, &b), 0);
    proto_msg_clear(&m);
    return b;
}

static int decode(uint16_t type, const uint8_t *data, size_t len, struct proto_msg *out)
{
    return proto_decode(type, 7, data, len, out);
}

static void expect_round_trip(uint16_t type)
{
    struct proto_body b = encoded(type), again = {0};
    struct proto_msg m = {0};
    assert_int_equal(decode(type, b.p, b.len, &m), 0);
    assert_int_equal(proto_encode(&m, &again), 0);
    assert_int_equal(again.len, b.len);
    assert_memory_equal(again.p, b.p, b.len);
    proto_msg_clear(&m);
    proto_body_clear(&b);
    proto_body_clear(&again);
}

static void round_trips(void **state)
{
    for (size_t i = 0; i < COUNT(requests); i++) {
        expect_round_trip(requests[i]);
        if (requests[i] < P_PUSH_REVOKE)
            expect_round_trip(requests[i] | P_REPLY);
    }
}

/* Bytes written out as in the table of docs/PROTOCOL-keyd.md: a field is its letter. */
#define V16(x) x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x
#define V32(x) V16(x), V16(x)
#define N32(x) x, 0, 0, 0
#define OK_TEXT N32(0), 0, 0

static void known_bytes(void **state)
{
    static const uint8_t unlock[] = {N32(9), '[',    'v', 'o', 'l', 'u', 'm',    'e',       ']',    '\n',
                                     1,      N32(4), 'w', 'o', 'r', 'd', N32(3), V32(0x66), N32(63)};
    static const uint8_t edit[] = {10,  V16(0x22), N32(9), N32(63),   5,   0,   'l', 'a', 'b',
                                   'e', 'l',       2,      N32(8),    'n', 'e', 'w', ' ', 'w',
                                   'o', 'r',       'd',    V32(0x77), 6,   0,   'c', 'l', 'e',
                                   'v', 'i',       's',    N32(4),    'b', 'l', 'o', 'b'};
    static const uint8_t revoked[] = {N32(5), N32(4)};
    static const uint8_t hello[] = {OK_TEXT, N32(8), N32(11)};
    static const uint8_t lock_dir[] = {OK_TEXT, 1, N32(4)};
    static const uint8_t wait_rekeyed[] = {V16(0x11), V16(0x22), N32(9), N32(12)};
    static const uint8_t lease_for[] = {V16(0x11), V16(0x22), N32(13)};
    static const uint8_t rekeyed[] = {N32(5), V16(0x22), N32(9)};
    static const uint8_t report[] = {15,       0,   0,   0,   0,   0,   0,   0,   N32(24),
                                     V16('d'), 't', 't', 't', 't', 't', 't', 't', 't'};
    static const uint8_t audit_read[] = {8, 7, 6, 5, 4, 3, 2, 1};
    static const uint8_t approve[] = {4, 0, '0', '1', '2', '3', V32(0x77), V32(0x88), V32(0x88)};
    static const uint8_t push[] = {V16(0x11), V16(0x22)};
    const struct {
        uint16_t type;
        const uint8_t *bytes;
        size_t len;
    } cases[] = {{3, unlock, sizeof unlock},          {7, edit, sizeof edit},
                 {13, revoked, sizeof revoked},       {0x8001, hello, sizeof hello},
                 {0x800f, lock_dir, sizeof lock_dir}, {14, wait_rekeyed, sizeof wait_rekeyed},
                 {18, approve, sizeof approve},       {19, audit_read, sizeof audit_read},
                 {22, lease_for, sizeof lease_for},   {23, rekeyed, sizeof rekeyed},
                 {26, report, sizeof report},         {0x4003, push, sizeof push},
                 {0x4004, push, sizeof push}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct proto_body b = encoded(cases[i].type);
        assert_int_equal(b.len, cases[i].len);
        assert_memory_equal(b.p, cases[i].bytes, b.len);
        proto_body_clear(&b);
    }
}

static void refusals_carry_text_only(void **state)
{
    struct proto_msg m = {
        .type = P_LEASE | P_REPLY, .serial = 7, .result = LFS_ERR_NOKEY, .text = blob("locked")};
    struct proto_msg got = {0};
    struct proto_body b = {0};
    assert_int_equal(proto_encode(&m, &b), 0);
    assert_int_equal(decode(m.type, b.p, b.len, &got), 0);
    assert_int_equal(got.result, LFS_ERR_NOKEY);
    assert_int_equal(got.text.len, 6);
    assert_null(got.keys);
    proto_body_clear(&b);
}

static void truncations(void **state)
{
    for (size_t i = 0; i < COUNT(requests); i++) {
        struct proto_body b = encoded(requests[i]);
        for (size_t len = 0; len < b.len; len++) {
            struct proto_msg m = {0};
            uint8_t *cut = exact_copy(b.p, len);
            assert_int_equal(decode(requests[i], cut, len, &m), LFS_ERR_PROTO);
            free(cut);
        }
        uint8_t *more = malloc(b.len + 1);
        struct proto_msg m = {0};
        memcpy(more, b.p, b.len);
        more[b.len] = 0;
        assert_int_equal(decode(requests[i], more, b.len + 1, &m), LFS_ERR_PROTO);
        free(more);
        proto_body_clear(&b);
    }
}

static void bit_flips(void **state)
{
    struct rng rng = {99};
    for (int i = 0; i < 20000; i++) {
        uint16_t type = requests[rng_below(&rng, COUNT(requests))] | (rng_below(&rng, 2) ? P_REPLY : 0);
        if (type & P_REPLY && (type & ~P_REPLY) >= P_PUSH_REVOKE)
            continue;
        struct proto_body b = encoded(type), again = {0};
        if (b.len)
            b.p[rng_below(&rng, b.len)] ^= (uint8_t)(1 << rng_below(&rng, 8));
        uint8_t *exact = exact_copy(b.p, b.len);
        struct proto_msg m = {0};
        if (decode(type, exact, b.len, &m) == 0)
            assert_int_equal(proto_encode(&m, &again), 0); /* whatever is taken is within the limits */
        proto_msg_clear(&m);
        proto_body_clear(&again);
        proto_body_clear(&b);
        free(exact);
    }
}

static void limits(void **state)
{
    struct proto_msg m = full(P_UNLOCK);
    struct proto_body b = {0};
    m.cred = 6;
    assert_int_equal(proto_encode(&m, &b), LFS_ERR_MISUSE);
    m.cred = 1;
    m.secret.len = PROTO_SECRET_MAX + 1;
    assert_int_equal(proto_encode(&m, &b), LFS_ERR_MISUSE);
    m.secret.len = 0;
    assert_int_equal(proto_encode(&m, &b), LFS_ERR_MISUSE);
    m = (proto_msg_clear(&m), full(P_EDIT));
    m.op = EDIT_OP_MAX + 1;
    assert_int_equal(proto_encode(&m, &b), LFS_ERR_MISUSE);
    m.op = EDIT_SLOT_ADD;
    m.blob.len = KEYSTORE_BLOB_MAX + 1;
    assert_int_equal(proto_encode(&m, &b), LFS_ERR_MISUSE);
    m = (proto_msg_clear(&m), full(P_REPORT));
    m.uses.len--; /* no whole element */
    assert_int_equal(proto_encode(&m, &b), LFS_ERR_MISUSE);
    m = (proto_msg_clear(&m), full(P_AUDIT_ENROLL | P_REPLY));
    m.key.len--;
    assert_int_equal(proto_encode(&m, &b), LFS_ERR_MISUSE);
    m = (proto_msg_clear(&m), full(99));
    assert_int_equal(proto_encode(&m, &b), LFS_ERR_MISUSE);
    proto_msg_clear(&m);
    struct proto_msg got;
    assert_int_equal(decode(99, NULL, 0, &got), LFS_ERR_PROTO);
    assert_int_equal(decode(P_PUSH_REVOKE | P_REPLY, (const uint8_t *)"\0\0\0\0\0\0", 6, &got),
                     LFS_ERR_PROTO);
}

/* A long message through a socket, in pieces. */
static void pieces(void **state)
{
    static uint8_t long_text[200000], packet[PROTO_PACKET_MAX];
    int fds[2];
    struct proto_in in = {0};
    struct proto_out out;
    struct proto_msg m = {.type = P_PIN, .serial = 9}, got = {0};
    memset(long_text, 'x', sizeof long_text);
    long_text[sizeof long_text - 1] = 'y';
    m.ini = (struct proto_blob){long_text, sizeof long_text};
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
    assert_int_equal(proto_out_init(&out, &m), 0);
    int sent = 0, whole = 0, packets = 0;
    while (!whole) {
        if (!sent)
            sent = proto_out_send(&out, fds[0]);
        assert_true(sent >= 0);
        ssize_t n = recv(fds[1], packet, sizeof packet, 0);
        assert_true(n > 0);
        whole = proto_in_packet(&in, packet, (size_t)n);
        assert_true(whole >= 0);
        packets++;
    }
    assert_int_equal(packets, 4);
    assert_int_equal(proto_decode(in.type, in.serial, in.body.p, in.body.len, &got), 0);
    assert_int_equal(got.serial, 9);
    assert_int_equal(got.ini.len, sizeof long_text);
    assert_memory_equal(got.ini.p, long_text, sizeof long_text);
    proto_in_clear(&in);
    proto_out_clear(&out);
    close(fds[0]);
    close(fds[1]);
}

static void bad_packets(void **state)
{
    static uint8_t packet[PROTO_PACKET_MAX + 1] = {1, 1, P_PIN};
    static const struct {
        uint8_t head[8];
        size_t len;
        int want;
    } cases[] = {
        {{1, 0, 1}, 7, LFS_ERR_PROTO},
        {{2, 0, 1}, 8, LFS_ERR_UNSUPPORTED},
        {{1, 2, 1}, 8, LFS_ERR_PROTO},
        {{1, 1, 1}, 100, LFS_ERR_PROTO}, /* a small one with a successor */
        {{1, 0, 1}, 8, 1},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct proto_in in = {0};
        uint8_t bytes[100] = {0};
        memcpy(bytes, cases[i].head, 8);
        uint8_t *exact = exact_copy(bytes, cases[i].len);
        assert_int_equal(proto_in_packet(&in, exact, cases[i].len), cases[i].want);
        free(exact);
        proto_in_clear(&in);
    }
    struct proto_in in = {0};
    int r = 0, n = 0;
    while (r == 0 && n++ < 100)
        r = proto_in_packet(&in, packet, PROTO_PACKET_MAX);
    assert_int_equal(r, LFS_ERR_PROTO);
    assert_true(in.body.cap <= PROTO_REQUEST_MAX);
    proto_in_clear(&in);
    packet[3] = 0x80; /* replies may be longer */
    for (r = 0, n = 0; r == 0 && n < 100; n++)
        r = proto_in_packet(&in, packet, PROTO_PACKET_MAX);
    assert_int_equal(r, LFS_ERR_PROTO);
    assert_true(in.body.cap <= PROTO_BODY_MAX && in.body.len > PROTO_REQUEST_MAX);
    packet[3] = 0;
    proto_in_clear(&in);
    assert_int_equal(proto_in_packet(&in, packet, PROTO_PACKET_MAX), 0);
    packet[4] = 1; /* another serial in the middle of a message */
    assert_int_equal(proto_in_packet(&in, packet, PROTO_PACKET_MAX), LFS_ERR_PROTO);
    packet[4] = 0;
    proto_in_clear(&in);
}

int main(void)
{
    if (sodium_init() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trips),
        cmocka_unit_test(known_bytes),
        cmocka_unit_test(refusals_carry_text_only),
        cmocka_unit_test(truncations),
        cmocka_unit_test(bit_flips),
        cmocka_unit_test(limits),
        cmocka_unit_test(pieces),
        cmocka_unit_test(bad_packets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
