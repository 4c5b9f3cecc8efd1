#include "fs/mount/worker.h"

#include "fs/mount/crew.h"
#include "fs/mount/later.h"
#include "fs/mount/parking.h"
#include "fs/mount/patience.h"
#include "fs/mount/request.h"
#include "fs/mount/waiter.h"
#include "fs/mount/wiping.h"
#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/log.h"

#include <errno.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define WORKERS_MIN 2
#define WORKERS_MAX 4

struct worker {
    struct workers *all;
    pthread_t thread;
    int wake; /* eventfd, to wipe or to look at what is parked */
    struct waiter waiter;
    struct patience patience;
    struct fuse_buf request;
    size_t request_used; /* the largest since the last wipe */
    char *reply;         /* REQUEST_BYTES_MAX */
    struct later later;
    unsigned passed; /* requests that overtook the oldest of later */
    struct wiper wiper;
};

struct workers {
    struct workers_of of;
    unsigned started;
    struct worker each[WORKERS_MAX];
    struct waiting waiting;
    struct spinning spinning;
    struct parking parking;
    struct wiping wiping;
    struct crew *crew; /* NULL: none */
};

/* ---- wiping ---- */

static void wipe_request(struct worker *w)
{
    if (w->request.mem)
        sodium_memzero(w->request.mem, w->request_used);
    w->request_used = 0;
}

static void wipe(struct worker *w)
{
    wipe_request(w);
    if (w->reply)
        madvise(w->reply, REQUEST_BYTES_MAX, MADV_DONTNEED); /* zero pages from now on */
    if (w->all->of.hooks->wipe_thread)
        w->all->of.hooks->wipe_thread(w->all->of.arg);
}

void workers_wake(struct workers *all)
{
    for (unsigned i = 0; all && i < all->started; i++)
        eventfd_write(all->each[i].wake, 1);
    if (all)
        crew_wake(all->crew);
}

void workers_make_room(struct workers *all)
{
    if (all)
        crew_reserve(all->crew);
}

int workers_wipe(struct workers *all)
{
    if (!all)
        return 0;
    uint64_t order = wiping_order(&all->wiping);
    workers_wake(all);
    return wiping_wait(&all->wiping, order);
}

/* ---- requests ---- */

static bool process(struct worker *w, const struct fuse_buf *request, struct later *later)
{
    const struct request_means means = {.buffer = w->reply, .later = later, .patience = &w->patience};
    return request_answer(&w->all->of, request, &means);
}

/* False: it is parked. */
static bool begin_change(struct worker *w, size_t len)
{
    struct workers *all = w->all;
    while (!request_try_change(&all->of)) {
        if (parking_put(&all->parking, w->request.mem, len))
            return false;
        request_no_room(&all->of);
    }
    return true;
}

static void answer(struct worker *w, size_t len)
{
    const struct fuse_in_header *head = w->request.mem;
    bool change = len >= sizeof *head && request_is_change(head->opcode);
    if (len > w->request_used)
        w->request_used = len;
    if (change && !begin_change(w, len))
        return;
    bool forget = process(w, &w->request, &w->later);
    if (change)
        request_end_change(&w->all->of);
    if (forget)
        wipe_request(w);
}

static void answer_parked(struct worker *w)
{
    struct workers *all = w->all;
    while (!parking_is_empty(&all->parking) && request_try_change(&all->of)) {
        struct parked *one = parking_take(&all->parking);
        if (one) {
            process(w, &(struct fuse_buf){.mem = one->request, .size = one->len}, NULL);
            parked_free(one);
        }
        request_end_change(&all->of);
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

static void follow_order(struct worker *w)
{
    uint64_t order;
    if (!wiping_is_due(&w->all->wiping, &w->wiper, &order))
        return;
    while (answer_later(w))
        ;
    wipe(w);
    wiping_followed(&w->all->wiping, &w->wiper, order);
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
    patience_init(&w->patience, &w->all->spinning);
    int r = waiter_init(&w->waiter, &w->all->waiting, w->all->of.fd, w->wake, w->all->of.done);
    void *buf = mmap(NULL, REQUEST_BYTES_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!r && buf == MAP_FAILED)
        r = -ENOMEM;
    if (buf != MAP_FAILED)
        w->reply = buf;
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
    wipe(w);
    wiping_leave(&w->all->wiping, &w->wiper);
    if (w->reply)
        munmap(w->reply, REQUEST_BYTES_MAX);
    free(w->request.mem);
    waiter_clear(&w->waiter);
    patience_clear(&w->patience);
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
    wiping_init(&all->wiping);
    parking_init(&all->parking);
    all->of = *of;
    return all;
}

/* A kernel that refuses the crew serves by the device. */
static int start_crew(struct workers *all)
{
    int r = all->crew ? crew_start(all->crew, &all->of, &all->wiping) : 0;
    if (r != -EOPNOTSUPP)
        return r;
    crew_free(all->crew);
    all->crew = NULL;
    return 0;
}

static unsigned how_many(const struct workers *all)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (all->crew)
        return 1;
    return cores < WORKERS_MIN ? WORKERS_MIN : cores > WORKERS_MAX ? WORKERS_MAX : (unsigned)cores;
}

static int start_next(struct workers *all)
{
    struct worker *w = &all->each[all->started];
    *w = (struct worker){.all = all, .wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    wiping_join(&all->wiping, &w->wiper);
    int err = pthread_create(&w->thread, NULL, run, w);
    if (err) {
        wiping_leave(&all->wiping, &w->wiper);
        lfs_close_fd(&w->wake);
        return -err;
    }
    all->started++;
    return 0;
}

int workers_start(const struct workers_of *of, struct crew *crew, struct workers **out)
{
    struct workers *all = workers_new(of);
    if (!all) {
        crew_free(crew);
        return -ENOMEM;
    }
    *out = all;
    all->crew = crew;
    int r = start_crew(all);
    all->waiting.rare = all->crew;
    all->waiting.spinning = &all->spinning;
    for (unsigned n = how_many(all); !r && all->started < n;)
        r = start_next(all);
    return r;
}

bool workers_have_crew(const struct workers *all)
{
    return all && all->crew;
}

void workers_free(struct workers *all)
{
    if (!all)
        return;
    for (unsigned i = 0; i < all->started; i++) {
        pthread_join(all->each[i].thread, NULL);
        lfs_close_fd(&all->each[i].wake);
    }
    crew_free(all->crew);
    parking_clear(&all->parking); /* of a connection that is over */
    wiping_clear(&all->wiping);
    free(all);
}
