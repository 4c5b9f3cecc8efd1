#include "fs/mount/control.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/keystore.h"
#include "latchfs/mountctl.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PEER_DEADLINE_MS 2000

struct control {
    struct daemon *d;
    struct sockaddr_un at;
    int listener, stop;
    pthread_t thread;
    bool running;
};

/* ---- answers ---- */

static int answer_status(const struct daemon *d, uint8_t *out, size_t size)
{
    AUTO_FREE struct mount_status *st = calloc(1, sizeof *st);
    if (!st)
        return -ENOMEM;
    memcpy(st->volume_id, d->volume_id, ID_BYTES);
    st->pid = (uint32_t)getpid();
    st->locked = volume_is_locked(d->vol);
    st->failed = volume_is_readonly(d->vol) && !d->read_only;
    st->read_only = volume_is_readonly(d->vol) || d->read_only;
    st->writeback = d->writeback;
    st->mounted_at = (uint64_t)d->since;
    st->open_files = atomic_load(&d->open_files);
    st->writes = atomic_load(&d->writes);
    st->replay = d->replay;
    volume_stats(d->vol, &st->stats);
    strcpy(st->volume, d->volume_path);
    strcpy(st->mountpoint, d->mountpoint);
    return mountctl_encode_status(st, out, size);
}

static const struct {
    uint16_t kind;
    int (*answer)(const struct daemon *d, uint8_t *out, size_t size); /* length or an error */
} requests[] = {
    {MOUNTCTL_STATUS, answer_status},
};

static size_t answer_error(uint16_t kind, int err, uint8_t *out, size_t size)
{
    struct wcur w = wcur_over(out, size);
    wcur_u16(&w, MOUNTCTL_VERSION);
    wcur_u16(&w, kind);
    wcur_u32(&w, (uint32_t)err);
    return wcur_used(&w);
}

static size_t answer(const struct daemon *d, uint16_t version, uint16_t kind, uint8_t *out, size_t size)
{
    int n = LFS_ERR_UNSUPPORTED;
    for (size_t i = 0; version == MOUNTCTL_VERSION && i < sizeof requests / sizeof requests[0]; i++)
        if (requests[i].kind == kind)
            n = requests[i].answer(d, out, size);
    return n < 0 ? answer_error(kind, n, out, size) : (size_t)n;
}

/* ---- peers ---- */

static bool peer_may(int fd)
{
    struct ucred peer;
    socklen_t len = sizeof peer;
    return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) && (peer.uid == 0 || peer.uid == getuid());
}

/* One request. A peer that is slow, not allowed or out of line is left. */
static void serve_peer(const struct control *c, int fd)
{
    uint8_t in[MOUNTCTL_REQUEST_BYTES], out[MOUNTCTL_ANSWER_MAX];
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (!peer_may(fd) || poll(&p, 1, PEER_DEADLINE_MS) != 1)
        return;
    ssize_t n = recv(fd, in, sizeof in, MSG_TRUNC | MSG_DONTWAIT);
    if (n != (ssize_t)sizeof in)
        return;
    struct rcur r = rcur_over(in, sizeof in);
    uint16_t version = rcur_u16(&r), kind = rcur_u16(&r);
    send(fd, out, answer(c->d, version, kind, out, sizeof out), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void *run(void *arg)
{
    const struct control *c = arg;
    for (;;) {
        struct pollfd p[2] = {{.fd = c->stop, .events = POLLIN}, {.fd = c->listener, .events = POLLIN}};
        poll(p, 2, -1);
        if (p[0].revents)
            return NULL;
        AUTO_CLOSE int fd = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            serve_peer(c, fd);
    }
}

/* ---- set up ---- */

/* Makes dir 0700; what stands there already must be ours alone. */
static int own_directory(const char *dir)
{
    struct stat st;
    if (mkdir(dir, 0700) && errno != EEXIST)
        return -errno;
    if (lstat(dir, &st))
        return -errno;
    return S_ISDIR(st.st_mode) && st.st_uid == geteuid() && !(st.st_mode & 022) ? 0 : -EACCES;
}

static int make_directories(char *dir)
{
    char *last = strrchr(dir, '/');
    *last = '\0';
    int r = own_directory(dir);
    *last = '/';
    return r ? r : own_directory(dir);
}

static int socket_address(const struct daemon *d, struct sockaddr_un *a)
{
    char dir[PATH_MAX], id[2 * ID_BYTES + 1];
    int r = mountctl_dir(dir, sizeof dir);
    if (!r)
        r = make_directories(dir);
    if (r)
        return r;
    id_to_hex(d->volume_id, id);
    a->sun_family = AF_UNIX;
    int n = snprintf(a->sun_path, sizeof a->sun_path, "%s/%s.%d.sock", dir, id, (int)getpid());
    return n < 0 || (size_t)n >= sizeof a->sun_path ? -ENAMETOOLONG : 0;
}

static int listen_at(struct control *c)
{
    int r = socket_address(c->d, &c->at);
    if (r)
        return r;
    /* Without its suffix until it listens: a client removes sockets that refuse it. */
    struct sockaddr_un fresh = c->at;
    fresh.sun_path[strlen(fresh.sun_path) - strlen(".sock")] = '\0';
    unlink(fresh.sun_path);
    c->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->listener < 0 || fchmod(c->listener, 0600) ||
        bind(c->listener, (const struct sockaddr *)&fresh, sizeof fresh) || listen(c->listener, 16) ||
        rename(fresh.sun_path, c->at.sun_path))
        return -errno;
    return 0;
}

int control_start(struct daemon *d, struct control **out)
{
    struct control *c = calloc(1, sizeof *c);
    if (!c)
        return -ENOMEM;
    *c = (struct control){.d = d, .listener = -1, .stop = eventfd(0, EFD_CLOEXEC)};
    int r = c->stop < 0 ? -errno : listen_at(c);
    if (!r)
        r = -pthread_create(&c->thread, NULL, run, c);
    c->running = !r;
    if (r) {
        control_free(c);
        return r;
    }
    *out = c;
    return 0;
}

void control_free(struct control *c)
{
    if (!c)
        return;
    if (c->running) {
        eventfd_write(c->stop, 1);
        pthread_join(c->thread, NULL);
        unlink(c->at.sun_path);
    }
    lfs_close_fd(&c->listener);
    lfs_close_fd(&c->stop);
    free(c);
}
