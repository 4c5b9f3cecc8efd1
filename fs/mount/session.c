#include "fs/mount/session.h"

#include "fs/mount/crew.h"
#include "fs/mount/fuse_ring.h"
#include "fs/mount/worker.h"
#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#define INIT_DEADLINE_MS 20000

/* Of newer kernels than the header. */
#define NOTIFY_INC_EPOCH 8
#define NOTIFY_PRUNE 9
#define PRUNE_MAX 500

struct session {
    const struct session_hooks *hooks;
    void *arg;
    struct fuse_session *se;
    int fd;   /* the device, non-blocking; owned by se */
    int done; /* eventfd, written once, never read */
    struct workers *workers;
    struct crew *crew; /* ready for session_start; NULL: requests come by the device */

    /* While INIT is answered. */
    uint64_t init_unique;
    uint64_t init_offered; /* flags of the kernel */
    bool by_ring;          /* wanted */
    bool init_done;
};

/* ---- INIT: flags that libfuse 3.14 does not know to send ---- */

/* libfuse hands the program's arg to device_writev, not the session. */
static _Thread_local struct session *answering_init;

/* Once it is promised, the kernel sends nothing before the crew is there. */
static void promise_ring(struct session *s, struct fuse_init_out *out)
{
    if (!s->by_ring || !(s->init_offered & RING_INIT_FLAG))
        return;
    int r = crew_new(&s->crew);
    if (r) {
        log_info("FUSE over io_uring cannot be used here: %s", lfs_strerror(r));
        return;
    }
    out->flags |= FUSE_INIT_EXT;
    out->flags2 |= (uint32_t)(RING_INIT_FLAG >> 32);
}

static void patch_init(struct session *s, struct fuse_init_out *out, size_t len)
{
    if (len >= offsetof(struct fuse_init_out, unused))
        promise_ring(s, out);
    uint32_t add = FUSE_PARALLEL_DIROPS | FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT;
    out->flags |= add & (uint32_t)s->init_offered;
    if (s->hooks->negotiated)
        s->hooks->negotiated(s->arg, out->flags);
}

static ssize_t device_writev(int fd, struct iovec *iov, int count, void *userdata)
{
    struct session *s = answering_init;
    const struct fuse_out_header *head = iov[0].iov_base;
    if (s && !s->init_done && head->unique == s->init_unique && head->error == 0 && count == 2 &&
        iov[1].iov_len >= offsetof(struct fuse_init_out, time_gran)) {
        patch_init(s, iov[1].iov_base, iov[1].iov_len);
        s->init_done = true;
    } else if (request_take_reply(iov, count)) {
        return head->len;
    }
    return writev(fd, iov, count);
}

static ssize_t device_read(int fd, void *buf, size_t len, void *userdata)
{
    return read(fd, buf, len);
}

static void note_init(struct session *s, const struct fuse_buf *buf)
{
    const struct fuse_in_header *head = buf->mem;
    const struct fuse_init_in *in = (const void *)(head + 1);
    if (head->opcode == FUSE_INIT && buf->size >= sizeof *head + 16) {
        s->init_unique = head->unique;
        s->init_offered = in->flags;
        if ((in->flags & FUSE_INIT_EXT) && buf->size >= sizeof *head + offsetof(struct fuse_init_in, unused))
            s->init_offered |= (uint64_t)in->flags2 << 32;
    }
}

static int answer_init(struct session *s)
{
    struct fuse_buf buf = {0};
    int r = 0;
    answering_init = s;
    while (!r && !s->init_done && !fuse_session_exited(s->se)) {
        struct pollfd p = {.fd = s->fd, .events = POLLIN};
        if (poll(&p, 1, INIT_DEADLINE_MS) == 0)
            r = LFS_ERR_TIMEOUT;
        int n = r ? r : fuse_session_receive_buf(s->se, &buf);
        if (n > 0) {
            note_init(s, &buf);
            fuse_session_process_buf(s->se, &buf);
        } else if (n != -EAGAIN && n != -EINTR) {
            r = n ? n : -ENODEV;
        }
    }
    answering_init = NULL;
    free(buf.mem);
    return r ? r : s->init_done ? 0 : -EPROTO;
}

/* ---- set up ---- */

void session_negotiate(struct fuse_conn_info *conn, bool writeback)
{
    unsigned want = FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK |
                    FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_EXPLICIT_INVAL_DATA | FUSE_CAP_READDIRPLUS |
                    FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_PARALLEL_DIROPS;
    if (writeback)
        want |= FUSE_CAP_WRITEBACK_CACHE;
    /* All else stays off, whatever libfuse takes for a good default: O_TRUNC comes as SETATTR, data is
     * transformed and cannot be spliced, locks are the kernel's. */
    conn->want = want & conn->capable;
    conn->max_write = REQUEST_BYTES_MAX;
    conn->max_background = MAX_BACKGROUND;
    conn->congestion_threshold = MAX_BACKGROUND * 3 / 4;
    conn->time_gran = 1;
}

