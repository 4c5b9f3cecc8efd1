/* The command line of latchfs-view, parsed and checked; nothing is opened here but files of patterns. */
#ifndef FS_VIEW_OPTIONS_H
#define FS_VIEW_OPTIONS_H

#include "fs/view/exclude.h"

enum options_act { OPTIONS_MOUNT, OPTIONS_HELP, OPTIONS_VERSION };

struct options {
    enum options_act act;
    const char *plain, *mountpoint; /* as given, in argv */
    const char *config;             /* NULL: in plain */
    bool foreground, one_file_system;
    bool allow_other;
    unsigned long inodes; /* bound of those that are kept; 0: the default */
    char *keyd_socket;    /* NULL: the default */
    char *fsname;         /* NULL: the plain directory's path */
    struct exclude *exclude;
};

/* 0, or LFS_ERR_MISUSE or another error with one line in error. *out is to be cleared in any case. */
int options_parse(int argc, char **argv, struct options *out, char *error, size_t size);
void options_clear(struct options *o);

extern const char options_usage[];

#endif
