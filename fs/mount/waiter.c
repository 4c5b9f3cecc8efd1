#include "fs/mount/waiter.h"

#include "latchfs/buf.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SPIN_NS 50000
#define NEEDLESS_MAX 8
#define LOOK_MS 2

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

static int spin(struct waiter *w, struct fuse_session *se, struct fuse_buf *buf)
{
    uint64_t now = spinner_now(), end = now + SPIN_NS;
    int n = -EAGAIN;
    if (w->all->rare || !spinner_begin(&w->spinner, now))
        return n;
    atomic_store(&w->all->looking, true);
    do {
        spinner_yield(&w->spinner);
        n = fuse_session_receive_buf(se, buf);
        now = spinner_now();
    } while (n == -EAGAIN && now < end);
    atomic_store(&w->all->looking, false);
    spinner_end(&w->spinner, now, n > 0);
    return n;
}

static void sleep_until_woken(struct waiter *w)
{
    struct epoll_event ev;
    eventfd_t count;
    uint64_t from = spinner_now();
    if (epoll_wait(w->epoll, &ev, 1, w->on_duty ? -1 : LOOK_MS) == 1) {
        w->woken = ev.data.fd == w->fd;
        if (ev.data.fd == w->wake)
            eventfd_read(w->wake, &count);
    }
    if (w->woken && spinner_now() - from < SPIN_NS)
        spinner_slept_short(&w->spinner);
}

int waiter_receive(struct waiter *w, struct fuse_session *se, struct fuse_buf *buf)
{
    bool other_spins = atomic_load(&w->all->looking);
    int n = fuse_session_receive_buf(se, buf);
    consider_duty(w, n, other_spins);
    if (n == -EAGAIN)
        n = spin(w, se, buf);
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
    *w = (struct waiter){.all = all, .fd = fd, .wake = wake};
    w->epoll = epoll_create1(EPOLL_CLOEXEC);
    spinner_init(&w->spinner, all->spinning);
    if (w->epoll < 0 || epoll_ctl(w->epoll, EPOLL_CTL_ADD, done, &on_end) ||
        epoll_ctl(w->epoll, EPOLL_CTL_ADD, wake, &on_wake))
        return -errno;
    return go_on_duty(w);
}

void waiter_clear(struct waiter *w)
{
    if (w->on_duty)
        atomic_fetch_sub(&w->all->on_duty, 1);
    spinner_clear(&w->spinner);
    lfs_close_fd(&w->epoll);
}
