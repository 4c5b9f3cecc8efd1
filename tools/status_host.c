#include "status_host.h"

#include "mount_table.h"

#include "latchfs/buf.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* As mountpoint.c sets them. What they gave is measured by `tests/bench/run --host`, on tmpfs and on a disk;
 * docs/PERFORMANCE.md has the figures. */
static const struct setting {
    const char *name;
    unsigned long better;
    bool more_is_fine;
    bool for_writes;
    unsigned percent; /* at most; 0: nothing that could be told from noise */
} settings[] = {
    {"strict_limit", 0, false, true, 0},
    {"max_ratio", 100, false, true, 0},
    {"read_ahead_kb", 1024, true, false, 23},
};

static bool read_number(const char *path, unsigned long *out)
{
    char text[32];
    FILE *f = fopen(path, "re");
    bool got = f && fgets(text, sizeof text, f);
    if (f)
        fclose(f);
    if (got)
        *out = strtoul(text, NULL, 10);
    return got;
}

static bool is_fine(const struct setting *s, unsigned long now)
{
    return now == s->better || (s->more_is_fine && now > s->better);
}

/* More files removed a second, in `tests/bench/run`. */
#define RING_PERCENT 84

/* FUSE over io_uring, for the mounts of the whole host that are made from then on and ask for it. */
static size_t ring_advice(struct host_advice *out)
{
    static const char path[] = "/sys/module/fuse/parameters/enable_uring";
    char now = 0;
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, &now, 1) != 1 || now != 'N')
        return 0;
    *out = (struct host_advice){
        .better = 1, .helps = "making and removing files in mounts with -o uring", .percent = RING_PERCENT};
    snprintf(out->path, sizeof out->path, "%s", path);
    return 1;
}

size_t host_advice_for(const char *mountpoint, bool read_only, struct host_advice out[static HOST_ADVICE_MAX])
{
    AUTO_FREE struct mount_entry *e = malloc(sizeof *e);
    size_t count = 0;
    if (!e || mount_table_find(mountpoint, e))
        return 0;
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        const struct setting *s = &settings[i];
        struct host_advice a = {.better = s->better,
                                .helps = s->for_writes ? "sequential writes" : "cold sequential reads",
                                .percent = s->percent};
        snprintf(a.path, sizeof a.path, "/sys/class/bdi/%s/%s", e->device, s->name);
        if (!(read_only && s->for_writes) && read_number(a.path, &a.now) && !is_fine(s, a.now))
            out[count++] = a;
    }
    return count + ring_advice(&out[count]);
}