int session_new(const struct session_hooks *hooks, void *arg, const struct fuse_lowlevel_ops *ops,
                const char *options, struct session **out)
{
    struct session *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    *s = (struct session){
        .hooks = hooks, .arg = arg, .fd = -1, .done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    if (s->done >= 0 && !fuse_opt_add_arg(&args, "latchfs") && !fuse_opt_add_arg(&args, "-o") &&
        !fuse_opt_add_arg(&args, options))
        s->se = fuse_session_new(&args, ops, sizeof *ops, arg);
    fuse_opt_free_args(&args);
    if (!s->se) {
        session_free(s);
        return -EINVAL;
    }
    *out = s;
    return 0;
}

int session_mount(struct session *s, const char *mountpoint, bool by_ring)
{
    s->by_ring = by_ring;
    static const struct fuse_custom_io io = {.writev = device_writev, .read = device_read};
    errno = 0;
    if (fuse_session_mount(s->se, mountpoint))
        return errno ? -errno : -EIO;
    s->fd = fuse_session_fd(s->se);
    int r = 0;
    if (fcntl(s->fd, F_SETFL, fcntl(s->fd, F_GETFL) | O_NONBLOCK) || fcntl(s->fd, F_SETFD, FD_CLOEXEC))
        r = -errno;
    if (!r)
        r = fuse_session_custom_io(s->se, &io, s->fd);
    if (!r)
        r = answer_init(s);
    if (r) {
        fuse_session_unmount(s->se);
        s->fd = -1;
    }
    return r;
}

/* ---- workers ---- */

static void finish(struct session *s)
{
    fuse_session_exit(s->se);
    eventfd_write(s->done, 1);
}

int session_start(struct session *s)
{
    const struct workers_of about = {
        .hooks = s->hooks, .arg = s->arg, .se = s->se, .fd = s->fd, .done = s->done};
    struct crew *crew = s->crew;
    s->crew = NULL;
    return workers_start(&about, crew, &s->workers);
}

bool session_is_by_ring(const struct session *s)
{
    return workers_have_crew(s->workers);
}

void session_make_room(struct session *s)
{
    workers_make_room(s->workers);
}

void session_wake(struct session *s)
{
    workers_wake(s->workers);
}

int session_wipe(struct session *s)
{
    return workers_wipe(s->workers);
}

int session_done_fd(const struct session *s)
{
    return s->done;
}

void session_stop(struct session *s)
{
    finish(s);
}

static bool connection_is_over(const struct session *s)
{
    struct pollfd p = {.fd = s->fd};
    return poll(&p, 1, 0) == 1 && (p.revents & POLLERR);
}

void session_free(struct session *s)
{
    if (!s)
        return;
    if (s->workers)
        finish(s);
    workers_free(s->workers);
    crew_free(s->crew);
    if (s->se) {
        /* Of a live connection libfuse would unmount the path, whatever is mounted there by now. */
        if (s->fd >= 0 && connection_is_over(s))
            fuse_session_unmount(s->se);
        fuse_session_destroy(s->se);
    }
    lfs_close_fd(&s->done);
    free(s);
}

/* ---- notifications ---- */

int session_inval_inode(struct session *s, fuse_ino_t ino)
{
    int r = fuse_lowlevel_notify_inval_inode(s->se, ino, 0, 0);
    return r == -ENOENT ? 0 : r;
}

int session_inval_attr(struct session *s, fuse_ino_t ino)
{
    int r = fuse_lowlevel_notify_inval_inode(s->se, ino, -1, 0);
    return r == -ENOENT ? 0 : r;
}

int session_drop_name(struct session *s, fuse_ino_t parent, const char *name)
{
    int r = fuse_lowlevel_notify_inval_entry(s->se, parent, name, strlen(name));
    return r == -ENOENT ? 0 : r;
}

int session_expire_name(struct session *s, fuse_ino_t parent, const char *name)
{
    int r = fuse_lowlevel_notify_expire_entry(s->se, parent, name, strlen(name), FUSE_LL_EXPIRE_ONLY);
    if (r == -ENOSYS)
        return session_drop_name(s, parent, name);
    return r == -ENOENT ? 0 : r;
}

/* A notification that libfuse does not know: a header that names it, then the body (NULL if none). */
static int notify(const struct session *s, int code, const struct iovec *body)
{
    struct fuse_out_header head = {.error = code};
    struct iovec iov[2] = {{&head, sizeof head}};
    if (body)
        iov[1] = *body;
    head.len = (uint32_t)(sizeof head + iov[1].iov_len);
    return writev(s->fd, iov, body ? 2 : 1) < 0 ? -errno : 0;
}

int session_expire_names(struct session *s)
{
    return notify(s, NOTIFY_INC_EPOCH, NULL);
}

int session_prune(struct session *s, const fuse_ino_t *inos, size_t n)
{
    struct {
        uint32_t count, padding;
        uint64_t spare;
        uint64_t ids[PRUNE_MAX];
    } prune = {0};
    for (size_t done = 0; done < n; done += prune.count) {
        prune.count = (uint32_t)(n - done < PRUNE_MAX ? n - done : PRUNE_MAX);
        for (size_t i = 0; i < prune.count; i++)
            prune.ids[i] = inos[done + i];
        struct iovec body = {&prune, offsetof(__typeof__(prune), ids) + prune.count * sizeof prune.ids[0]};
        int r = notify(s, NOTIFY_PRUNE, &body);
        if (r)
            return r;
    }
    return 0;
}
