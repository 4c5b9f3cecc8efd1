/* A client of latch-keyd for the tests: commands on standard input, one a line, an answer line for each. */
#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/io.h"
#include "latchfs/keyclient.h"
#include "latchfs/keystore.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORDS 10

static struct keyclient *kc;
static char *words[WORDS];

static int answer(int r)
{
    if (r)
        printf("%d %s\n", r, kc ? keyclient_message(kc) : keyclient_connect_message());
    return r;
}

static struct credential cred(const char *type, const char *text)
{
    struct credential c = {.type = strcmp(type, "passphrase") == 0 ? CRED_PASSPHRASE
                                   : strcmp(type, "recovery") == 0 ? CRED_RECOVERY
                                                                   : CRED_KEYFILE};
    c.secret = strcmp(text, "-") == 0 ? NULL : secret_new_copy(text, strlen(text));
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

/* connect SOCKET KEYD|- */
static void do_connect(void)
{
    struct keyclient_options o = {.socket_path = words[1], .keyd_path = words[2][0] == '-' ? NULL : words[2]};
    keyclient_freep(&kc);
    if (!answer(keyclient_connect(&o, &kc)))
        printf("0\n");
}

/* init FILE fast|slow norecovery|recovery TYPE SECRET */
static void do_init(void)
{
    struct keystore_init in = {.suite = 1,
                               .fast_kdf = words[2][0] == 'f',
                               .recovery = words[3][0] == 'r',
                               .first = cred(words[4], words[5]),
                               .label = words[6]};
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

/* unlock FILE TYPE SECRET [older] ; test FILE TYPE SECRET */
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
    else
        r = keyclient_slot_test(kc, ini, len, &c, &slot);
    drop(&c);
    if (answer(r))
        return;
    printf("0 %u", slot);
    show_id(id);
    printf("\n");
}

/* add FILE NEWFILE TYPE SECRET NEWTYPE NEWSECRET */
static void do_add(void)
{
    size_t len, new_len;
    AUTO_FREE char *ini = load(words[1], &len);
    AUTO_FREE char *new_ini = NULL;
    struct credential c = cred(words[3], words[4]);
    struct slot_add add = {.fresh = cred(words[5], words[6]), .fast_kdf = true, .label = words[7]};
    struct secret *recovery = NULL;
    unsigned slot = 0;
    int r = keyclient_slot_add(kc, ini, len, &c, &add, &new_ini, &new_len, &slot, &recovery);
    drop(&c);
    drop(&add.fresh);
    if (answer(r))
        return;
    save(words[2], new_ini, new_len);
    printf("0 %u", slot);
    done_with_recovery(recovery);
}

/* remove FILE NEWFILE TYPE SECRET SLOT */
static void do_remove(void)
{
    size_t len, new_len;
    AUTO_FREE char *ini = load(words[1], &len);
    AUTO_FREE char *new_ini = NULL;
    struct credential c = cred(words[3], words[4]);
    int r = keyclient_slot_remove(kc, ini, len, &c, (unsigned)atoi(words[5]), &new_ini, &new_len);
    drop(&c);
    if (answer(r))
        return;
    save(words[2], new_ini, new_len);
    printf("0\n");
}

static void do_pin(void)
{
    size_t len;
    AUTO_FREE char *ini = load(words[1], &len);
    if (!answer(keyclient_pin(kc, ini, len)))
        printf("0\n");
}

static void do_status(void)
{
    AUTO_FREE char *json = NULL;
    if (!answer(keyclient_status(kc, &json)))
        printf("0 %s\n", json);
}

/* lock|attach|lease|renew ID */
static void do_volume(void)
{
    uint8_t id[ID_BYTES];
    CLEANUP(keyset_freep) struct keyset *k = NULL;
    unsigned n = 0;
    int r = id_from_hex(words[1], id) ? 0 : LFS_ERR_MISUSE;
    if (!r && words[0][0] == 'a')
        r = keyclient_attach(kc, id, "/mnt/test");
    else if (!r && words[0][0] == 'r')
        r = keyclient_renew(kc, id, NULL);
    else if (!r && strcmp(words[0], "lock") == 0)
        r = keyclient_lock(kc, id, &n);
    else if (!r)
        r = keyclient_lease(kc, id, NULL, &k, &n);
    if (answer(r))
        return;
    printf("0 %u", n);
    if (k) {
        uint8_t hash[16]; /* of all keys: tells two leases apart or alike without showing a key */
        char hex[33];
        crypto_generichash(hash, sizeof hash, (const uint8_t *)k, sizeof *k, NULL, 0);
        printf(" %s", sodium_bin2hex(hex, sizeof hex, hash, sizeof hash));
    }
    printf("\n");
}

/* event: waits for a push */
static void do_event(void)
{
    struct key_event ev;
    int r = keyclient_event(kc, &ev);
    if (!r && ev.type == KEY_EVENT_NONE) {
        struct pollfd p = {.fd = keyclient_fd(kc), .events = POLLIN};
        poll(&p, 1, 20000);
        r = keyclient_event(kc, &ev);
    }
    if (answer(r))
        return;
    printf("0 %s %" PRIu32 "\n",
           ev.type == KEY_EVENT_REVOKE     ? "revoke"
           : ev.type == KEY_EVENT_UNLOCKED ? "unlocked"
                                           : "none",
           ev.serial);
}

/* revoked SERIAL HELD */
static void do_revoked(void)
{
    if (!answer(keyclient_revoked(kc, (uint32_t)strtoul(words[1], NULL, 10), (unsigned)atoi(words[2]))))
        printf("0\n");
}

static const struct {
    const char *name;
    int words;
    void (*run)(void);
} commands[] = {
    {"connect", 3, do_connect}, {"init", 6, do_init},       {"unlock", 4, do_unlock},
    {"test", 4, do_unlock},     {"add", 7, do_add},         {"remove", 6, do_remove},
    {"pin", 2, do_pin},         {"status", 1, do_status},   {"lock", 2, do_volume},
    {"attach", 2, do_volume},   {"lease", 2, do_volume},    {"renew", 2, do_volume},
    {"event", 1, do_event},     {"revoked", 3, do_revoked},
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
