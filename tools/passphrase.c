#include "passphrase.h"

#include "cli.h"
#include "secret_read.h"
#include "terminal.h"

#include "latchfs/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECRET_MAX CRED_FILE_MAX

/* Options that say more about the others. */
static bool modifier_option(struct cred_source *s, int c, const char *arg)
{
    switch (c) {
    case OPT_COMMAND_TIMEOUT:
        s->command_timeout = arg;
        return true;
    case OPT_SIGNING_KEY:
        s->signing_key = arg;
        return true;
    case OPT_SLOT:
        s->slot = arg;
        return true;
    default:
        return false;
    }
}

bool cred_source_option(struct cred_source *s, int c, const char *arg)
{
    switch (c) {
    case OPT_PASS_FILE:
        s->passphrase_file = arg;
        return true;
    case OPT_PASS_FD:
        s->passphrase_fd = arg;
        return true;
    case OPT_PASS_COMMAND:
        s->passphrase_command = arg;
        return true;
    case OPT_KEYFILE:
        s->keyfile = arg;
        return true;
    case OPT_RECOVERY_FILE:
        s->recovery_file = arg;
        return true;
    case OPT_RECOVERY:
        s->recovery = true;
        return true;
    case OPT_IDENTITY:
        s->identity = arg;
        return true;
    case OPT_COMMAND:
        s->command = arg;
        return true;
    case OPT_ANY_COMMAND:
        s->any_command = true;
        return true;
    default:
        return modifier_option(s, c, arg);
        return false;
    }
}

static int sources(const struct cred_source *s)
{
    return !!s->passphrase_file + !!s->passphrase_fd + !!s->passphrase_command + !!s->keyfile +
           !!s->recovery_file + s->recovery + !!s->identity + !!s->command + s->any_command;
}

bool cred_source_given(const struct cred_source *s)
{
    return sources(s) > 0;
}

int cred_source_check(const struct cred_source *s)
{
    if (sources(s) > 1)
        return cli_fail(LFS_EXIT_USAGE, "give one way to get the passphrase or key, not several");
    return LFS_EXIT_OK;
}

static size_t cut_newline(const char *buf, size_t n)
{
    return n > 0 && buf[n - 1] == '\n' ? n - 1 : n;
}

/* The recovery key is text that people copy: blanks and newlines around it mean nothing. */
static size_t cut_blanks(const char *buf, size_t n)
{
    while (n > 0 && (buf[n - 1] == '\n' || buf[n - 1] == '\r' || buf[n - 1] == ' ' || buf[n - 1] == '\t'))
        n--;
    return n;
}

static int no_terminal(bool recovery)
{
    return cli_fail(LFS_EXIT_USAGE, "there is no terminal to ask on; use %s",
                    recovery ? "--recovery-file"
                             : "--passphrase-file, --passphrase-fd or --passphrase-command");
}

static int ask_fail(ssize_t err)
{
    if (err == -E2BIG)
        return cli_fail(LFS_EXIT_USAGE, "the passphrase is too long; it may have %u bytes", PASSPHRASE_MAX);
    if (err == -ENODATA)
        return cli_fail(LFS_EXIT_USAGE, "no passphrase was typed");
    return cli_fail(lfs_exit_code((int)err), "cannot ask on the terminal: %s", lfs_strerror((int)err));
}

static int ask_twice(int fd, const char *what, const char *first, size_t n)
{
    char prompt[PATH_MAX + 64];
    AUTO_LOCKED char *again = locked_alloc(PASSPHRASE_MAX);
    if (!again)
        return cli_fail(LFS_EXIT_FAILURE, "out of memory");
    snprintf(prompt, sizeof prompt, "The same again, %s: ", what);
    ssize_t m = terminal_ask(fd, prompt, again, PASSPHRASE_MAX);
    if (m < 0)
        return ask_fail(m);
    if ((size_t)m != n || memcmp(first, again, n) != 0)
        return cli_fail(LFS_EXIT_USAGE, "the two passphrases differ; nothing was changed");
    return LFS_EXIT_OK;
}

