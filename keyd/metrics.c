#include "metrics_int.h"

#include "latchfs/buf.h"
#include "latchfs/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Wrapping takes microseconds; what takes longer than a millisecond waited for a processor. */
const double metrics_bounds[METRICS_BUCKETS] = {0.00001, 0.0001, 0.001, 0.01, 0.1, 1};

struct metrics *metrics_new(void)
{
    return calloc(1, sizeof(struct metrics));
}

void metrics_free(struct metrics *m)
{
    free(m);
}

void metrics_count(struct metrics *m, enum metric what, uint64_t n)
{
    if (m)
        m->counts[what] += n;
}

void metrics_time(struct metrics *m, enum metric_timer which, uint64_t nanoseconds)
{
    if (!m)
        return;
    struct metrics_histogram *h = &m->timers[which];
    double seconds = (double)nanoseconds / 1e9;
    size_t i = 0;
    while (i < METRICS_BUCKETS && seconds > metrics_bounds[i])
        i++;
    h->buckets[i]++;
    h->sum += seconds;
}

uint64_t metrics_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* A name that does not change, so that what an end in between left is put away by the next. */
static int write_beside(int dir, const char *name, const char *text, size_t len)
{
    char tmp[NAME_MAX + 8];
    snprintf(tmp, sizeof tmp, ".%s.tmp", name);
    unlinkat(dir, tmp, 0);
    AUTO_CLOSE int fd = openat(dir, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    int r = fd < 0 ? -errno : io_pwrite(fd, text, len, 0);
    if (!r && fchmod(fd, 0644))
        r = -errno;
    if (!r && renameat(dir, tmp, dir, name))
        r = -errno;
    if (r && fd >= 0)
        unlinkat(dir, tmp, 0);
    return r;
}

int metrics_write(const struct metrics *m, const struct metrics_view *v, const char *path)
{
    AUTO_FREE char *text = NULL, *parent = strdup(path);
    size_t len;
    char *slash = parent ? strrchr(parent, '/') : NULL;
    if (!parent)
        return -ENOMEM;
    if (!slash || !slash[1] || strlen(slash + 1) > NAME_MAX - 5)
        return -EINVAL;
    int r = metrics_text(m, v, &text, &len);
    if (r)
        return r;
    *slash = '\0';
    AUTO_CLOSE int dir = open(slash == parent ? "/" : parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return dir < 0 ? -errno : write_beside(dir, slash + 1, text, len);
}
