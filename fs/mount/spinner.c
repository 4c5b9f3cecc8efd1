#include "fs/mount/spinner.h"

#include "latchfs/buf.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define CREDIT_MAX 16
#define CROWDED_NS 300000 /* away from the processor for longer than any request of a client takes */
#define STOP_NS_MIN 10000000
#define STOP_NS_MAX 1000000000
#define CALM 1000
#define LOAD_NS 1000000
#define LOADS_MAX 3 /* one may catch threads that run for a moment */

uint64_t spinner_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- whether others want the processor ---- */

static void note_crowd(struct spinner *s, uint64_t now)
{
    atomic_store(&s->all->crowded_until, now + s->stop_ns);
    s->stop_ns = s->stop_ns < STOP_NS_MAX / 2 ? s->stop_ns * 2 : STOP_NS_MAX;
    s->calm = 0;
}

static void note_calm(struct spinner *s)
{
    if (++s->calm >= CALM)
        s->stop_ns = STOP_NS_MIN;
}

static bool is_loaded(const struct spinner *s)
{
    char text[64];
    long running;
    ssize_t n = s->load < 0 ? -1 : pread(s->load, text, sizeof text - 1, 0);
    if (n <= 0)
        return false;
    text[n] = '\0';
    return sscanf(text, "%*s %*s %*s %ld/", &running) == 1 && running > s->processors;
}

static void look_at_load(struct spinner *s, uint64_t now)
{
    if (now - s->looked < LOAD_NS)
        return;
    s->looked = now;
    s->crowded = is_loaded(s) ? s->crowded + 1 : 0;
    if (s->crowded < LOADS_MAX)
        return;
    s->crowded = 0;
    note_crowd(s, now);
}

/* ---- spinning ---- */

bool spinner_begin(struct spinner *s, uint64_t now)
{
    if (s->credit <= 0)
        return false;
    look_at_load(s, now);
    s->kept = false;
    return now >= atomic_load(&s->all->crowded_until) && !atomic_exchange(&s->all->taken, true);
}

void spinner_yield(struct spinner *s)
{
    uint64_t from = spinner_now();
    sched_yield();
    s->kept = spinner_now() - from > CROWDED_NS;
}

static void add_credit(struct spinner *s, int more)
{
    s->credit = s->credit + more < CREDIT_MAX ? s->credit + more : CREDIT_MAX;
}

void spinner_end(struct spinner *s, uint64_t now, bool hit)
{
    atomic_store(&s->all->taken, false);
    if (s->kept)
        note_crowd(s, now);
    else
        note_calm(s);
    add_credit(s, hit ? 1 : -2);
}

void spinner_slept_short(struct spinner *s)
{
    add_credit(s, 1);
}

/* ---- life ---- */

void spinner_init(struct spinner *s, struct spinning *all)
{
    *s = (struct spinner){.all = all,
                          .load = open("/proc/loadavg", O_RDONLY | O_CLOEXEC),
                          .processors = sysconf(_SC_NPROCESSORS_ONLN),
                          .stop_ns = STOP_NS_MIN};
}

void spinner_clear(struct spinner *s)
{
    lfs_close_fd(&s->load);
}