static int ask(const char *what, bool fresh, bool recovery, char *buf, size_t *len)
{
    char prompt[PATH_MAX + 64];
    AUTO_CLOSE int fd = terminal_open();
    if (fd < 0)
        return no_terminal(recovery);
    snprintf(prompt, sizeof prompt, "%s %s: ",
             recovery ? "Recovery key,"
             : fresh  ? "New passphrase,"
                      : "Passphrase,",
             what);
    ssize_t n = terminal_ask(fd, prompt, buf, PASSPHRASE_MAX);
    if (n < 0)
        return ask_fail(n);
    *len = (size_t)n;
    return fresh && n > 0 ? ask_twice(fd, what, buf, *len) : LFS_EXIT_OK;
}

static int source_fail(ssize_t err, const char *source, size_t max)
{
    char quoted[PATH_MAX];
    cli_quote(source, quoted, sizeof quoted);
    if (err == -E2BIG)
        return cli_fail(LFS_EXIT_USAGE, "%s: too long; it may have %zu bytes", quoted,
                        max == PASSPHRASE_MAX + 1 ? (size_t)PASSPHRASE_MAX : max);
    if (err == -ECHILD)
        return cli_fail(LFS_EXIT_FAILURE, "the passphrase command failed");
    if (err == LFS_ERR_TIMEOUT)
        return cli_fail(LFS_EXIT_FAILURE, "the passphrase command did not end in %d s",
                        SECRET_COMMAND_SECONDS);
    return cli_fail_err((int)err, source, NULL);
}

/* Reads the one source that is named into buf. */
static int read_source(const struct cred_source *s, enum credential_type type, char *buf, size_t *len)
{
    size_t max = type == CRED_KEYFILE ? CRED_FILE_MAX : PASSPHRASE_MAX + 1;
    const char *path = s->passphrase_file ? s->passphrase_file : s->keyfile ? s->keyfile : s->recovery_file;
    ssize_t n;
    if (s->passphrase_fd) {
        int fd = secret_parse_fd(s->passphrase_fd);
        if (fd < 0)
            return cli_fail(LFS_EXIT_USAGE, "--passphrase-fd wants the number of an open descriptor");
        n = secret_read_fd(fd, buf, max, NULL);
    } else if (s->passphrase_command) {
        n = secret_read_command(s->passphrase_command, buf, max);
    } else {
        n = secret_read_path(path, buf, max);
    }
    if (n < 0)
        return source_fail(n,
                           s->passphrase_command ? s->passphrase_command
                           : path                ? path
                                                 : "--passphrase-fd",
                           max);
    if (type == CRED_PASSPHRASE)
        *len = cut_newline(buf, (size_t)n);
    else
        *len = type == CRED_RECOVERY ? cut_blanks(buf, (size_t)n) : (size_t)n;
    if (type != CRED_KEYFILE && *len > PASSPHRASE_MAX)
        return source_fail(-E2BIG, path ? path : "passphrase", PASSPHRASE_MAX);
    return LFS_EXIT_OK;
}

int passphrase_load(const struct cred_source *s, const char *what, bool fresh, enum credential_type *type,
                    struct secret **secret)
{
    bool recovery = s->recovery || s->recovery_file;
    enum credential_type kind = s->keyfile ? CRED_KEYFILE : recovery ? CRED_RECOVERY : CRED_PASSPHRASE;
    char quoted[PATH_MAX];
    size_t len = 0;
    AUTO_LOCKED char *buf = locked_alloc(SECRET_MAX);
    if (!buf)
        return cli_fail(LFS_EXIT_FAILURE, "out of memory");
    cli_quote(what, quoted, sizeof quoted);
    int code = sources(s) == 0 || s->recovery ? ask(quoted, fresh, recovery, buf, &len)
                                              : read_source(s, kind, buf, &len);
    if (code != LFS_EXIT_OK)
        return code;
    if (len == 0)
        return cli_fail(fresh ? LFS_EXIT_USAGE : LFS_EXIT_PASSPHRASE, "the passphrase or key is empty");
    struct secret *got = secret_new_copy(buf, len);
    if (!got)
        return cli_fail(LFS_EXIT_FAILURE, "out of memory");
    *secret = got;
    *type = kind;
    return LFS_EXIT_OK;
}
