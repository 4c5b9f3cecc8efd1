/* A client of latch-keyd for the tests: commands on standard input, one a line, an answer line for each. */
#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/io.h"
#include "latchfs/keyclient.h"
#include "latchfs/keyedit.h"
#include "latchfs/keystore.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORDS 16

static struct keyclient *kc;
static char *words[WORDS];

static int answer(int r)
{
    if (r)
        printf("%d %s\n", r, kc ? keyclient_message(kc) : keyclient_connect_message());
    return r;
}

static const struct {
    const char *name;
    enum credential_type type;
} types[] = {{"passphrase", CRED_PASSPHRASE},
             {"keyfile", CRED_KEYFILE},
             {"recovery", CRED_RECOVERY},
             {"recipient", CRED_RECIPIENT},
             {"command", CRED_COMMAND}};

/* A secret of hex digits is given as 0x... */
static struct secret *secret_of(const char *text)
{
    uint8_t bytes[64];
    size_t len;
    if (strcmp(text, "-") == 0)
        return NULL;
    if (strncmp(text, "0x", 2) != 0)
        return secret_new_copy(text, strlen(text));
    if (sodium_hex2bin(bytes, sizeof bytes, text + 2, strlen(text + 2), NULL, &len, NULL))
        return NULL;
    return secret_new_copy(bytes, len);
}

static struct credential cred(const char *type, const char *text)
{
    struct credential c = {0};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i].name, type) == 0)
            c.type = types[i].type;
    c.secret = secret_of(text);
    return c;
}

static void drop(struct credential *c)
{
    secret_free((struct secret *)(uintptr_t)c->secret);
}

static char *load(const char *path, size_t *len)
{
    char *data = NULL;
    *len = 0;
    return io_read_file(AT_FDCWD, path, KEYSTORE_MAX_BYTES, &data, len) ? NULL : data;
}

static void save(const char *path, const char *data, size_t len)
{
    char dir[4096];
    snprintf(dir, sizeof dir, "%s", path);
    char *slash = strrchr(dir, '/');
    if (!slash)
        abort();
    *slash = '\0';
    AUTO_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || io_replace_file(fd, slash + 1, data, len, 0644))
        abort();
}

static void show_id(const uint8_t id[static ID_BYTES])
{
    char hex[2 * ID_BYTES + 1];
    id_to_hex(id, hex);
    printf(" %s", hex);
}

static void done_with_recovery(struct secret *recovery)
{
    if (recovery)
        printf(" %s", (const char *)secret_const(recovery));
    printf("\n");
    secret_free(recovery);
}

/* connect SOCKET KEYD|- [DEADLINE_MS] */
static void do_connect(void)
{
    struct keyclient_options o = {.socket_path = words[1],
                                  .keyd_path = words[2][0] == '-' ? NULL : words[2],
                                  .deadline_ms = words[3] ? atoi(words[3]) : 0};
    keyclient_freep(&kc);
    if (!answer(keyclient_connect(&o, &kc)))
        printf("0\n");
}

/* init FILE fast|slow norecovery|recovery TYPE SECRET [LABEL [ENVIRONMENT]] */
static void do_init(void)
{
    struct keystore_init in = {.suite = 1,
                               .fast_kdf = words[2][0] == 'f',
                               .recovery = words[3][0] == 'r',
                               .first = cred(words[4], words[5]),
                               .label = words[6] && strcmp(words[6], "-") ? words[6] : NULL,
                               .environment = words[6] ? words[7] : NULL};
    char *ini = NULL;
    size_t len;
    struct secret *recovery = NULL;
    int r = keyclient_init(kc, &in, &ini, &len, &recovery);
    drop((struct credential *)&in.first);
    if (answer(r))
        return;
    save(words[1], ini, len);
    free(ini);
    printf("0");
    done_with_recovery(recovery);
}

