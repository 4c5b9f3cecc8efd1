#include "audit.h"

#include "json.h"
#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/io.h"
#include "latchfs/keystore.h"
#include "latchfs/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NOISE_LINES 10
#define NOISE_SECONDS 60

struct audit {
    int fd;
    uint8_t name_key[LFS_KEY_BYTES]; /* of the keyed hash of directory ids */
    time_t noise_since;
    unsigned noise, dropped;
};

/* Kept in the state directory, so that one directory has one hash through all of the log. */
static int load_key(int statedir, uint8_t key[static LFS_KEY_BYTES])
{
    AUTO_FREE char *data = NULL;
    size_t len;
    int r = io_read_file(statedir, "audit.key", LFS_KEY_BYTES, &data, &len);
    if (r == -ENOENT) {
        randombytes_buf(key, LFS_KEY_BYTES);
        return io_replace_file(statedir, "audit.key", key, LFS_KEY_BYTES, 0600);
    }
    if (r || len != LFS_KEY_BYTES)
        return r ? r : LFS_ERR_CORRUPT;
    memcpy(key, data, LFS_KEY_BYTES);
    return 0;
}

int audit_open(int statedir, const char *path, struct audit **out)
{
    struct stat st;
    AUTO_CLOSE int fd = openat(statedir, path[0] ? path : "audit.log",
                               O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (fd < 0 || fstat(fd, &st))
        return -errno;
    if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_mode & 022)
        return LFS_ERR_DENIED;
    struct audit *a = calloc(1, sizeof *a);
    if (!a)
        return -ENOMEM;
    int r = load_key(statedir, a->name_key);
    if (r) {
        free(a);
        return r;
    }
    a->fd = fd;
    fd = -1;
    *out = a;
    return 0;
}

void audit_free(struct audit *a)
{
    if (!a)
        return;
    close(a->fd);
    free(a);
}

static void put_time(struct json *j)
{
    struct timespec now;
    struct tm tm;
    char text[64], whole[32];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    strftime(whole, sizeof whole, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text, sizeof text, "%s.%03uZ", whole, (unsigned)(now.tv_nsec / 1000000) % 1000);
    json_string(j, "time", text);
}

/* What /proc says now; a peer may have replaced itself meanwhile, so this is a hint for people. */
static void put_peer(struct json *j, const struct ucred *peer)
{
    char link[64], exe[1024];
    json_number(j, "uid", peer->uid);
    json_number(j, "pid", (uint64_t)peer->pid);
    snprintf(link, sizeof link, "/proc/%d/exe", (int)peer->pid);
    ssize_t n = readlink(link, exe, sizeof exe - 1);
    exe[n > 0 ? n : 0] = '\0';
    if (n > 0)
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

static int append(const struct audit *a, struct json *j)
{
    json_close(j, '}');
    json_raw(j, "\n");
    if (j->bad)
        return -ENOMEM;
    off_t end = lseek(a->fd, 0, SEEK_END);
    ssize_t n = write(a->fd, j->p, j->len);
    if (n == (ssize_t)j->len)
        return 0;
    int err = n < 0 ? -errno : -ENOSPC;
    /* No half line before the next record. */
    if (n > 0 && end >= 0 && ftruncate(a->fd, end))
        return -errno;
    return err;
}

int audit_write(struct audit *a, const struct audit_act *act, bool sync)
{
    struct json j = {0};
    char hex[2 * ID_BYTES + 1];
    json_open(&j, NULL, '{');
    put_time(&j);
    if (act->peer)
        put_peer(&j, act->peer);
    json_string(&j, "act", act->act);
    if (act->volume_id) {
        id_to_hex(act->volume_id, hex);
        json_string(&j, "volume", hex);
    }
    if (act->pd_id)
        put_dir(a, &j, act->pd_id);
    json_string(&j, "result", act->result ? lfs_strerror(act->result) : "ok");
    if (act->detail && act->detail[0])
        json_string(&j, "detail", act->detail);
    int r = append(a, &j);
    json_clear(&j);
    if (!r && sync && fdatasync(a->fd))
        r = -errno;
    return r;
}

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
