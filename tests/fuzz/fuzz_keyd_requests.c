/* Whole requests to a running server, one after another on one connection: each is type u8, length u16, body.
 * In bodies 16 bytes V stand for the id of a volume that is there, 16 bytes D for a protected directory of
 * it. Type 255 begins a session of administration, 254 attaches and leases. Whatever comes, the server must
 * answer or end the connection, and serve the next one. */
#include "latchfs/buf.h"
#include "latchfs/keyedit.h"
#include "server.h"

#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SECRET "a key file of the fuzz target, not of anybody"
#define REQUESTS_MAX 12

static struct policy policy;
static struct server server = {.policy = &policy};
static char *ini;
static size_t ini_len;
static uint8_t volume_id[ID_BYTES], pd_id[ID_BYTES];
static struct sockaddr_un address = {.sun_family = AF_UNIX};

static void *serve(void *arg)
{
    server_run(&server);
    abort(); /* it has no reason to end */
}

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void make_volume(void)
{
    struct key_why why;
    struct keystore *ks;
    struct keystore_keys *keys;
    struct key_edit e = {.op = EDIT_DIR_ADD, .label = "team"};
    struct key_edit_result made = {0};
    struct held_blobs blobs;
    struct held_source none = {0};
    CLEANUP(secret_freep) struct secret *secret = secret_new_copy(SECRET, sizeof SECRET - 1);
    struct keystore_init in = {.suite = 1, .first = {.type = CRED_KEYFILE, .secret = secret}};
    AUTO_FREE char *first = NULL;
    size_t len;
    must(!keystore_make(&in, 100, &first, &len, NULL, &why));
    must(!keystore_open(first, len, &in.first, &ks, &keys, &why));
    must(!keystore_edit(ks, keys, &e, 100, &none, &ini, &ini_len, &made, &blobs, &why));
    memcpy(volume_id, ks->volume_id, ID_BYTES);
    memcpy(pd_id, made.pd, ID_BYTES);
    keystore_free(ks);
    keystore_keys_free(keys);
}

static char dir[] = "/dev/shm/fuzz-keyd-XXXXXX";

static int remove_one(const char *path, const struct stat *st, int what, struct FTW *at)
{
    return remove(path);
}

static void remove_dir(void)
{
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void begin(void)
{
    pthread_t thread;
    sigset_t none;
    sigemptyset(&none);
    must(sodium_init() >= 0 && mkdtemp(dir) && !atexit(remove_dir));
    policy_defaults(&policy);
    policy.owner = geteuid();
    policy.idle_exit_s = 0;
    policy.revoke_wait_s = 1;
    make_volume();
    must(!statedir_open(dir, &server.statedir) && !audit_open(server.statedir, "", &server.audit));
    vault_init();
    must(!worker_start(&server.worker));
    server.signals = signalfd(-1, &none, SFD_CLOEXEC);
    server.listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s/socket", dir);
    must(!bind(server.listener, (struct sockaddr *)&address, sizeof address) && !listen(server.listener, 64));
    must(!pthread_create(&thread, NULL, serve, NULL));
}

/* The next reply, pushes apart. False: the connection ended, or nothing came for so long. */
static bool reply(int fd, int ms)
{
    static uint8_t packet[PROTO_PACKET_MAX];
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, ms) <= 0)
            return false;
        ssize_t n = recv(fd, packet, sizeof packet, 0);
        if (n <= 0)
            return false;
        bool is_reply = n >= 4 && packet[3] & 0x80, more = packet[1] & 1;
        if (is_reply && !more)
            return true;
    }
}

static bool send_body(int fd, uint16_t type, const uint8_t *body, size_t len)
{
    static uint8_t packet[PROTO_PACKET_MAX];
    struct wcur c = wcur_over(packet, sizeof packet);
    wcur_u8(&c, PROTO_VERSION);
    wcur_u8(&c, 0);
    wcur_u16(&c, type);
    wcur_u32(&c, 1);
    wcur_bytes(&c, body, len);
    return !c.bad && send(fd, packet, wcur_used(&c), MSG_NOSIGNAL) > 0;
}

static bool send_msg(int fd, const struct proto_msg *m)
{
    struct proto_body b = {0};
    must(!proto_encode(m, &b));
    bool ok = send_body(fd, m->type, b.p, b.len);
    proto_body_clear(&b);
    return ok && reply(fd, 5000);
}

static bool prepared(int fd, uint8_t what)
{
    struct proto_msg m = {.type = what == 255 ? P_ADMIN : P_ATTACH,
                          .ini = {(const uint8_t *)ini, ini_len},
                          .cred = CRED_KEYFILE,
                          .secret = {(const uint8_t *)SECRET, sizeof SECRET - 1},
                          .flags = PF_ACCEPT_OLDER};
    memcpy(m.volume, volume_id, ID_BYTES);
    if (!send_msg(fd, &m))
        return false;
    m.type = P_UNLOCK;
    if (what == 255 || !send_msg(fd, &m))
        return what == 255;
    m.type = P_LEASE;
    memcpy(m.pd, pd_id, ID_BYTES);
    return send_msg(fd, &m);
}

static void put_ids(uint8_t *body, size_t len)
{
    static const char v[ID_BYTES + 1] = "VVVVVVVVVVVVVVVV", d[ID_BYTES + 1] = "DDDDDDDDDDDDDDDD";
    for (size_t i = 0; i + ID_BYTES <= len; i++) {
        if (memcmp(body + i, v, ID_BYTES) == 0)
            memcpy(body + i, volume_id, ID_BYTES);
        else if (memcmp(body + i, d, ID_BYTES) == 0)
            memcpy(body + i, pd_id, ID_BYTES);
    }
}

/* Argon2id, and waiting for an hour, would only take time. */
static bool is_slow(uint16_t type, const uint8_t *body, size_t len)
{
    struct proto_msg m = {0};
    if (proto_decode(type, 1, body, len, &m))
        return false;
    bool slow = m.fresh_cred == CRED_PASSPHRASE || m.wait_ms > 5;
    proto_msg_clear(&m);
    return slow;
}

static bool one_request(int fd, struct rcur *c)
{
    uint8_t type = rcur_u8(c), body[4096];
    if (type >= 254)
        return prepared(fd, type);
    size_t len = rcur_u16(c);
    len = len < c->left ? len : c->left;
    len = len < sizeof body ? len : sizeof body;
    rcur_bytes(c, body, len);
    put_ids(body, len);
    if (is_slow(type, body, len))
        return true;
    return send_body(fd, type, body, len) && reply(fd, 5000);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool begun;
    struct rcur c = rcur_over(data, size);
    if (!begun)
        begin();
    begun = true;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    must(fd >= 0 && !connect(fd, (struct sockaddr *)&address, sizeof address));
    for (int i = 0; i < REQUESTS_MAX && c.left && one_request(fd, &c); i++)
        ;
    close(fd);
    return 0;
}