/* unlock|admin FILE TYPE SECRET [older] ; test FILE TYPE SECRET [SLOT] */
static void do_unlock(void)
{
    size_t len;
    AUTO_FREE char *ini = load(words[1], &len);
    struct credential c = cred(words[2], words[3]);
    uint8_t id[ID_BYTES] = {0};
    unsigned slot = 0;
    int r;
    if (words[0][0] == 'u')
        r = keyclient_unlock(kc, ini, len, &c, words[4] != NULL, id, &slot);
    else if (words[0][0] == 'a')
        r = keyclient_admin(kc, ini, len, &c, words[4] != NULL, &slot);
    else {
        c.slot = words[4] ? (unsigned)atoi(words[4]) : 0;
        r = keyclient_slot_test(kc, ini, len, &c, &slot);
    }
    drop(&c);
    if (answer(r))
        return;
    printf("0 %u", slot);
    show_id(id);
    printf("\n");
}

static unsigned op_of(const char *name)
{
    for (unsigned op = 1; op <= EDIT_OP_MAX; op++)
        if (key_edit_name(op) && strcmp(key_edit_name(op), name) == 0)
            return op;
    return 0;
}

/* The value of a word NAME=VALUE, or NULL. */
static const char *option(const char *name)
{
    size_t n = strlen(name);
    for (int i = 3; i < WORDS && words[i]; i++)
        if (strncmp(words[i], name, n) == 0 && words[i][n] == '=')
            return words[i] + n + 1;
    return NULL;
}

static bool flag(const char *name)
{
    for (int i = 3; i < WORDS && words[i]; i++)
        if (strcmp(words[i], name) == 0)
            return true;
    return false;
}

static void id_option(const char *name, uint8_t id[static ID_BYTES])
{
    const char *hex = option(name);
    if (!hex || !id_from_hex(hex, id))
        memset(id, 0, ID_BYTES);
}

/* edit NEWFILE|- ACT [number=N] [pd=ID] [label=TEXT] [type=TYPE secret=SECRET] [public=HEX] [force] [held] */
static void do_edit(void)
{
    struct key_edit e = {.op = (uint8_t)op_of(words[2]),
                         .number = option("number") ? (uint32_t)strtoul(option("number"), NULL, 10) : 0,
                         .force = flag("force"),
                         .held = flag("held"),
                         .fast_kdf = true,
                         .label = option("label")};
    struct key_edit_result made = {0};
    CLEANUP(secret_freep) struct secret *public_key = option("public") ? secret_of(option("public")) : NULL;
    AUTO_FREE char *ini = NULL;
    size_t len;
    id_option("pd", e.pd);
    if (option("type"))
        e.fresh = cred(option("type"), option("secret") ? option("secret") : "-");
    if (public_key)
        e.fresh.public_key = secret_const(public_key);
    int r = keyclient_edit(kc, &e, &ini, &len, &made);
    drop(&e.fresh);
    if (answer(r))
        return;
    if (strcmp(words[1], "-") != 0)
        save(words[1], ini, len);
    printf("0 %" PRIu32, made.number);
    show_id(made.pd);
    done_with_recovery(made.recovery);
}

static void do_pin(void)
{
    size_t len;
    AUTO_FREE char *ini = load(words[1], &len);
    if (!answer(keyclient_pin(kc, ini, len)))
        printf("0\n");
}

static void do_json(void)
{
    AUTO_FREE char *json = NULL;
    int r;
    if (strcmp(words[0], "status") == 0)
        r = keyclient_status(kc, &json);
    else if (strcmp(words[0], "approvals") == 0)
        r = keyclient_approvals(kc, &json);
    else
        r = keyclient_audit_head(kc, &json);
    if (!answer(r))
        printf("0 %s\n", json);
}

