#include "latchfs/mountctl.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define DEADLINE_S 5
#define FLAG_LOCKED 1u
#define FLAG_READ_ONLY 2u
#define FLAG_FAILED 4u
#define FLAG_WRITEBACK 8u
#define FLAGS_ALL 15u

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

/* ---- codec ---- */

static void put_string(struct wcur *w, const char *s)
{
    size_t len = strlen(s);
    wcur_u16(w, (uint16_t)len);
    wcur_bytes(w, s, len);
}

static void get_string(struct rcur *r, char *out, size_t size)
{
    size_t len = rcur_u16(r);
    if (len >= size)
        r->bad = true;
    rcur_bytes(r, out, r->bad ? 0 : len);
    out[r->bad ? 0 : len] = '\0';
    if (strlen(out) != len)
        r->bad = true;
}

static uint32_t flags_of(const struct mount_status *st)
{
    return (st->locked ? FLAG_LOCKED : 0) | (st->read_only ? FLAG_READ_ONLY : 0) |
           (st->failed ? FLAG_FAILED : 0) | (st->writeback ? FLAG_WRITEBACK : 0);
}

int mountctl_encode_status(const struct mount_status *st, uint8_t *out, size_t size)
{
    struct wcur w = wcur_over(out, size);
    const struct volume_stats *v = &st->stats;
    const uint64_t numbers[] = {v->nodes,        v->open_fds,      v->pinned_fds,  v->journal_bytes,
                                v->journal_used, v->auth_failures, v->checkpoints, v->journal_syncs,
                                st->open_files,  st->writes};
    wcur_u16(&w, MOUNTCTL_VERSION);
    wcur_u16(&w, MOUNTCTL_STATUS);
    wcur_u32(&w, 0);
    wcur_bytes(&w, st->volume_id, ID_BYTES);
    wcur_u32(&w, st->pid);
    wcur_u32(&w, flags_of(st));
    wcur_u64(&w, st->mounted_at);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        wcur_u64(&w, numbers[i]);
    wcur_u8(&w, st->replay.unclean);
    wcur_u64(&w, st->replay.entries);
    wcur_u64(&w, st->replay.files);
    wcur_u64(&w, st->replay.skipped);
    wcur_u64(&w, st->replay.torn);
    put_string(&w, st->volume);
    put_string(&w, st->mountpoint);
    return w.bad ? LFS_ERR_MISUSE : (int)wcur_used(&w);
}

static void get_body(struct rcur *r, struct mount_status *st)
{
    struct volume_stats *v = &st->stats;
    uint64_t *const numbers[] = {&v->nodes,        &v->open_fds,      &v->pinned_fds,  &v->journal_bytes,
                                 &v->journal_used, &v->auth_failures, &v->checkpoints, &v->journal_syncs,
                                 &st->open_files,  &st->writes};
    rcur_bytes(r, st->volume_id, ID_BYTES);
    st->pid = rcur_u32(r);
    uint32_t flags = rcur_u32(r);
    st->locked = flags & FLAG_LOCKED;
    st->read_only = flags & FLAG_READ_ONLY;
    st->failed = flags & FLAG_FAILED;
    st->writeback = flags & FLAG_WRITEBACK;
    st->mounted_at = rcur_u64(r);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        *numbers[i] = rcur_u64(r);
    uint8_t unclean = rcur_u8(r);
    st->replay.unclean = unclean;
    st->replay.entries = rcur_u64(r);
    st->replay.files = rcur_u64(r);
    st->replay.skipped = rcur_u64(r);
    st->replay.torn = rcur_u64(r);
    get_string(r, st->volume, sizeof st->volume);
    get_string(r, st->mountpoint, sizeof st->mountpoint);
    if (unclean > 1 || (flags & ~FLAGS_ALL))
        r->bad = true;
}

int mountctl_decode_status(const uint8_t *in, size_t len, struct mount_status *out)
{
    AUTO_FREE struct mount_status *st = calloc(1, sizeof *st);
    if (!st)
        return -ENOMEM;
    struct rcur r = rcur_over(in, len);
    uint16_t version = rcur_u16(&r), kind = rcur_u16(&r);
    int32_t error = (int32_t)rcur_u32(&r);
    if (r.bad || version != MOUNTCTL_VERSION || kind != MOUNTCTL_STATUS || error > 0)
        return LFS_ERR_PROTO;
    if (error)
        return error;
    get_body(&r, st);
    if (!rcur_done(&r))
        return LFS_ERR_PROTO;
    *out = *st;
    return 0;
}

/* ---- client ---- */

static int connect_to(const char *path, int *out)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct timeval deadline = {.tv_sec = DEADLINE_S};
    struct ucred peer;
    socklen_t len = sizeof peer;
    if (strlen(path) >= sizeof a.sun_path)
        return -ENAMETOOLONG;
    strcpy(a.sun_path, path);
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

int mountctl_status(const char *socket_path, struct mount_status *out)
{
    AUTO_CLOSE int fd = -1;
    uint8_t ask[MOUNTCTL_REQUEST_BYTES], answer[MOUNTCTL_ANSWER_MAX];
    struct wcur w = wcur_over(ask, sizeof ask);
    wcur_u16(&w, MOUNTCTL_VERSION);
    wcur_u16(&w, MOUNTCTL_STATUS);
    int r = connect_to(socket_path, &fd);
    if (r)
        return r;
    ssize_t n = send(fd, ask, sizeof ask, MSG_NOSIGNAL);
    if (n >= 0)
        n = recv(fd, answer, sizeof answer, MSG_TRUNC);
    if (n < 0)
        return errno == EAGAIN ? LFS_ERR_TIMEOUT : -errno;
    if ((size_t)n > sizeof answer)
        return LFS_ERR_PROTO;
    return mountctl_decode_status(answer, (size_t)n, out);
}

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
