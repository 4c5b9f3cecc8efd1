/* What verify and scrub have in common: everything of a volume is read and authenticated, in its mount if it
 * is mounted, and the place is kept. */
#ifndef TOOLS_VERIFY_H
#define TOOLS_VERIFY_H

#include "check_job.h"

struct verify_args {
    struct check_job job;
    bool unattended; /* nobody is there to be asked for a secret */
};

/* path: VOLUME, MOUNTPOINT or something in a mount. Prints its own error; returns an exit code. */
int verify_run(struct verify_args *a, const char *path);

/* Values of getopt_long, and the options. */
enum { OPT_RATE = OPT_OFFLINE_NEXT, OPT_STATE, OPT_RESTART, OPT_VERIFY_WORKERS, OPT_VERIFY_JSON };
#define VERIFY_OPTIONS                                                                              \
    OFFLINE_OPTIONS, {"rate", required_argument, NULL, OPT_RATE},                                   \
        {"state", required_argument, NULL, OPT_STATE}, {"restart", no_argument, NULL, OPT_RESTART}, \
    {                                                                                               \
        "workers", required_argument, NULL, OPT_VERIFY_WORKERS                                      \
    }
#define VERIFY_HELP                                                                                \
    "  --state FILE              where it keeps its place, instead of a file in the user's state " \
    "directory\n"                                                                                  \
    "  --restart                 begin anew\n"                                                     \
    "  --workers N               threads, 2 by default\n"

/* Takes option c; false if it is none. Prints its own error into *code if the value is none. */
bool verify_option(struct verify_args *a, int c, const char *arg, int *code);

#endif
