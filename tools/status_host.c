#include "status_host.h"

#include "mount_table.h"

#include "latchfs/buf.h"

#include <stdio.h>
#include <stdlib.h>

/* As mountpoint.c sets them. What they gave is measured by `tests/bench/run --host`, on tmpfs and on a disk;
 * docs/PERFORMANCE.md has the figures. */
static const struct setting {
    const char *name;
    unsigned long better;
    bool more_is_fine;
    bool for_writes;
    unsigned percent; /* at most; 0: nothing that could be told from noise */
} settings[HOST_ADVICE_MAX] = {
    {"strict_limit", 0, false, true, 0},
    {"max_ratio", 100, false, true, 0},
    {"read_ahead_kb", 1024, true, false, 24},
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

size_t host_advice_for(const char *mountpoint, bool read_only, struct host_advice out[static HOST_ADVICE_MAX])
{
    AUTO_FREE struct mount_entry *e = malloc(sizeof *e);
    size_t count = 0;
    if (!e || mount_table_find(mountpoint, e))
        return 0;
    for (size_t i = 0; i < HOST_ADVICE_MAX; i++) {
        const struct setting *s = &settings[i];
        struct host_advice a = {.better = s->better,
                                .helps = s->for_writes ? "sequential writes" : "cold sequential reads",
                                .percent = s->percent};
        snprintf(a.path, sizeof a.path, "/sys/class/bdi/%s/%s", e->device, s->name);
        if (!(read_only && s->for_writes) && read_number(a.path, &a.now) && !is_fine(s, a.now))
            out[count++] = a;
    }
    return count;
}
