/* Runs the program of a command slot: bounded bytes in and out, a deadline, a clean environment. */
#ifndef TOOLS_COMMAND_RUN_H
#define TOOLS_COMMAND_RUN_H

#include <stddef.h>

#define COMMAND_ERR_MAX 1024u /* of standard error, the first bytes of it */

struct command_run {
    const char *path;  /* of the program */
    char *const *argv; /* argv[0] included, NULL behind */
    char *const *env;
    const void *in; /* to standard input */
    size_t in_len;
    char *out; /* from standard output; memory of the caller's */
    size_t out_max;
    int seconds;
    /* Answers. */
    size_t out_len;
    char err[COMMAND_ERR_MAX + 1];
    int status; /* as of waitpid, when it ended by itself */
};

/* 0 when the program ended by itself, however: see status. LFS_ERR_TIMEOUT; -E2BIG when it wrote more than
 * out_max bytes; -errno when it could not be started. The program runs in a session of its own (no terminal),
 * in the root directory, and nothing of its process group is left afterwards. */
int command_run(struct command_run *r);

#endif
