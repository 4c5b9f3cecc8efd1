/* What the subcommands of latch share: the table's entry, error lines, quoting, programs next to this one. */
#ifndef TOOLS_CLI_H
#define TOOLS_CLI_H

#include "latchfs/err.h"

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>

struct command {
    const char *name;
    const char *synopsis;              /* behind "latch NAME " */
    const char *summary;               /* one line for the list */
    const char *help;                  /* options, for "latch help NAME" */
    int (*run)(int argc, char **argv); /* argv[0] is the command's name; returns an exit code */
};

/* One line "latch: ..." on standard error; returns code, so that a command can end with it. */
int cli_fail(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* "latch: WHAT: reason" with the exit code of err (see err.h). hint (or NULL) says what to do. */
int cli_fail_err(int err, const char *what, const char *hint);

/* For what a getopt_long loop does not know; its option string begins with ':'. Names the option. */
int cli_bad_option(const struct command *cmd, int c, char **argv);

/* Refuses a wrong number of arguments behind the options: 0 or an exit code. */
int cli_want_args(const struct command *cmd, int argc, int least, int most);

/* text with control characters and backslashes as \xNN, for a terminal or a one-line message. Returns out. */
const char *cli_quote(const char *text, char *out, size_t out_len);

/* A date and time of seconds since 1970, in local time; "-" if there is none. Returns out. */
const char *cli_time(long long seconds, char *out, size_t out_len);

/* The path of one of our programs: beside this one, in the build tree (subdir is its place there), else in
 * the installation's bindir and libexecdir. LFS_OK or -ENOENT. */
int cli_program(const char *name, const char *subdir, char *out, size_t out_len);

extern const struct command cmd_init, cmd_mount, cmd_umount, cmd_view, cmd_status, cmd_slot, cmd_lock,
    cmd_unlock, cmd_inspect, cmd_protect, cmd_rotate, cmd_key, cmd_backup, cmd_shred, cmd_approve, cmd_audit,
    cmd_passwd, cmd_header, cmd_recipient, cmd_fsck, cmd_verify, cmd_scrub, cmd_ls, cmd_cat, cmd_recover,
    cmd_extract, cmd_tar, cmd_freeze, cmd_thaw, cmd_path;

#endif
