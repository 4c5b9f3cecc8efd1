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

static int64_t sooner(int64_t a, int64_t b)
{
    return a == 0 || (b && b < a) ? b : a;
}

/* Milliseconds until something is due; -1: nothing is. */
static int wait_time(struct server *s, int64_t now)
{
    int64_t at = volumes_next_time(s);
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
    else if (ev->data.ptr == &s->worker)
        while ((j = worker_done(s->worker)))
            request_done(s, j);
    else
        conn_ready(s, ev->data.ptr, ev->events);
}

static void check_time(struct server *s)
{
    int64_t now = now_ms();
    conn_check_stalls(s, now);
    conn_reap(s);
    volumes_check_time(s, now);
    conn_reap(s);
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

static int loop(struct server *s)
{
    struct epoll_event ev[EVENTS];
    s->idle_since = now_ms();
    while (!s->stop) {
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
    volumes_clear(s);
    locked_free(s->packet);
    if (s->epoll >= 0)
        close(s->epoll);
    return r;
}
