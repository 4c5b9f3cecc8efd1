#include "fs/mount/crew_plan.h"

#include "latchfs/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define POSSIBLE "/sys/devices/system/cpu/possible"
#define QUEUES_MAX 65536u /* more than a number of a queue can say */

/* How many processors a list of ranges has; 0: it is none. */
static unsigned long count_possible(const char *text)
{
    unsigned long n = 0;
    while (*text >= '0' && *text <= '9') {
        char *end;
        unsigned long first = strtoul(text, &end, 10), last = first;
        if (*end == '-')
            last = strtoul(end + 1, &end, 10);
        if (last < first || last >= QUEUES_MAX)
            return 0;
        n += last - first + 1;
        text = *end == ',' ? end + 1 : end;
    }
    return *text && *text != '\n' ? 0 : n;
}

int crew_plan_make(const char *possible, long online, const cpu_set_t *allowed, struct crew_plan *out)
{
    struct crew_plan p = {.queues = (unsigned)count_possible(possible), .allowed = *allowed};
    for (unsigned cpu = 0; cpu < CPU_SETSIZE && cpu < p.queues && p.homes < CREW_HOMES_MAX; cpu++)
        if (CPU_ISSET(cpu, allowed))
            p.cpu[p.homes++] = cpu;
    if (!p.queues)
        return -EPROTO;
    if (!p.homes || (long)p.homes < online)
        return -EOPNOTSUPP;
    p.per_home = CREW_THREADS_AIM / p.homes;
    if (p.per_home < CREW_PER_HOME_MIN)
        p.per_home = CREW_PER_HOME_MIN;
    if (p.per_home > CREW_PER_HOME_MAX)
        p.per_home = CREW_PER_HOME_MAX;
    *out = p;
    return 0;
}

int crew_plan_here(struct crew_plan *out)
{
    char text[4096];
    cpu_set_t allowed;
    AUTO_CLOSE int fd = open(POSSIBLE, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (n < 0 || sched_getaffinity(0, sizeof allowed, &allowed))
        return -errno;
    text[n] = '\0';
    return crew_plan_make(text, sysconf(_SC_NPROCESSORS_ONLN), &allowed, out);
}

bool crew_plan_serves(const struct crew_plan *p, unsigned thread, unsigned queue)
{
    for (unsigned i = 0; i < p->homes; i++)
        if (p->cpu[i] == queue)
            return thread % p->homes == i;
    unsigned threads = crew_plan_threads(p);
    return threads && thread == queue % threads;
}
