#include "fs/view/worker.h"

#include "fs/view/content.h"
#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define WORKERS_MIN 3 /* one may sleep in a slow file system */
#define WORKERS_MAX 8

struct workers {
    struct fuse_session *se;
    int fd, done; /* the device, non-blocking; eventfd */
    unsigned started;
    pthread_t threads[WORKERS_MAX];
};

static _Thread_local struct scratch mine;

static void scratch_clear(void)
{
    aead_freep(&mine.aead);
    if (mine.plain)
        sodium_memzero(mine.plain, GROUP_PLAIN_BYTES);
    free(mine.plain);
    free(mine.reply);
    free(mine.cipher);
    mine = (struct scratch){0};
}

struct scratch *scratch_get(void)
{
    if (mine.aead)
        return &mine;
    mine = (struct scratch){.aead = aead_new(),
                            .plain = malloc(GROUP_PLAIN_BYTES),
                            .cipher = malloc(CIPHER_BYTES),
                            .reply = malloc(REQUEST_BYTES_MAX)};
    if (mine.aead && mine.plain && mine.cipher && mine.reply)
        return &mine;
    scratch_clear();
    return NULL;
}

static void finish(const struct workers *w)
{
    fuse_session_exit(w->se);
    eventfd_write(w->done, 1);
}

static void serve(const struct workers *w, struct fuse_buf *request)
{
    struct pollfd p[2] = {{.fd = w->fd, .events = POLLIN}, {.fd = w->done, .events = POLLIN}};
    while (!fuse_session_exited(w->se)) {
        int n = fuse_session_receive_buf(w->se, request);
        if (n > 0)
            fuse_session_process_buf(w->se, request);
        else if (n == -EAGAIN)
            poll(p, 2, -1);
        else if (n != -EINTR)
            break;
    }
}

static void *run(void *arg)
{
    const struct workers *w = arg;
    struct fuse_buf request = {0};
    if (scratch_get())
        serve(w, &request);
    else
        log_error("a worker cannot start: %s", lfs_strerror(-ENOMEM));
    free(request.mem);
    scratch_clear();
    finish(w);
    return NULL;
}

int workers_start(struct fuse_session *se, struct workers **out)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    long n = cores + 1 < WORKERS_MIN ? WORKERS_MIN : cores + 1 > WORKERS_MAX ? WORKERS_MAX : cores + 1;
    struct workers *w = calloc(1, sizeof *w);
    if (!w)
        return -ENOMEM;
    *w =
        (struct workers){.se = se, .fd = fuse_session_fd(se), .done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    *out = w;
    if (w->done < 0 || fcntl(w->fd, F_SETFL, fcntl(w->fd, F_GETFL) | O_NONBLOCK) ||
        fcntl(w->fd, F_SETFD, FD_CLOEXEC))
        return -errno;
    for (; w->started < (unsigned)n; w->started++) {
        int err = pthread_create(&w->threads[w->started], NULL, run, w);
        if (err)
            return -err;
    }
    return 0;
}

int workers_done_fd(const struct workers *w)
{
    return w->done;
}

void workers_free(struct workers *w)
{
    if (!w)
        return;
    finish(w);
    for (unsigned i = 0; i < w->started; i++)
        pthread_join(w->threads[i], NULL);
    lfs_close_fd(&w->done);
    free(w);
}
