/* Where the programs of command slots may be. */
#ifndef TOOLS_COMMAND_FIND_H
#define TOOLS_COMMAND_FIND_H

#include "command_slot.h"

#include <limits.h>
#include <stdbool.h>

struct command_program {
    char path[PATH_MAX];
    char config[PATH_MAX]; /* NAME.conf in one of the directories, "" if there is none */
};

/* Looks NAME up in the user's, the system's and our own directory, in this order; the first that has it
 * decides. Program, configuration and directory must belong to the user or root and be writable by nobody
 * else; the files may not be symbolic links. Returns an exit code, with the reason in why. */
int command_find(const char *name, struct command_program *out, struct command_why *why);

/* a-z 0-9 -, begins with a letter, at most KEYSTORE_COMMAND_MAX. */
bool command_name_ok(const char *name);

/* Sets why and returns code. */
int command_refuse(struct command_why *why, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
