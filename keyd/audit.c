#include "audit_log.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/io.h"
#include "latchfs/keystore.h"
#include "peer_exe.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOISE_LINES 10
#define NOISE_SECONDS 60
#define DETAIL_MAX 512u
#define BOOT_ID "/proc/sys/kernel/random/boot_id"

/* Kept in the state directory, so that one directory has one hash through all of the log. */
static int load_key(int statedir, uint8_t key[static LFS_KEY_BYTES])
{
    AUTO_CLOSE int fd = openat(statedir, "audit.key", O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT) {
        randombytes_buf(key, LFS_KEY_BYTES);
        return io_replace_file(statedir, "audit.key", key, LFS_KEY_BYTES, 0600);
    }
    if (fd < 0)
        return -errno;
    ssize_t n = io_pread(fd, key, LFS_KEY_BYTES, 0);
    return n < 0 ? (int)n : n == LFS_KEY_BYTES ? 0 : LFS_ERR_CORRUPT;
}

/* Tells a machine that was started anew from a program that was. */
static void load_boot(uint8_t boot[static AUDIT_BOOT_BYTES])
{
    char text[64];
    size_t got;
    AUTO_CLOSE int fd = open(BOOT_ID, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (n < 0 || sodium_hex2bin(boot, AUDIT_BOOT_BYTES, text, (size_t)n, "-\n", &got, NULL) ||
        got != AUDIT_BOOT_BYTES)
        memset(boot, 0, AUDIT_BOOT_BYTES);
}

int audit_open(int statedir, const char *path, struct audit **out)
{
    struct audit *a = locked_alloc(sizeof *a);
    if (!a)
        return -ENOMEM;
    a->dir = a->fd = a->state_fd = -1;
    a->statedir = statedir;
    load_boot(a->boot);
    int r = load_key(statedir, a->name_key);
    if (!r)
        r = audit_file_open(a, path);
    if (r) {
        audit_free(a);
        return r;
    }
    audit_notes_flush(a);
    *out = a;
    return 0;
}

void audit_free(struct audit *a)
{
    if (!a)
        return;
    int fds[] = {a->dir, a->fd, a->state_fd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    locked_free(a);
}

/* ---- acts ---- */

/* What /proc says now; a peer may have replaced itself meanwhile, so this is a hint for people. */
static void put_peer(struct json *j, const struct ucred *peer)
{
    char exe[PEER_EXE_MAX];
    json_number(j, "uid", peer->uid);
    json_number(j, "pid", (uint64_t)peer->pid);
    peer_exe(peer->pid, exe, sizeof exe);
    if (exe[0])
        json_string(j, "exe", exe);
}

static void put_dir(const struct audit *a, struct json *j, const uint8_t *pd_id)
{
    uint8_t hash[16];
    char hex[2 * sizeof hash + 1];
    crypto_generichash(hash, sizeof hash, pd_id, ID_BYTES, a->name_key, sizeof a->name_key);
    sodium_bin2hex(hex, sizeof hex, hash, sizeof hash);
    json_string(j, "directory", hex);
}

static int write_act(struct audit *a, const struct audit_act *act, int result, bool own, bool sync)
{
    struct json j = {0};
    char hex[2 * ID_BYTES + 1], detail[DETAIL_MAX];
    audit_record_begin(a, &j);
    if (act->peer)
        put_peer(&j, act->peer);
    json_string(&j, "act", act->act);
    if (act->event)
        json_string(&j, "event", act->event);
    if (act->volume_id) {
        id_to_hex(act->volume_id, hex);
        json_string(&j, "volume", hex);
    }
    if (act->pd_id)
        put_dir(a, &j, act->pd_id);
    json_string(&j, "result", result ? lfs_strerror(result) : "ok");
    if (act->detail && act->detail[0]) {
        snprintf(detail, sizeof detail, "%s", act->detail);
        json_string(&j, "detail", detail);
    }
    return audit_record_end(a, &j, own, sync);
}

/* The file fits our state again, or an error. */
static int look_after(struct audit *a)
{
    int r = audit_file_changed(a) ? audit_file_reopen(a) : 0;
    if (!r && audit_file_changed(a))
        r = audit_recover(a);
    if (!r)
        audit_notes_flush(a);
    return r;
}

static void report_unwritten(struct audit *a)
{
    char detail[80];
    uint64_t n = a->st.unwritten;
    if (n == 0 || audit_is_full(a))
        return;
    snprintf(detail, sizeof detail, "%" PRIu64 " records, while the log could not be written", n);
    a->st.unwritten = 0;
    if (write_act(a, &(struct audit_act){.act = "not-logged", .detail = detail}, 0, true, false))
        a->st.unwritten = n;
}

/* The record stands there, but may not last, and the act is refused: the log must not say otherwise. */
static void note_unsynced(struct audit *a, uint64_t seq)
{
    struct audit_note n = {0};
    snprintf(n.text, sizeof n.text,
             "record %" PRIu64 " could not be synced: if it needs that, it was not done", seq);
    audit_note_add(a, n);
}

int audit_write(struct audit *a, const struct audit_act *act, bool sync)
{
    int r = look_after(a);
    if (!r)
        report_unwritten(a);
    if (!r)
        audit_refusals_report(a, time(NULL));
    uint64_t seq = a->st.seq;
    bool refuse = sync && act->peer && act->result == 0 && !r && audit_is_full(a);
    if (!r)
        r = write_act(a, act, refuse ? -ENOSPC : act->result, refuse, sync);
    if (!r)
        return refuse ? -ENOSPC : 0;
    if (a->st.seq > seq) {
        note_unsynced(a, seq);
        return r;
    }
    a->st.unwritten++;
    audit_state_store(a->state_fd, &a->st); /* the count outlives us, if it can be written */
    return r;
}

/* ---- acts of strangers ---- */

static void report_dropped(struct audit *a)
{
    char detail[64];
    if (a->dropped == 0)
        return;
    snprintf(detail, sizeof detail, "%u more lines of the last minute", a->dropped);
    a->dropped = 0;
    audit_write(a, &(struct audit_act){.act = "not-logged", .detail = detail}, false);
}

void audit_noise(struct audit *a, const struct audit_act *act)
{
    time_t now = time(NULL);
    if (now < a->noise_since || now - a->noise_since >= NOISE_SECONDS) {
        report_dropped(a);
        a->noise_since = now;
        a->noise = 0;
    }
    if (a->noise++ < NOISE_LINES)
        audit_write(a, act, false);
    else
        a->dropped++;
}

/* ---- for auditors ---- */

int audit_read(struct audit *a, uint64_t from, char *buf, size_t size)
{
    if (from > INT64_MAX || size > INT32_MAX)
        return LFS_ERR_MISUSE;
    return (int)io_pread(a->fd, buf, size, from);
}

int audit_head_json(struct audit *a, char **json)
{
    struct json j = {0};
    char hex[2 * AUDIT_HASH_BYTES + 1];
    json_open(&j, NULL, '{');
    json_string(&j, "chain", sodium_bin2hex(hex, sizeof hex, a->st.chain, sizeof a->st.chain));
    json_number(&j, "seq", a->st.seq - 1);
    json_string(&j, "hash", sodium_bin2hex(hex, sizeof hex, a->st.hash, sizeof a->st.hash));
    audit_put_time(&j);
    json_number(&j, "offset", a->st.offset);
    json_bool(&j, "enrolled", !audit_first_key_there(a));
    json_close(&j, '}');
    if (j.bad) {
        json_clear(&j);
        return -ENOMEM;
    }
    *json = j.p;
    return 0;
}

int audit_enroll(struct audit *a, struct secret **key)
{
    return audit_first_key(a, key);
}

void audit_counts(const struct audit *a, struct audit_counts *out)
{
    *out = (struct audit_counts){.records = a->st.seq - 1,
                                 .failures = a->failures,
                                 .trouble = a->trouble,
                                 .in_reserve = a->in_reserve};
}

void audit_watch(struct audit *a, void (*fn)(void *arg, const char *what), void *arg)
{
    a->watch = fn;
    a->watch_arg = arg;
    audit_notes_flush(a);
}
