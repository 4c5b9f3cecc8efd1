/* Which threads serve the kernel's queues of FUSE over io_uring, of which it has one for every processor that
 * the machine may ever have: the request of a program comes by the queue of the processor that it runs on. */
#ifndef FS_MOUNT_CREW_PLAN_H
#define FS_MOUNT_CREW_PLAN_H

#include <sched.h>
#include <stdbool.h>

#define CREW_HOMES_MAX 128u /* with more processors there is no crew */
#define CREW_PER_HOME_MIN 2u
#define CREW_PER_HOME_MAX 8u
/* Of all, as far as the two above allow: so many requests wait for the disk at a time. */
#define CREW_THREADS_AIM 16u

struct crew_plan {
    unsigned queues;
    unsigned homes;    /* processors that are there */
    unsigned per_home; /* threads */
    unsigned cpu[CREW_HOMES_MAX];
    cpu_set_t allowed; /* all that this process may use */
};

/* possible: as in /sys/devices/system/cpu/possible ("0-3,8"). online: how many are at work. -EOPNOTSUPP when
 * these are too many, or this process may not use all of them. -EPROTO for another text. */
int crew_plan_make(const char *possible, long online, const cpu_set_t *allowed, struct crew_plan *out);

/* For this machine and process. */
int crew_plan_here(struct crew_plan *out);

static inline unsigned crew_plan_threads(const struct crew_plan *p)
{
    return p->homes * p->per_home;
}

/* The processor of a thread, which is one of crew_plan_threads. */
static inline unsigned crew_plan_home(const struct crew_plan *p, unsigned thread)
{
    return p->cpu[thread % p->homes];
}

/* The thread takes requests of the queue: every thread of its processor does, and one thread for a queue of a
 * processor that has none. */
bool crew_plan_serves(const struct crew_plan *p, unsigned thread, unsigned queue);

#endif
