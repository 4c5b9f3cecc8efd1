/* The JSON document of a check: its schema stands in latch(1). Written as the check goes, so that a great
 * many findings need no memory. A byte of a string that is not printable ASCII is written as \u00XX. */
#ifndef TOOLS_CHECK_JSON_H
#define TOOLS_CHECK_JSON_H

#include "check_report.h"

#include "latchfs/err.h"

#include <stdio.h>

void check_json_begin(FILE *to, const struct check_subject *s);
void check_json_finding(FILE *to, const struct check_finding *f, bool first);
void check_json_end(FILE *to, const struct check_report *r, const struct check_progress *all, int err,
                    int code);

#endif
