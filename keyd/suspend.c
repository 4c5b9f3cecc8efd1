#include "suspend.h"

#include <errno.h>
#include <stddef.h>

#ifdef HAVE_SYSTEMD

#include "latchfs/log.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <systemd/sd-bus.h>
#include <time.h>
#include <unistd.h>

#define LOGIND "org.freedesktop.login1"
#define MANAGER "/org/freedesktop/login1", LOGIND ".Manager"
#define AGAIN_MS 30000 /* after the bus was lost, or logind refused */

struct suspend {
    void (*prepare)(void *arg);
    void *arg;
    sd_bus *bus;   /* NULL: lost */
    int inhibitor; /* -1: none */
    int64_t until; /* the machine waits for the locking until then; 0: it does not */
    int64_t again; /* when to try the bus or logind again; 0: no need */
    bool calling;  /* an Inhibit is under way */
};

static int64_t clock_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void let_go(struct suspend *s)
{
    if (s->inhibitor >= 0)
        close(s->inhibitor);
    s->inhibitor = -1;
    s->until = 0;
}

static int on_inhibitor(sd_bus_message *m, void *arg, sd_bus_error *error)
{
    struct suspend *s = arg;
    int fd;
    (void)error;
    s->calling = false;
    if (sd_bus_message_is_method_error(m, NULL) || sd_bus_message_read(m, "h", &fd) < 0) {
        log_warn("suspend: logind gives no inhibitor");
        s->again = clock_ms() + AGAIN_MS;
        return 0;
    }
    s->inhibitor = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return 0;
}

static void inhibit(struct suspend *s)
{
    if (s->calling || s->inhibitor >= 0)
        return;
    int r = sd_bus_call_method_async(s->bus, NULL, LOGIND, MANAGER, "Inhibit", on_inhibitor, s, "ssss",
                                     "sleep", "latch-keyd", "Locks volumes", "delay");
    s->calling = r >= 0;
    if (r < 0)
        s->again = clock_ms() + AGAIN_MS;
}

static int on_sleep(sd_bus_message *m, void *arg, sd_bus_error *error)
{
    struct suspend *s = arg;
    int begins;
    (void)error;
    if (sd_bus_message_read(m, "b", &begins) < 0)
        return 0;
    if (!begins) {
        s->until = 0;
        inhibit(s);
        return 0;
    }
    s->until = clock_ms() + SUSPEND_WAIT_MS;
    s->prepare(s->arg);
    return 0;
}

/* The signal is asked for before the inhibitor, so none is missed. */
static int connect_bus(struct suspend *s)
{
    int r = sd_bus_open_system(&s->bus);
    if (r >= 0)
        r = sd_bus_match_signal_async(s->bus, NULL, LOGIND, MANAGER, "PrepareForSleep", on_sleep, NULL, s);
    if (r < 0) {
        s->bus = sd_bus_unref(s->bus);
        s->again = clock_ms() + AGAIN_MS;
        return r;
    }
    s->again = 0;
    inhibit(s);
    return 0;
}

int suspend_start(void (*prepare)(void *arg), void *arg, struct suspend **out)
{
    struct suspend *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    s->prepare = prepare;
    s->arg = arg;
    s->inhibitor = -1;
    int r = connect_bus(s);
    if (r) {
        suspend_free(s);
        return r;
    }
    *out = s;
    return 0;
}

static void lose_bus(struct suspend *s)
{
    s->bus = sd_bus_close_unref(s->bus);
    s->calling = false;
    let_go(s);
}

void suspend_free(struct suspend *s)
{
    if (!s)
        return;
    lose_bus(s);
    free(s);
}

int suspend_fd(const struct suspend *s)
{
    return s->bus ? sd_bus_get_fd(s->bus) : -1;
}

uint32_t suspend_events(const struct suspend *s)
{
    int events = s->bus ? sd_bus_get_events(s->bus) : 0;
    return events < 0 ? 0 : (events & POLLIN ? EPOLLIN : 0u) | (events & POLLOUT ? EPOLLOUT : 0u);
}

static int64_t sooner(int64_t a, int64_t b)
{
    return a == 0 || (b && b < a) ? b : a;
}

int64_t suspend_next_time(const struct suspend *s)
{
    uint64_t at;
    int64_t next = sooner(s->until, s->again);
    if (!s->bus || sd_bus_get_timeout(s->bus, &at) < 0 || at == UINT64_MAX)
        return next;
    struct timespec t; /* sd-bus counts in the microseconds of the monotonic clock */
    clock_gettime(CLOCK_MONOTONIC, &t);
    int64_t left = (int64_t)(at / 1000) - ((int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000);
    return sooner(next, clock_ms() + (left > 0 ? left : 0));
}

static void check_time(struct suspend *s)
{
    int64_t now = clock_ms();
    if (s->until && now >= s->until) {
        log_warn("suspend: the locking takes too long, the machine may sleep");
        let_go(s);
    }
    if (!s->again || now < s->again)
        return;
    s->again = 0;
    if (!s->bus)
        connect_bus(s);
    else
        inhibit(s);
}

void suspend_ready(struct suspend *s)
{
    int r = s->bus ? 1 : 0;
    while (r > 0)
        r = sd_bus_process(s->bus, NULL);
    if (r < 0) {
        log_warn("suspend: the system bus is gone");
        lose_bus(s);
        s->again = clock_ms() + AGAIN_MS;
    }
    check_time(s);
}

void suspend_done(struct suspend *s)
{
    if (s->until)
        let_go(s);
}

#else

int suspend_start(void (*prepare)(void *arg), void *arg, struct suspend **out)
{
    (void)prepare;
    (void)arg;
    (void)out;
    return -EOPNOTSUPP;
}

void suspend_free(struct suspend *s)
{
    (void)s;
}

int suspend_fd(const struct suspend *s)
{
    (void)s;
    return -1;
}

uint32_t suspend_events(const struct suspend *s)
{
    (void)s;
    return 0;
}

int64_t suspend_next_time(const struct suspend *s)
{
    (void)s;
    return 0;
}

void suspend_ready(struct suspend *s)
{
    (void)s;
}

void suspend_done(struct suspend *s)
{
    (void)s;
}

#endif
