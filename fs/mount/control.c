#include "fs/mount/control.h"

#include "fs/mount/control_check.h"
#include "fs/mount/control_dirs.h"
#include "fs/mount/control_jobs.h"
#include "fs/mount/control_path.h"
#include "fs/mount/freezer.h"
#include "fs/mount/open_files.h"
#include "fs/mount/wipe.h"
#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/keystore.h"
#include "latchfs/mountctl.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PEER_DEADLINE_MS 2000
#define THREADS 3 /* one may be waiting for latch-keyd, one freeze, while another tells the status */

struct control {
    struct daemon *d;
    char path[PATH_MAX]; /* of its socket */
    int listener, stop;  /* both stay readable until a thread has taken what is there */
    pthread_t threads[THREADS];
    unsigned running;
    bool bound;
};

/* ---- answers ---- */

/* An answer's bytes: length, or an error to be answered instead. */
typedef int answer_fn(struct daemon *d, const struct mountctl_request *q, uint8_t *out, size_t size);

static int answer_status(struct daemon *d, const struct mountctl_request *q, uint8_t *out, size_t size)
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
    st->open_files = open_files_now(d, NULL);
    st->writes = atomic_load(&d->writes);
    st->frozen_until = freezer_until(d->freezer);
    st->replay = d->replay;
    volume_stats(d->vol, &st->stats);
    strcpy(st->volume, d->volume_path);
    strcpy(st->mountpoint, d->mountpoint);
    return mountctl_encode_status(st, out, size);
}

static int answer_resolve(struct daemon *d, const struct mountctl_request *q, uint8_t *out, size_t size)
{
    struct mount_resolved m;
    int r = control_resolve(d, q->path, &m);
    return r ? r : mountctl_encode_resolved(&m, out, size);
}

static int answer_protect(struct daemon *d, const struct mountctl_request *q, uint8_t *out, size_t size)
{
    int r = control_protect(d, q->path, q->pd_id);
    return r ? r : mountctl_encode_plain(q->kind, 0, out, size);
}

static int answer_dirs(struct daemon *d, const struct mountctl_request *q, uint8_t *out, size_t size)
{
    AUTO_FREE struct mount_dir *dirs = calloc(MOUNTCTL_DIRS_MAX, sizeof *dirs);
    return dirs ? mountctl_encode_dirs(dirs, control_dirs(d, dirs, MOUNTCTL_DIRS_MAX), out, size) : -ENOMEM;
}

static int answer_job_start(struct daemon *d, const struct mountctl_request *q, uint8_t *out, size_t size)
{
    int r = jobs_start(d->jobs, q->job, q->pd_id, q->bytes_per_second, q->version);
    return r ? r : mountctl_encode_plain(q->kind, 0, out, size);
}

static int answer_job_status(struct daemon *d, const struct mountctl_request *q, uint8_t *out, size_t size)
{
    struct mount_job_status st;
    jobs_status(d->jobs, &st);
    return mountctl_encode_job(&st, out, size);
}

static int answer_job_stop(struct daemon *d, const struct mountctl_request *q, uint8_t *out, size_t size)
{
    jobs_stop(d->jobs);
    return mountctl_encode_plain(q->kind, 0, out, size);
}

static int answer_freeze(struct daemon *d, const struct mountctl_request *q, uint8_t *out, size_t size)
{
    uint64_t serial;
    int r = freezer_freeze(d->freezer, q->seconds, &serial);
    return r ? r : mountctl_encode_serial(serial, out, size);
}

static int answer_thaw(struct daemon *d, const struct mountctl_request *q, uint8_t *out, size_t size)
{
    int r = freezer_thaw(d->freezer, q->number);
    return r ? r : mountctl_encode_plain(q->kind, 0, out, size);
}

static int answer_path(struct daemon *d, const struct mountctl_request *q, uint8_t *out, size_t size)
{
    char path[PATH_MAX];
    int r = q->kind == MOUNTCTL_CIPHER_PATH ? control_cipher_path(d, q->path, path)
                                            : control_plain_path(d, q->path, path);
    if (!r)
        r = mountctl_encode_path(q->kind, path, out, size);
    sodium_memzero(path, sizeof path);
    return r;
}

static int answer_check_start(struct daemon *d, const struct mountctl_request *q, uint8_t *out, size_t size)
{
    char subtree[PATH_MAX];
    int r = volume_is_locked(d->vol) ? LFS_ERR_NOKEY : control_cipher_path(d, q->path, subtree);
    if (!r)
        r = checks_start(d->checks, q, subtree);
    return r ? r : mountctl_encode_plain(q->kind, 0, out, size);
}

static int answer_check_status(struct daemon *d, const struct mountctl_request *q, uint8_t *out, size_t size)
{
    struct mount_check_status st;
    checks_status(d->checks, &st);
    return mountctl_encode_check(&st, out, size);
}

static int answer_check_findings(struct daemon *d, const struct mountctl_request *q, uint8_t *out,
                                 size_t size)
{
    return checks_answer_findings(d->checks, q->number, out, size);
}