/* approve ID PUBLIC SIGNATURE */
static void do_approve(void)
{
    uint8_t key[32], signature[64];
    size_t n;
    int r = LFS_ERR_MISUSE;
    if (!sodium_hex2bin(key, sizeof key, words[2], strlen(words[2]), NULL, &n, NULL) && n == sizeof key &&
        !sodium_hex2bin(signature, sizeof signature, words[3], strlen(words[3]), NULL, &n, NULL))
        r = keyclient_approve(kc, words[1], key, signature);
    if (!answer(r))
        printf("0\n");
}

/* auditread FROM: how many bytes came ; auditenroll: a hash of the key */
static void do_audit(void)
{
    AUTO_FREE char *text = NULL;
    CLEANUP(secret_freep) struct secret *key = NULL;
    size_t len = 0;
    int r;
    if (strcmp(words[0], "auditread") == 0)
        r = keyclient_audit_read(kc, words[1] ? strtoull(words[1], NULL, 10) : 0, &text, &len);
    else
        r = keyclient_audit_enroll(kc, &key);
    if (!answer(r))
        printf("0 %zu\n", key ? secret_len(key) : len);
}

static void show_keys(const struct keyset *k)
{
    uint8_t hash[16]; /* of all keys: tells two leases apart or alike without showing a key */
    char hex[33];
    crypto_generichash(hash, sizeof hash, (const uint8_t *)k, sizeof *k, NULL, 0);
    printf(" %s %" PRIu32 " %" PRIu32, sodium_bin2hex(hex, sizeof hex, hash, sizeof hash), k->active,
           k->least);
}

/* lock|attach VOLUME ; lease|renew VOLUME [DIR] ; leasefor VOLUME DIR|- UID|-1 */
static void do_volume(void)
{
    uint8_t id[ID_BYTES], pd[ID_BYTES] = {0};
    CLEANUP(keyset_freep) struct keyset *k = NULL;
    unsigned n = 0;
    int r = id_from_hex(words[1], id) ? 0 : LFS_ERR_MISUSE;
    if (words[2])
        id_from_hex(words[2], pd);
    if (!r && words[0][0] == 'a')
        r = keyclient_attach(kc, id, "/mnt/test");
    else if (!r && words[0][0] == 'r')
        r = keyclient_renew(kc, id, pd);
    else if (!r && strcmp(words[0], "lock") == 0)
        r = keyclient_lock(kc, id, &n);
    else if (!r && strcmp(words[0], "leasefor") == 0)
        r = keyclient_lease_for(kc, id, pd, (uid_t)atol(words[3]), &k);
    else if (!r)
        r = keyclient_lease(kc, id, pd, &k, &n);
    if (answer(r))
        return;
    printf("0 %u", n);
    if (k) {
        show_keys(k);
        printf(" %u", keyclient_idle_s(kc));
    }
    printf("\n");
}

/* lockdir VOLUME DIR [force] ; unlockdir VOLUME DIR ; idle VOLUME DIR ; waitrekeyed VOLUME DIR VERSION */
static void do_dir(void)
{
    uint8_t id[ID_BYTES], pd[ID_BYTES];
    unsigned held = 0;
    int r = id_from_hex(words[1], id) && id_from_hex(words[2], pd) ? 0 : LFS_ERR_MISUSE;
    if (!r && strcmp(words[0], "lockdir") == 0)
        r = keyclient_lock_dir(kc, id, pd, words[3] != NULL, &held);
    else if (!r && strcmp(words[0], "unlockdir") == 0)
        r = keyclient_unlock_dir(kc, id, pd);
    else if (!r && strcmp(words[0], "idle") == 0)
        r = keyclient_locked_idle(kc, id, pd);
    else if (!r)
        r = keyclient_wait_rekeyed(kc, id, pd, (uint32_t)strtoul(words[3] ? words[3] : "1", NULL, 10));
    if (r == LFS_ERR_BUSY)
        printf("%d %u\n", r, held);
    else if (!answer(r))
        printf("0 %u\n", held);
}

