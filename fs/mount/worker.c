#include "fs/mount/worker.h"

#include "fs/mount/later.h"
#include "fs/mount/parking.h"
#include "fs/mount/waiter.h"
#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/log.h"

#include <errno.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define WORKERS_MIN 2
#define WORKERS_MAX 4
#define WIPE_DEADLINE_S 20
#define ENDED UINT64_MAX

struct worker {
    struct workers *all;
    pthread_t thread;
    int wake; /* eventfd, to wipe or to look at what is parked */
    struct waiter waiter;
    struct fuse_buf request;
    size_t request_used; /* the largest since the last wipe */
    struct later later;
    unsigned passed; /* requests that overtook the oldest of later */
    uint64_t wiped;  /* the last order that it has followed, ENDED; guarded by all->lock */
};

struct workers {
    struct workers_of of;
    unsigned started;
    struct worker each[WORKERS_MAX];
    struct waiting waiting;
    struct parking parking;
    _Atomic uint64_t wipe_order;
    pthread_mutex_t lock;
    pthread_cond_t wiped;
};

static _Thread_local const struct fuse_in_header *request_now;
static _Thread_local char *reply_buffer;
static _Thread_local size_t request_len;
static _Thread_local struct later *later_now; /* NULL: this request may not be put off */
static _Thread_local bool forget_request;

const struct fuse_in_header *session_request(void)
{
    return request_now;
}

char *session_reply_buffer(void)
{
    return reply_buffer;
}

bool session_put_off(void)
{
    return later_now && later_put(later_now, request_now, request_len);
}

void session_forget_request(void)
{
    forget_request = true;
}

/* ---- wiping ---- */

static void tell_wiped(struct worker *w, uint64_t order)
{
    pthread_mutex_lock(&w->all->lock);
    w->wiped = order;
    pthread_cond_signal(&w->all->wiped);
    pthread_mutex_unlock(&w->all->lock);
}

static void wipe_request(struct worker *w)
{
    if (w->request.mem)
        sodium_memzero(w->request.mem, w->request_used);
    w->request_used = 0;
}

static void wipe(struct worker *w, uint64_t order)
{
    wipe_request(w);
    if (reply_buffer)
        madvise(reply_buffer, REQUEST_BYTES_MAX, MADV_DONTNEED); /* zero pages from now on */
    if (w->all->of.hooks->wipe_thread)
        w->all->of.hooks->wipe_thread(w->all->of.arg);
    tell_wiped(w, order);
}

static bool all_wiped(const struct workers *all, uint64_t order)
{
    for (unsigned i = 0; i < all->started; i++)
        if (all->each[i].wiped < order)
            return false;
    return true;
}

void workers_wake(struct workers *all)
{
    for (unsigned i = 0; all && i < all->started; i++)
        eventfd_write(all->each[i].wake, 1);
}

int workers_wipe(struct workers *all)
{
    if (!all)
        return 0;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += WIPE_DEADLINE_S;
    uint64_t order = atomic_fetch_add(&all->wipe_order, 1) + 1;
    workers_wake(all);
    int err = 0;
    pthread_mutex_lock(&all->lock);
    while (!err && !all_wiped(all, order))
        err = pthread_cond_timedwait(&all->wiped, &all->lock, &until);
    pthread_mutex_unlock(&all->lock);
    return err ? LFS_ERR_TIMEOUT : 0;
}

/* ---- requests ---- */

static void process(const struct worker *w, const struct fuse_buf *request, struct later *later)
{
    request_now = request->mem;
    request_len = request->size;
    later_now = later;
    forget_request = false;
    fuse_session_process_buf(w->all->of.se, request);
}

/* What may not change something now waits, but not in a worker: once all of them waited, nobody would serve
 * reads. */
static bool is_change(uint32_t opcode)
{
    static const uint8_t changes[] = {
        FUSE_SETATTR,   FUSE_SYMLINK,  FUSE_MKNOD,   FUSE_MKDIR,           FUSE_UNLINK,
        FUSE_RMDIR,     FUSE_RENAME,   FUSE_LINK,    FUSE_WRITE,           FUSE_FSYNC,
        FUSE_SETXATTR,  FUSE_FSYNCDIR, FUSE_CREATE,  FUSE_REMOVEXATTR,     FUSE_RENAME2,
        FUSE_FALLOCATE, FUSE_SYNCFS,   FUSE_TMPFILE, FUSE_COPY_FILE_RANGE,
    };
    for (size_t i = 0; i < sizeof changes; i++)
        if (changes[i] == opcode)
            return true;
    return false;
}

static bool try_change(const struct workers *all)
{
    return !all->of.hooks->try_change || all->of.hooks->try_change(all->of.arg);
}

static void end_change(const struct workers *all)
{
    if (all->of.hooks->end_change)
        all->of.hooks->end_change(all->of.arg);
}

