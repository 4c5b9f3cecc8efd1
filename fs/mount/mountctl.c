#include "latchfs/mountctl.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define STATUS_DEADLINE_S 5
#define DEADLINE_S 30
#define FREEZE_DEADLINE_S 600

int mountctl_dir(char *path, size_t size)
{
    const char *run = getenv("XDG_RUNTIME_DIR");
    int n;
    if (geteuid() == 0)
        n = snprintf(path, size, "/run/latchfs/mounts");
    else if (run && run[0] == '/')
        n = snprintf(path, size, "%s/latchfs/mounts", run);
    else
        n = snprintf(path, size, "/tmp/latchfs-%u/mounts", geteuid());
    return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

int mountctl_address(const char *path, struct sockaddr_un *out, int *dir)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    char place[PATH_MAX];
    const char *name = strrchr(path, '/');
    AUTO_CLOSE int fd = -1;
    int n = snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    if (n >= (int)sizeof a.sun_path) {
        if (!name || name - path >= (int)sizeof place)
            return -ENAMETOOLONG;
        snprintf(place, sizeof place, "%.*s", (int)(name - path), path);
        fd = open(place, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
            return -errno;
        n = snprintf(a.sun_path, sizeof a.sun_path, "/proc/self/fd/%d%s", fd, name);
    }
    if (n < 0 || n >= (int)sizeof a.sun_path)
        return -ENAMETOOLONG;
    *out = a;
    *dir = fd;
    fd = -1;
    return 0;
}

/* ---- client ---- */

static int connect_to(const char *path, int deadline_s, int *out)
{
    struct sockaddr_un a;
    struct timeval deadline = {.tv_sec = deadline_s};
    struct ucred peer;
    socklen_t len = sizeof peer;
    AUTO_CLOSE int dir = -1;
    int r = mountctl_address(path, &a, &dir);
    if (r)
        return r;
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof deadline) ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &deadline, sizeof deadline) ||
        connect(fd, (const struct sockaddr *)&a, sizeof a) ||
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len))
        return errno == EAGAIN ? LFS_ERR_TIMEOUT : -errno;
    if (peer.uid != geteuid() && peer.uid != 0)
        return LFS_ERR_DENIED;
    *out = fd;
    fd = -1;
    return 0;
}

/* Sends a request; answer gets what came back, as it came. Returns its length. */
static int ask(const char *socket_path, const struct mountctl_request *q, int deadline_s,
               uint8_t answer[static MOUNTCTL_ANSWER_MAX])
{
    AUTO_CLOSE int fd = -1;
    uint8_t bytes[MOUNTCTL_REQUEST_MAX];
    int len = mountctl_encode_request(q, bytes, sizeof bytes);
    int r = len < 0 ? len : connect_to(socket_path, deadline_s, &fd);
    if (r < 0)
        return r;
    ssize_t n = send(fd, bytes, (size_t)len, MSG_NOSIGNAL);
    if (n >= 0)
        n = recv(fd, answer, MOUNTCTL_ANSWER_MAX, MSG_TRUNC);
    if (n < 0)
        return errno == EAGAIN ? LFS_ERR_TIMEOUT : -errno;
    return (size_t)n > MOUNTCTL_ANSWER_MAX ? LFS_ERR_PROTO : (int)n;
}

static int ask_plain(const char *socket_path, const struct mountctl_request *q)
{
    uint8_t answer[MOUNTCTL_ANSWER_MAX];
    int n = ask(socket_path, q, DEADLINE_S, answer);
    return n < 0 ? n : mountctl_decode_plain(q->kind, answer, (size_t)n);
}

static int set_path(char out[static PATH_MAX], const char *path)
{
    if (strlen(path) >= PATH_MAX)
        return -ENAMETOOLONG;
    strcpy(out, path);
    return 0;
}

int mountctl_status(const char *socket_path, struct mount_status *out)
{
    const struct mountctl_request q = {.kind = MOUNTCTL_STATUS};
    uint8_t answer[MOUNTCTL_ANSWER_MAX];
    int n = ask(socket_path, &q, STATUS_DEADLINE_S, answer);
    return n < 0 ? n : mountctl_decode_status(answer, (size_t)n, out);
}

int mountctl_resolve(const char *socket_path, const char *path, struct mount_resolved *out)
{
    struct mountctl_request q = {.kind = MOUNTCTL_RESOLVE};
    uint8_t answer[MOUNTCTL_ANSWER_MAX];
    int n = set_path(q.path, path);
    if (!n)
        n = ask(socket_path, &q, DEADLINE_S, answer);
    return n < 0 ? n : mountctl_decode_resolved(answer, (size_t)n, out);
}

int mountctl_protect(const char *socket_path, const char *path, const uint8_t pd_id[static ID_BYTES])
{
    struct mountctl_request q = {.kind = MOUNTCTL_PROTECT};
    memcpy(q.pd_id, pd_id, ID_BYTES);
    int r = set_path(q.path, path);
    return r ? r : ask_plain(socket_path, &q);
}

int mountctl_dirs(const char *socket_path, struct mount_dir *out, size_t room, size_t *count)
{
    const struct mountctl_request q = {.kind = MOUNTCTL_DIRS};
    uint8_t answer[MOUNTCTL_ANSWER_MAX];
    int n = ask(socket_path, &q, DEADLINE_S, answer);
    return n < 0 ? n : mountctl_decode_dirs(answer, (size_t)n, out, room, count);
}

int mountctl_job_start(const char *socket_path, enum mount_job job, const uint8_t pd_id[static ID_BYTES],
                       uint64_t bytes_per_second, uint32_t version)
{
    struct mountctl_request q = {.kind = MOUNTCTL_JOB_START,
                                 .job = (uint8_t)job,
                                 .bytes_per_second = bytes_per_second,
                                 .version = version};
    memcpy(q.pd_id, pd_id, ID_BYTES);
    return ask_plain(socket_path, &q);
}

