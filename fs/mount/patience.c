#include "fs/mount/patience.h"

/* A fast disk has answered by then, and a slow one takes many times as long. */
#define LOOK_NS 150000
#define MISSES_MAX 6u

void patience_init(struct patience *p, struct spinning *all)
{
    *p = (struct patience){0};
    spinner_init(&p->spinner, all);
}

void patience_clear(struct patience *p)
{
    spinner_clear(&p->spinner);
}

/* After each miss in a row twice as many short sleeps have to be seen before the next try. */
static void stop(struct patience *p, uint64_t now, bool hit)
{
    p->spinning = false;
    spinner_end(&p->spinner, now, hit);
    p->misses = hit ? 0 : p->misses < MISSES_MAX ? p->misses + 1 : MISSES_MAX;
    if (!hit)
        p->spinner.credit = -(1 << p->misses);
}

bool patience_look_again(struct patience *p, uint64_t now)
{
    if (!p->since) {
        p->since = now;
        p->spinning = spinner_begin(&p->spinner, now);
    } else if (p->spinning && (now - p->since > LOOK_NS || p->spinner.kept)) {
        stop(p, now, false);
    }
    return p->spinning;
}

void patience_end(struct patience *p, uint64_t now)
{
    if (p->spinning)
        stop(p, now, true);
    else if (now - p->since < LOOK_NS)
        spinner_slept_short(&p->spinner);
    p->since = 0;
}