/* False: it is parked. */
static bool begin_change(struct worker *w, size_t len)
{
    struct workers *all = w->all;
    while (!try_change(all)) {
        if (parking_put(&all->parking, w->request.mem, len))
            return false;
        if (all->of.hooks->no_room)
            all->of.hooks->no_room(all->of.arg);
    }
    return true;
}

static void answer(struct worker *w, size_t len)
{
    const struct fuse_in_header *head = w->request.mem;
    bool change = len >= sizeof *head && is_change(head->opcode);
    if (len > w->request_used)
        w->request_used = len;
    if (change && !begin_change(w, len))
        return;
    process(w, &w->request, &w->later);
    if (change)
        end_change(w->all);
    if (forget_request)
        wipe_request(w);
}

static void answer_parked(struct worker *w)
{
    struct workers *all = w->all;
    while (!parking_is_empty(&all->parking) && try_change(all)) {
        struct parked *one = parking_take(&all->parking);
        if (one) {
            process(w, &(struct fuse_buf){.mem = one->request, .size = one->len}, NULL);
            parked_free(one);
        }
        end_change(all);
    }
}

static bool answer_later(struct worker *w)
{
    struct fuse_buf request = {0};
    w->passed = 0;
    if (!later_take(&w->later, &request.mem, &request.size))
        return false;
    process(w, &request, NULL);
    return true;
}

/* wiped changes by this thread alone, so it may be read without the lock here. */
static void follow_order(struct worker *w)
{
    uint64_t order = atomic_load(&w->all->wipe_order);
    if (order == w->wiped)
        return;
    while (answer_later(w))
        ;
    wipe(w, order);
}

/* Waits for it only when nothing was put off. */
static int receive(struct worker *w)
{
    if (w->later.count)
        return fuse_session_receive_buf(w->all->of.se, &w->request);
    return waiter_receive(&w->waiter, w->all->of.se, &w->request);
}

static void serve(struct worker *w)
{
    while (!fuse_session_exited(w->all->of.se)) {
        int n = receive(w);
        if (n > 0)
            answer(w, (size_t)n);
        else if (n != -EINTR && n != -EAGAIN)
            break;
        if (w->later.count && (n == -EAGAIN || ++w->passed > LATER_MAX))
            answer_later(w);
        answer_parked(w);
        follow_order(w);
    }
}

static int set_up(struct worker *w)
{
    int r = waiter_init(&w->waiter, &w->all->waiting, w->all->of.fd, w->wake, w->all->of.done);
    void *buf = mmap(NULL, REQUEST_BYTES_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!r && buf == MAP_FAILED)
        r = -ENOMEM;
    if (buf != MAP_FAILED)
        reply_buffer = buf;
    if (!r && w->all->of.hooks->begin_thread)
        r = w->all->of.hooks->begin_thread(w->all->of.arg);
    return r;
}

static void *run(void *arg)
{
    struct worker *w = arg;
    pthread_setname_np(pthread_self(), "worker");
    int r = set_up(w);
    if (r)
        log_error("a worker cannot start: %s", lfs_strerror(r));
    else
        serve(w);
    wipe(w, ENDED);
    if (reply_buffer)
        munmap(reply_buffer, REQUEST_BYTES_MAX);
    free(w->request.mem);
    waiter_clear(&w->waiter);
    fuse_session_exit(w->all->of.se);
    eventfd_write(w->all->of.done, 1);
    return NULL;
}

/* ---- life ---- */

static struct workers *workers_new(const struct workers_of *of)
{
    struct workers *all = calloc(1, sizeof *all);
    if (!all)
        return NULL;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&all->wiped, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&all->lock, NULL);
    parking_init(&all->parking);
    all->of = *of;
    return all;
}

int workers_start(const struct workers_of *of, struct workers **out)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned n = cores < WORKERS_MIN ? WORKERS_MIN : cores > WORKERS_MAX ? WORKERS_MAX : (unsigned)cores;
    struct workers *all = workers_new(of);
    if (!all)
        return -ENOMEM;
    *out = all;
    for (; all->started < n; all->started++) {
        struct worker *w = &all->each[all->started];
        *w = (struct worker){.all = all, .wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
        int err = pthread_create(&w->thread, NULL, run, w);
        if (err) {
            lfs_close_fd(&w->wake);
            return -err;
        }
    }
    return 0;
}

void workers_free(struct workers *all)
{
    if (!all)
        return;
    for (unsigned i = 0; i < all->started; i++) {
        pthread_join(all->each[i].thread, NULL);
        lfs_close_fd(&all->each[i].wake);
    }
    parking_clear(&all->parking); /* of a connection that is over */
    pthread_mutex_destroy(&all->lock);
    pthread_cond_destroy(&all->wiped);
    free(all);
}