static int answer_check_stop(struct daemon *d, const struct mountctl_request *q, uint8_t *out, size_t size)
{
    checks_stop(d->checks);
    return mountctl_encode_plain(q->kind, 0, out, size);
}

static const struct {
    uint16_t kind;
    answer_fn *answer;
    bool alone; /* not while other mounts may change the volume */
} kinds[] = {
    {MOUNTCTL_STATUS, answer_status},
    {MOUNTCTL_RESOLVE, answer_resolve},
    {MOUNTCTL_PROTECT, answer_protect, true},
    {MOUNTCTL_DIRS, answer_dirs},
    {MOUNTCTL_JOB_START, answer_job_start, true},
    {MOUNTCTL_JOB_STATUS, answer_job_status},
    {MOUNTCTL_JOB_STOP, answer_job_stop},
    {MOUNTCTL_FREEZE, answer_freeze, true},
    {MOUNTCTL_THAW, answer_thaw},
    {MOUNTCTL_CIPHER_PATH, answer_path},
    {MOUNTCTL_PLAIN_PATH, answer_path},
    {MOUNTCTL_CHECK_START, answer_check_start, true},
    {MOUNTCTL_CHECK_STATUS, answer_check_status},
    {MOUNTCTL_CHECK_FINDINGS, answer_check_findings},
    {MOUNTCTL_CHECK_STOP, answer_check_stop},
};

/* 0: no answer, the connection ends. */
static size_t answer(struct daemon *d, const uint8_t *in, size_t len, uint8_t *out, size_t size)
{
    AUTO_FREE struct mountctl_request *q = calloc(1, sizeof *q);
    int n = q ? mountctl_decode_request(in, len, q) : -ENOMEM;
    if (n && n != LFS_ERR_UNSUPPORTED)
        return 0;
    for (size_t i = 0; !n && i < sizeof kinds / sizeof kinds[0]; i++)
        if (kinds[i].kind == q->kind)
            n = kinds[i].alone && d->shared ? LFS_ERR_SHARED : kinds[i].answer(d, q, out, size);
    if (n <= 0)
        n = mountctl_encode_plain(q->kind, n, out, size);
    sodium_memzero(q, sizeof *q); /* a plaintext path */
    return n > 0 ? (size_t)n : 0;
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
    uint8_t in[MOUNTCTL_REQUEST_MAX], out[MOUNTCTL_ANSWER_MAX];
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (!peer_may(fd) || poll(&p, 1, PEER_DEADLINE_MS) != 1)
        return;
    ssize_t n = recv(fd, in, sizeof in, MSG_TRUNC | MSG_DONTWAIT);
    if (n < 0 || (size_t)n > sizeof in)
        return;
    size_t len = answer(c->d, in, (size_t)n, out, sizeof out);
    if (len > 0)
        send(fd, out, len, MSG_NOSIGNAL | MSG_DONTWAIT);
    sodium_memzero(in, sizeof in);
    sodium_memzero(out, sizeof out);
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
        if (fd < 0)
            continue; /* the other thread was first */
        serve_peer(c, fd);
        wipe_thread(); /* names, and what the store made of them */
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

static int socket_path(const struct daemon *d, char path[static PATH_MAX])
{
    char dir[PATH_MAX], id[2 * ID_BYTES + 1];
    int r = mountctl_dir(dir, sizeof dir);
    if (!r)
        r = make_directories(dir);
    if (r)
        return r;
    id_to_hex(d->volume_id, id);
    int n = snprintf(path, PATH_MAX, "%s/%s.%d.sock", dir, id, (int)getpid());
    return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

static int listen_at(struct control *c)
{
    struct sockaddr_un a;
    char fresh[PATH_MAX];
    AUTO_CLOSE int dir = -1;
    int r = socket_path(c->d, c->path);
    if (r)
        return r;
    /* Without its suffix until it listens: a client removes sockets that refuse it. */
    snprintf(fresh, sizeof fresh, "%.*s", (int)(strlen(c->path) - strlen(".sock")), c->path);
    r = mountctl_address(fresh, &a, &dir);
    if (r)
        return r;
    unlink(fresh);
    c->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->listener < 0 || fchmod(c->listener, 0600) ||
        bind(c->listener, (const struct sockaddr *)&a, sizeof a) || listen(c->listener, 16) ||
        rename(fresh, c->path))
        return -errno;
    c->bound = true;
    return 0;
}

int control_start(struct daemon *d, struct control **out)
{
    struct control *c = calloc(1, sizeof *c);
    if (!c)
        return -ENOMEM;
    *c = (struct control){.d = d, .listener = -1, .stop = eventfd(0, EFD_CLOEXEC)};
    int r = c->stop < 0 ? -errno : listen_at(c);
    while (!r && c->running < THREADS) {
        r = -pthread_create(&c->threads[c->running], NULL, run, c);
        c->running += !r;
    }
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
    if (c->running)
        eventfd_write(c->stop, 1);
    while (c->running)
        pthread_join(c->threads[--c->running], NULL);
    if (c->bound)
        unlink(c->path);
    lfs_close_fd(&c->listener);
    lfs_close_fd(&c->stop);
    free(c);
}
