/* latch-request-key: what request-key(8) runs for a key of the kernel named latchfs:VOLUME[:DIRECTORY]. It
 * runs as root for any user who asks, with any description, and that user's program cannot even be killed
 * until it answers. So: only the uid that the kernel gives is believed, latch-keyd decides, and all of it is
 * over in seconds. */
#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/keyclient.h"
#include "latchfs/keystore.h"
#include "latchfs/log.h"
#include "proto.h"

#include <errno.h>
#include <keyutils.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PREFIX "latchfs:"
#define DEADLINE_MS 3000
#define ALARM_SECONDS 5 /* whatever happens, the asking program goes on */
#define KEY_SECONDS 60  /* the key then ends by itself */
#define REFUSAL_SECONDS 1

struct ask {
    key_serial_t key;
    uid_t uid;
    uint8_t volume_id[ID_BYTES], pd_id[ID_BYTES];
    bool has_pd;
};

static bool number(const char *text, unsigned long most, unsigned long *out)
{
    char *end;
    if (text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    *out = strtoul(text, &end, 10);
    return !errno && !*end && *out <= most;
}

static bool id_at(const char **text, uint8_t id[static ID_BYTES])
{
    char hex[2 * ID_BYTES + 1] = "";
    if (strnlen(*text, 2 * ID_BYTES) < 2 * ID_BYTES)
        return false;
    memcpy(hex, *text, 2 * ID_BYTES);
    *text += 2 * ID_BYTES;
    return id_from_hex(hex, id);
}

static bool parse_description(const char *text, struct ask *a)
{
    if (strncmp(text, PREFIX, sizeof PREFIX - 1) != 0)
        return false;
    text += sizeof PREFIX - 1;
    if (!id_at(&text, a->volume_id))
        return false;
    a->has_pd = *text == ':';
    text += a->has_pd;
    return (!a->has_pd || id_at(&text, a->pd_id)) && !*text;
}

/* Anything that goes wrong must end in a refusal, or the key stays under construction. */
static int refuse(const struct ask *a, int err)
{
    unsigned error = err == LFS_ERR_DENIED ? EACCES : ENOKEY;
    log_info("key %d of user %u: %s", (int)a->key, (unsigned)a->uid, lfs_strerror(err));
    keyctl_reject(a->key, REFUSAL_SECONDS, error, 0);
    return lfs_exit_code(err);
}

static int lease(const struct ask *a, struct keyset **out)
{
    CLEANUP(keyclient_freep) struct keyclient *kc = NULL;
    const struct keyclient_options o = {.deadline_ms = DEADLINE_MS};
    int r = keyclient_connect(&o, &kc);
    if (r == -ENOENT || r == -ECONNREFUSED)
        return LFS_ERR_NOKEY;
    return r ? r : keyclient_lease_for(kc, a->volume_id, a->has_pd ? a->pd_id : NULL, a->uid, out);
}

static int instantiate(const struct ask *a, const struct keyset *set)
{
    CLEANUP(secret_freep) struct secret *payload = secret_new(PROTO_KEYS_MAX);
    if (!payload)
        return -ENOMEM;
    size_t len = proto_keys_encode(set, secret_bytes(payload), PROTO_KEYS_MAX);
    if (keyctl_instantiate(a->key, secret_bytes(payload), len, 0))
        return -errno;
    return keyctl_set_timeout(a->key, KEY_SECONDS) ? -errno : 0;
}

int main(int argc, char **argv)
{
    struct ask a = {0};
    unsigned long key, uid;
    CLEANUP(keyset_freep) struct keyset *set = NULL;
    log_setup("latch-request-key", true, LOG_LEVEL_INFO);
    if (argc != 4 || !number(argv[1], INT32_MAX, &key) || !number(argv[2], UINT32_MAX - 1, &uid)) {
        fputs("usage: latch-request-key KEY UID DESCRIPTION (run by request-key(8))\n", stderr);
        return LFS_EXIT_USAGE;
    }
    a.key = (key_serial_t)key;
    a.uid = (uid_t)uid;
    alarm(ALARM_SECONDS);
    int r = secret_harden_process();
    if (!r && keyctl_assume_authority(a.key) < 0)
        return LFS_EXIT_FAILURE; /* not called for this key: nothing to answer */
    if (!r && !parse_description(argv[3], &a))
        r = LFS_ERR_MISUSE;
    if (!r)
        r = lease(&a, &set);
    if (!r)
        r = instantiate(&a, set);
    return r ? refuse(&a, r) : LFS_EXIT_OK;
}
