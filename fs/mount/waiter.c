#include "fs/mount/waiter.h"

#include "latchfs/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define SPIN_NS 50000
#define CREDIT_MAX 16
#define CROWDED_NS 300000 /* away from the core for longer than any request of a client takes */
#define STOP_NS_MIN 10000000
#define STOP_NS_MAX 1000000000
#define CALM 1000
#define LOAD_NS 1000000
#define LOADS_MAX 3 /* one may catch threads that run for a moment */
#define NEEDLESS_MAX 8
#define LOOK_MS 2

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- duty ---- */

/* EPOLLEXCLUSIVE makes a request wake one of the sleeping workers, not all. */
static int go_on_duty(struct waiter *w)
{
    struct epoll_event request = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.fd = w->fd};
    if (epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->fd, &request))
        return -errno;
    w->on_duty = true;
    w->needless = 0;
    atomic_fetch_add(&w->all->on_duty, 1);
    return 0;
}

static void go_off_duty(struct waiter *w)
{
    unsigned n = atomic_load(&w->all->on_duty);
    w->needless = 0;
    while (n > 1 && !atomic_compare_exchange_weak(&w->all->on_duty, &n, n - 1))
        ;
    if (n <= 1)
        return;
    w->on_duty = false;
    w->seen = atomic_load(&w->all->received);
    epoll_ctl(w->epoll, EPOLL_CTL_DEL, w->fd, NULL);
}

/* n: of the first try to receive. */
static void consider_duty(struct waiter *w, int n, bool other_spins)
{
    if (!w->on_duty) {
        uint64_t received = atomic_load(&w->all->received);
        if (n > 0 || received == w->seen)
            go_on_duty(w);
        w->seen = received;
    } else if (w->woken) {
        if (n == -EAGAIN || other_spins)
            w->needless++;
        else if (w->needless)
            w->needless--;
        if (w->needless >= NEEDLESS_MAX)
            go_off_duty(w);
    }
    w->woken = false;
}

/* ---- waiting ---- */

static void note_crowd(struct waiter *w, uint64_t now)
{
    atomic_store(&w->all->crowded_until, now + w->stop_ns);
    w->stop_ns = w->stop_ns < STOP_NS_MAX / 2 ? w->stop_ns * 2 : STOP_NS_MAX;
    w->calm = 0;
}

static bool is_loaded(const struct waiter *w)
{
    char text[64];
    long running;
    ssize_t n = w->load < 0 ? -1 : pread(w->load, text, sizeof text - 1, 0);
    if (n <= 0)
        return false;
    text[n] = '\0';
    return sscanf(text, "%*s %*s %*s %ld/", &running) == 1 && running > w->processors;
}

static void look_at_load(struct waiter *w, uint64_t now)
{
    if (now - w->looked < LOAD_NS)
        return;
    w->looked = now;
    w->crowded = is_loaded(w) ? w->crowded + 1 : 0;
    if (w->crowded < LOADS_MAX)
        return;
    w->crowded = 0;
    note_crowd(w, now);
}

static void note_calm(struct waiter *w)
{
    if (++w->calm >= CALM)
        w->stop_ns = STOP_NS_MIN;
}

static int spin(struct waiter *w, struct fuse_session *se, struct fuse_buf *buf)
{
    uint64_t now = now_ns(), end = now + SPIN_NS, before;
    int n = -EAGAIN;
    if (w->credit > 0)
        look_at_load(w, now);
    if (w->all->rare || w->credit <= 0 || now < atomic_load(&w->all->crowded_until) ||
        atomic_exchange(&w->all->spinning, true))
        return n;
    do {
        before = now;
        sched_yield();
        n = fuse_session_receive_buf(se, buf);
        now = now_ns();
    } while (n == -EAGAIN && now < end);
    atomic_store(&w->all->spinning, false);
    if (now - before > CROWDED_NS)
        note_crowd(w, now);
    else
        note_calm(w);
    w->credit += n > 0 ? 1 : -2;
    return n;
}

static void sleep_until_woken(struct waiter *w)
{
    struct epoll_event ev;
    eventfd_t count;
    uint64_t from = now_ns();
    if (epoll_wait(w->epoll, &ev, 1, w->on_duty ? -1 : LOOK_MS) == 1) {
        w->woken = ev.data.fd == w->fd;
        if (ev.data.fd == w->wake)
            eventfd_read(w->wake, &count);
    }
    if (w->woken && now_ns() - from < SPIN_NS)
        w->credit++;
}

int waiter_receive(struct waiter *w, struct fuse_session *se, struct fuse_buf *buf)
{
    bool other_spins = atomic_load(&w->all->spinning);
    int n = fuse_session_receive_buf(se, buf);
    consider_duty(w, n, other_spins);
    if (n == -EAGAIN)
        n = spin(w, se, buf);
    if (w->credit > CREDIT_MAX)
        w->credit = CREDIT_MAX;
    if (n == -EAGAIN)
        sleep_until_woken(w);
    else if (n > 0)
        atomic_fetch_add_explicit(&w->all->received, 1, memory_order_relaxed);
    return n;
}

/* ---- life ---- */

int waiter_init(struct waiter *w, struct waiting *all, int fd, int wake, int done)
{
    struct epoll_event on_end = {.events = EPOLLIN, .data.fd = done},
                       on_wake = {.events = EPOLLIN, .data.fd = wake};
    *w = (struct waiter){.all = all, .fd = fd, .wake = wake, .stop_ns = STOP_NS_MIN};
    w->epoll = epoll_create1(EPOLL_CLOEXEC);
    w->load = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
    w->processors = sysconf(_SC_NPROCESSORS_ONLN);
    if (w->epoll < 0 || epoll_ctl(w->epoll, EPOLL_CTL_ADD, done, &on_end) ||
        epoll_ctl(w->epoll, EPOLL_CTL_ADD, wake, &on_wake))
        return -errno;
    return go_on_duty(w);
}

void waiter_clear(struct waiter *w)
{
    if (w->on_duty)
        atomic_fetch_sub(&w->all->on_duty, 1);
    lfs_close_fd(&w->load);
    lfs_close_fd(&w->epoll);
}
