/* What opening a volume for writing has mended by itself, told as findings: a repair says all that it did. */
#ifndef TOOLS_CHECK_OPENED_H
#define TOOLS_CHECK_OPENED_H

#include "check_report.h"

#include <stddef.h>

struct check_opened {
    char **leftovers; /* names of half-made things in the volume's root */
    size_t count;
};

/* Before it is opened. 0 or an error; clear *o in any case. */
int check_opened_before(const char *volume, struct check_opened *o);

/* After the report has begun. */
void check_opened_tell(const char *volume, const struct check_opened *o, const struct replay_report *replay,
                       struct check_report *r);

void check_opened_clear(struct check_opened *o);
#define AUTO_CHECK_OPENED CLEANUP(check_opened_clear)

#endif
