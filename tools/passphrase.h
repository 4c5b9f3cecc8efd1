/* Where a secret that opens (or makes) a slot comes from: the options for it, and passphrases, key files and
 * recovery keys from the terminal, a file, a descriptor or a program; never the command line or the
 * environment. What else opens: cred.h. */
#ifndef TOOLS_PASSPHRASE_H
#define TOOLS_PASSPHRASE_H

#include "latchfs/keyclient.h"

#include <getopt.h>
#include <stdbool.h>

#define PASSPHRASE_MAX 1024u
#define CRED_FILE_MAX 8192u

struct cred_source {
    const char *passphrase_file;
    const char *passphrase_fd; /* as given; parsed when read */
    const char *passphrase_command;
    const char *keyfile;
    const char *recovery_file;
    bool recovery; /* ask for it on the terminal */
    const char *identity;
    const char *command; /* name of the command whose slots are tried */
    bool any_command;    /* every command slot is */
    const char *command_timeout;
    const char *signing_key;
    const char *slot;
};

/* Values of getopt_long for the options below. */
enum {
    OPT_PASS_FILE = 0x1000,
    OPT_PASS_FD,
    OPT_PASS_COMMAND,
    OPT_KEYFILE,
    OPT_RECOVERY_FILE,
    OPT_RECOVERY,
    OPT_IDENTITY,
    OPT_COMMAND,
    OPT_ANY_COMMAND,
    OPT_COMMAND_TIMEOUT,
    OPT_SIGNING_KEY,
    OPT_SLOT,
    OPT_NEXT
};

/* Elements of a struct option table: the ways to give a passphrase, and all ways to open a volume. */
#define PASSPHRASE_OPTIONS(prefix, base)                                                   \
    {prefix "passphrase-file", required_argument, NULL, (base) + OPT_PASS_FILE},           \
        {prefix "passphrase-fd", required_argument, NULL, (base) + OPT_PASS_FD},           \
        {prefix "passphrase-command", required_argument, NULL, (base) + OPT_PASS_COMMAND}, \
    {                                                                                      \
        prefix "keyfile", required_argument, NULL, (base) + OPT_KEYFILE                    \
    }
#define OPENING_OPTIONS                                                                                     \
    PASSPHRASE_OPTIONS("", 0), {"recovery-file", required_argument, NULL, OPT_RECOVERY_FILE},               \
        {"recovery", no_argument, NULL, OPT_RECOVERY}, {"identity", required_argument, NULL, OPT_IDENTITY}, \
        {"command", required_argument, NULL, OPT_COMMAND},                                                  \
        {"any-command", no_argument, NULL, OPT_ANY_COMMAND},                                                \
        {"command-timeout", required_argument, NULL, OPT_COMMAND_TIMEOUT},                                  \
        {"signing-key", required_argument, NULL, OPT_SIGNING_KEY},                                          \
    {                                                                                                       \
        "slot", required_argument, NULL, OPT_SLOT                                                           \
    }

#define OPENING_HELP                                                                              \
    "Without one of these the passphrase is asked on the terminal:\n"                             \
    "  --passphrase-file FILE    the passphrase is FILE's content; one trailing newline is cut\n" \
    "  --passphrase-fd N         the same, read from descriptor N\n"                              \
    "  --passphrase-command CMD  the same, from the standard output of CMD, run by /bin/sh\n"     \
    "  --keyfile FILE            open with a key file slot\n"                                     \
    "  --recovery-file FILE      open with the recovery key in FILE\n"                            \
    "  --recovery                ask for the recovery key on the terminal\n"                      \
    "  --identity FILE           open a recipient slot with its private key\n"                    \
    "  --command NAME            open with a slot of that command\n"                              \
    "  --any-command             open with the first command slot that answers\n"                 \
    "  --command-timeout SECONDS how long a command may take, 30 by default\n"                    \
    "  --slot N                  open with this slot only\n"                                      \
    "  --signing-key HEX         refuse a volume that another key signs\n"

/* Takes option c (less base) with its argument. False if it is none of these. */
bool cred_source_option(struct cred_source *s, int c, const char *arg);

/* True if any source is named. */
bool cred_source_given(const struct cred_source *s);

/* Refuses several sources. Prints its own error; returns an exit code. */
int cred_source_check(const struct cred_source *s);

/* Gets a passphrase, key file or recovery key. fresh: it is for a new slot, so a typed passphrase is asked
 * twice and an empty one refused. what: "passphrase for PATH" and such, for the prompt. Prints its own error
 * and returns an exit code. On LFS_EXIT_OK *secret is the caller's and *type its kind. */
int passphrase_load(const struct cred_source *s, const char *what, bool fresh, enum credential_type *type,
                    struct secret **secret);

#endif
