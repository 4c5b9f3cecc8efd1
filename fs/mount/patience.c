#include "fs/mount/patience.h"

/* A fast disk has answered by then, and a slow one takes many times as long. */
#define LOOK_NS 150000

void patience_init(struct patience *p, struct spinning *all)
{
    *p = (struct patience){0};
    spinner_init(&p->spinner, all);
}

void patience_clear(struct patience *p)
{
    spinner_clear(&p->spinner);
}

static void stop(struct patience *p, uint64_t now, bool hit)
{
    p->spinning = false;
    spinner_end(&p->spinner, now, hit);
}

bool patience_look_again(struct patience *p, uint64_t now)
{
    if (!p->since) {
        p->since = now;
        p->spinning = spinner_begin(&p->spinner, now);
    } else if (p->spinning && (now - p->since > LOOK_NS || spinner_was_kept(&p->spinner, now))) {
        stop(p, now, false);
    }
    if (p->spinning)
        spinner_yield(&p->spinner, now);
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
