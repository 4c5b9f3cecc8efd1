#include "server.h"

#include "latchfs/err.h"
#include "latchfs/log.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 64

int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t); /* leases run on while the machine sleeps */
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool unused(struct server *s)
{
    return !s->conns && !s->volumes && worker_idle(s->worker);
}

/* Milliseconds until something is due; -1: nothing is. */
static int wait_time(struct server *s, int64_t now)
{
    int64_t at = sooner(leases_next_time(s), waits_next_time(s));
    at = sooner(at, sessions_next_time(s));
    at = sooner(at, s->metrics_at);
    at = sooner(at, s->suspend ? suspend_next_time(s->suspend) : 0);
    for (const struct conn *c = s->conns; c; c = c->next) {
        at = sooner(at, c->in_since ? c->in_since + STALL_MS : 0);
        at = sooner(at, c->out_since ? c->out_since + STALL_MS : 0);
    }
    if (s->idle_since && s->policy->idle_exit_s)
        at = sooner(at, s->idle_since + (int64_t)s->policy->idle_exit_s * 1000);
    if (!at)
        return -1;
    return at <= now ? 0 : at - now > 60000 ? 60000 : (int)(at - now);
}

static void on_signal(struct server *s)
{
    struct signalfd_siginfo info;
    if (read(s->signals, &info, sizeof info) == sizeof info)
        s->stop = true;
}

static void on_event(struct server *s, const struct epoll_event *ev)
{
    struct job *j;
    if (ev->data.ptr == &s->listener)
        conn_accept(s);
    else if (ev->data.ptr == &s->signals)
        on_signal(s);
    else if (ev->data.ptr == &s->suspend)
        suspend_ready(s->suspend);
    else if (ev->data.ptr == &s->worker)
        while ((j = worker_done(s->worker)))
            request_done(s, j);
    else
        conn_ready(s, ev->data.ptr, ev->events);
}

static void check_metrics(struct server *s, int64_t now)
{
    if (!s->metrics_at || now < s->metrics_at)
        return;
    gauges_write(s);
    s->metrics_at = now + (int64_t)s->policy->metrics_s * 1000;
}

static void check_suspend(struct server *s, int64_t now)
{
    if (!s->suspend)
        return;
    int64_t at = suspend_next_time(s->suspend);
    if (at && now >= at)
        suspend_ready(s->suspend);
    if (s->suspending && locks_before_sleep_done(s)) {
        s->suspending = false;
        suspend_done(s->suspend);
    }
}

static void check_time(struct server *s)
{
    int64_t now = now_ms();
    conn_check_stalls(s, now);
    conn_reap(s);
    leases_check_time(s, now);
    sessions_check_time(s, now);
    check_suspend(s, now);
    waits_check(s, now);
    conn_reap(s);
    check_metrics(s, now);
    if (!unused(s))
        s->idle_since = 0;
    else if (!s->idle_since)
        s->idle_since = now;
    else if (s->policy->idle_exit_s && now - s->idle_since >= (int64_t)s->policy->idle_exit_s * 1000)
        s->stop = true;
}

static int watch(struct server *s, int fd, void *tag)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = tag};
    return epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

/* The descriptor of the system bus comes and goes. */
static void watch_suspend(struct server *s)
{
    int fd = s->suspend ? suspend_fd(s->suspend) : -1;
    struct epoll_event ev = {.data.ptr = &s->suspend};
    if (s->suspend_fd >= 0 && s->suspend_fd != fd)
        epoll_ctl(s->epoll, EPOLL_CTL_DEL, s->suspend_fd, NULL);
    s->suspend_fd = fd;
    if (fd < 0)
        return;
    ev.events = suspend_events(s->suspend);
    if (epoll_ctl(s->epoll, EPOLL_CTL_MOD, fd, &ev) && errno == ENOENT)
        epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &ev);
}

static int loop(struct server *s)
{
    struct epoll_event ev[EVENTS];
    s->idle_since = now_ms();
    while (!s->stop) {
        watch_suspend(s);
        int n = epoll_wait(s->epoll, ev, EVENTS, wait_time(s, now_ms()));
        if (n < 0 && errno != EINTR)
            return -errno;
        for (int i = 0; i < n; i++)
            on_event(s, &ev[i]);
        check_time(s);
    }
    return 0;
}

int server_run(struct server *s)
{
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    s->packet = locked_alloc(PROTO_PACKET_MAX);
    s->suspend_fd = -1;
    s->metrics_at = s->policy->metrics[0] ? now_ms() : 0;
    int r = s->epoll < 0 ? -errno : s->packet ? 0 : -ENOMEM;
    if (!r)
        r = watch(s, s->listener, &s->listener);
    if (!r)
        r = watch(s, s->signals, &s->signals);
    if (!r)
        r = watch(s, worker_fd(s->worker), &s->worker);
    if (!r)
        r = loop(s);
    for (struct conn *c = s->conns; c; c = c->next)
        c->dead = true;
    conn_reap(s);
    waits_clear(s);
    volumes_clear(s);
    locked_free(s->packet);
    if (s->epoll >= 0)
        close(s->epoll);
    return r;
}
