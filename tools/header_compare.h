/* Two key stores of the same volume held against each other: what putting the older one back would bring
 * back, and what it would lose. No key is needed. */
#ifndef TOOLS_HEADER_COMPARE_H
#define TOOLS_HEADER_COMPARE_H

#include "latchfs/keystore.h"

#include <stdbool.h>
#include <stdio.h>

/* Prints a line for each slot, master key and directory key version that one has and the other has not. */
void header_compare_print(const struct keystore *present, const struct keystore *backup, FILE *to);

/* True if a header may exist that old could not open: a directory key version that now may stand in headers,
 * or a protected directory, is not in it. */
bool header_would_lose(const struct keystore *present, const struct keystore *backup);

#endif