int mountctl_job_status(const char *socket_path, struct mount_job_status *out)
{
    const struct mountctl_request q = {.kind = MOUNTCTL_JOB_STATUS};
    uint8_t answer[MOUNTCTL_ANSWER_MAX];
    int n = ask(socket_path, &q, DEADLINE_S, answer);
    return n < 0 ? n : mountctl_decode_job(answer, (size_t)n, out);
}

int mountctl_job_stop(const char *socket_path)
{
    const struct mountctl_request q = {.kind = MOUNTCTL_JOB_STOP};
    return ask_plain(socket_path, &q);
}

/* ---- freezes, paths, checks ---- */

int mountctl_freeze(const char *socket_path, unsigned seconds, uint64_t *serial)
{
    const struct mountctl_request q = {.kind = MOUNTCTL_FREEZE, .seconds = seconds};
    uint8_t answer[MOUNTCTL_ANSWER_MAX];
    int n = ask(socket_path, &q, FREEZE_DEADLINE_S, answer);
    return n < 0 ? n : mountctl_decode_serial(answer, (size_t)n, serial);
}

int mountctl_thaw(const char *socket_path, uint64_t serial)
{
    const struct mountctl_request q = {.kind = MOUNTCTL_THAW, .number = serial};
    return ask_plain(socket_path, &q);
}

static int ask_path(const char *socket_path, uint16_t kind, const char *path, char *out)
{
    struct mountctl_request q = {.kind = kind};
    uint8_t answer[MOUNTCTL_ANSWER_MAX];
    int n = set_path(q.path, path);
    if (!n)
        n = ask(socket_path, &q, DEADLINE_S, answer);
    return n < 0 ? n : mountctl_decode_path(kind, answer, (size_t)n, out);
}

int mountctl_cipher_path(const char *socket_path, const char *plain, char *out)
{
    return ask_path(socket_path, MOUNTCTL_CIPHER_PATH, plain, out);
}

int mountctl_plain_path(const char *socket_path, const char *cipher, char *out)
{
    return ask_path(socket_path, MOUNTCTL_PLAIN_PATH, cipher, out);
}

int mountctl_check_start(const char *socket_path, const struct mount_check *c)
{
    struct mountctl_request q = {
        .kind = MOUNTCTL_CHECK_START, .workers = c->workers, .bytes_per_second = c->bytes_per_second};
    int r = c->flags & ~(unsigned)CHECK_CONTENTS ? LFS_ERR_MISUSE : 0;
    q.flags = (uint8_t)c->flags;
    if (!r)
        r = set_path(q.path, c->subtree ? c->subtree : "");
    if (!r)
        r = set_path(q.resume, c->resume ? c->resume : "");
    return r ? r : ask_plain(socket_path, &q);
}

int mountctl_check_status(const char *socket_path, struct mount_check_status *out)
{
    const struct mountctl_request q = {.kind = MOUNTCTL_CHECK_STATUS};
    uint8_t answer[MOUNTCTL_ANSWER_MAX];
    int n = ask(socket_path, &q, DEADLINE_S, answer);
    return n < 0 ? n : mountctl_decode_check(answer, (size_t)n, out);
}

int mountctl_check_findings(const char *socket_path, uint64_t after, struct mount_findings *out)
{
    const struct mountctl_request q = {.kind = MOUNTCTL_CHECK_FINDINGS, .number = after};
    uint8_t answer[MOUNTCTL_ANSWER_MAX];
    int n = ask(socket_path, &q, DEADLINE_S, answer);
    return n < 0 ? n : mountctl_decode_findings(answer, (size_t)n, out);
}

int mountctl_check_stop(const char *socket_path)
{
    const struct mountctl_request q = {.kind = MOUNTCTL_CHECK_STOP};
    return ask_plain(socket_path, &q);
}

/* ---- all mounts ---- */

static bool is_socket_name(const char *name)
{
    size_t len = strlen(name);
    return len > 5 && strcmp(name + len - 5, ".sock") == 0;
}

/* dir and its parent belong to this user, and nobody else may write there. */
static bool is_own_directory(const char *dir)
{
    char parent[PATH_MAX];
    struct stat st;
    snprintf(parent, sizeof parent, "%s", dir);
    *strrchr(parent, '/') = '\0';
    const char *both[] = {parent, dir};
    for (int i = 0; i < 2; i++)
        if (lstat(both[i], &st) || !S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022))
            return false;
    return true;
}

int mountctl_each(int (*fn)(const char *socket_path, const struct mount_status *st, void *arg), void *arg)
{
    char dir[PATH_MAX], path[PATH_MAX + NAME_MAX + 2];
    AUTO_FREE struct mount_status *st = malloc(sizeof *st);
    struct stat file;
    int r = st ? mountctl_dir(dir, sizeof dir) : -ENOMEM;
    if (r)
        return r;
    if (!is_own_directory(dir))
        return 0; /* no mount of ours made its socket there */
    DIR *d = opendir(dir);
    if (!d)
        return errno == ENOENT ? 0 : -errno;
    for (const struct dirent *e; !r && (e = readdir(d));) {
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        int got = is_socket_name(e->d_name) ? mountctl_status(path, st) : LFS_ERR_PROTO;
        if (!got)
            r = fn(path, st, arg);
        else if (got == -ECONNREFUSED && lstat(path, &file) == 0 && S_ISSOCK(file.st_mode))
            unlink(path); /* of a mount that was killed */
    }
    closedir(d);
    return r;
}