/* event: waits for a push */
static void do_event(void)
{
    static const char *const names[] = {[KEY_EVENT_NONE] = "none",
                                        [KEY_EVENT_REVOKE] = "revoke",
                                        [KEY_EVENT_UNLOCKED] = "unlocked",
                                        [KEY_EVENT_REKEY] = "rekey",
                                        [KEY_EVENT_HELD] = "held"};
    struct key_event ev;
    int r = keyclient_event(kc, &ev);
    if (!r && ev.type == KEY_EVENT_NONE) {
        struct pollfd p = {.fd = keyclient_fd(kc), .events = POLLIN};
        poll(&p, 1, words[1] ? atoi(words[1]) : 20000);
        r = keyclient_event(kc, &ev);
    }
    if (answer(r))
        return;
    printf("0 %s %" PRIu32, names[ev.type], ev.serial);
    show_id(ev.pd_id);
    printf("\n");
}

/* revoked|held SERIAL COUNT ; rekeyed SERIAL DIR VERSION */
static void do_answer(void)
{
    uint32_t serial = (uint32_t)strtoul(words[1], NULL, 10);
    uint8_t pd[ID_BYTES];
    int r = LFS_ERR_MISUSE;
    if (strcmp(words[0], "revoked") == 0)
        r = keyclient_revoked(kc, serial, (unsigned)atoi(words[2]));
    else if (strcmp(words[0], "held") == 0)
        r = keyclient_held(kc, serial, (unsigned)atoi(words[2]));
    else if (words[3] && id_from_hex(words[2], pd))
        r = keyclient_rekeyed(kc, serial, pd, (uint32_t)strtoul(words[3], NULL, 10));
    if (!answer(r))
        printf("0\n");
}

/* report FAILURES [DIR TIME] */
static void do_report(void)
{
    struct key_use use = {0};
    bool has = words[2] && words[3] && id_from_hex(words[2], use.pd_id);
    if (has)
        use.last_use = strtoull(words[3], NULL, 10);
    if (!answer(keyclient_report(kc, strtoull(words[1], NULL, 10), &use, has)))
        printf("0\n");
}

static const struct {
    const char *name;
    int words;
    void (*run)(void);
} commands[] = {
    {"connect", 3, do_connect}, {"init", 6, do_init},         {"unlock", 4, do_unlock},
    {"test", 4, do_unlock},     {"admin", 4, do_unlock},      {"edit", 3, do_edit},
    {"pin", 2, do_pin},         {"status", 1, do_json},       {"lock", 2, do_volume},
    {"attach", 2, do_volume},   {"lease", 2, do_volume},      {"renew", 2, do_volume},
    {"leasefor", 4, do_volume}, {"lockdir", 3, do_dir},       {"unlockdir", 3, do_dir},
    {"idle", 3, do_dir},        {"waitrekeyed", 4, do_dir},   {"event", 1, do_event},
    {"revoked", 3, do_answer},  {"held", 3, do_answer},       {"rekeyed", 4, do_answer},
    {"report", 2, do_report},   {"approvals", 1, do_json},    {"approve", 4, do_approve},
    {"auditread", 1, do_audit}, {"auditenroll", 1, do_audit}, {"audithead", 1, do_json},
};

static void run_line(char *line)
{
    char *save_ptr = NULL;
    int n = 0;
    memset(words, 0, sizeof words);
    for (char *w = strtok_r(line, " \n", &save_ptr); w && n < WORDS; w = strtok_r(NULL, " \n", &save_ptr))
        words[n++] = w;
    for (size_t i = 0; n && i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(commands[i].name, words[0]) == 0 && n >= commands[i].words) {
            if (!kc && commands[i].run != do_connect)
                break;
            commands[i].run();
            fflush(stdout);
            return;
        }
    }
    printf("%d usage\n", LFS_ERR_MISUSE);
    fflush(stdout);
}

int main(void)
{
    char line[8192];
    if (secret_harden_process())
        return 1;
    while (fgets(line, sizeof line, stdin))
        run_line(line);
    keyclient_freep(&kc);
    return 0;
}
