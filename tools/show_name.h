/* Names out of a volume, which may hold any bytes. */
#ifndef TOOLS_SHOW_NAME_H
#define TOOLS_SHOW_NAME_H

#include <stdio.h>

/* Writes name to f: as it is, but to a terminal with what could steer it (control characters, C1 ones too,
 * and bytes that are no UTF-8) and backslashes as \xNN. */
void show_name(const char *name, FILE *f);

#endif
