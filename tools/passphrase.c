#include "passphrase.h"

#include "cli.h"
#include "terminal.h"

#include "latchfs/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COMMAND_SECONDS 300 /* a passphrase command may itself ask a person */
#define SECRET_MAX CRED_FILE_MAX

static void locked_freep(char **p)
{
    locked_free(*p);
    *p = NULL;
}
#define AUTO_LOCKED CLEANUP(locked_freep)

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
    default:
        return false;
    }
}

static int sources(const struct cred_source *s)
{
    return !!s->passphrase_file + !!s->passphrase_fd + !!s->passphrase_command + !!s->keyfile +
           !!s->recovery_file + s->recovery;
}

bool cred_source_given(const struct cred_source *s)
{
    return sources(s) > 0;
}

static long ms_left(const struct timespec *end)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (end->tv_sec - now.tv_sec) * 1000 + (end->tv_nsec - now.tv_nsec) / 1000000;
}

/* Reads to the end, at most len bytes. end: a deadline, or NULL. */
static ssize_t read_all(int fd, char *buf, size_t len, const struct timespec *end)
{
    size_t n = 0;
    for (;;) {
        char extra;
        struct pollfd p = {.fd = fd, .events = POLLIN};
        long ms = end ? ms_left(end) : -1;
        if (end && ms <= 0)
            return LFS_ERR_TIMEOUT;
        int ready = poll(&p, 1, (int)ms);
        if (ready < 0 && errno != EINTR)
            return -errno;
        if (ready <= 0)
            continue;
        ssize_t got = n < len ? read(fd, buf + n, len - n) : read(fd, &extra, 1);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            return (ssize_t)n;
        if (n == len)
            return -E2BIG;
        n += (size_t)got;
    }
}

static ssize_t read_path(const char *path, char *buf, size_t len)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    return fd < 0 ? -errno : read_all(fd, buf, len, NULL);
}

static int parse_fd(const char *text)
{
    char *end;
    errno = 0;
    long v = strtol(text, &end, 10);
    if (errno || *end || end == text || v < 0 || v > INT_MAX || fcntl((int)v, F_GETFD) < 0)
        return -1;
    return (int)v;
}

static pid_t start_command(const char *command, int *out)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC))
        return -errno;
    pid_t pid = fork();
    if (pid == 0) {
        if (dup2(ends[1], STDOUT_FILENO) >= 0)
            execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    int err = errno;
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return -err;
    }
    *out = ends[0];
    return pid;
}

static ssize_t read_command(const char *command, char *buf, size_t len)
{
    AUTO_CLOSE int fd = -1;
    pid_t pid = start_command(command, &fd);
    if (pid < 0)
        return pid;
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += COMMAND_SECONDS;
    ssize_t n = read_all(fd, buf, len, &end);
    if (n < 0)
        kill(pid, SIGKILL);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (n >= 0 && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
        return -ECHILD;
    return n;
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
        return cli_fail(LFS_EXIT_FAILURE, "the passphrase command did not end in %d s", COMMAND_SECONDS);
    return cli_fail_err((int)err, source, NULL);
}

/* Reads the one source that is named into buf. */
static int read_source(const struct cred_source *s, enum credential_type type, char *buf, size_t *len)
{
    size_t max = type == CRED_KEYFILE ? CRED_FILE_MAX : PASSPHRASE_MAX + 1;
    const char *path = s->passphrase_file ? s->passphrase_file : s->keyfile ? s->keyfile : s->recovery_file;
    ssize_t n;
    if (s->passphrase_fd) {
        int fd = parse_fd(s->passphrase_fd);
        if (fd < 0)
            return cli_fail(LFS_EXIT_USAGE, "--passphrase-fd wants the number of an open descriptor");
        n = read_all(fd, buf, max, NULL);
    } else if (s->passphrase_command) {
        n = read_command(s->passphrase_command, buf, max);
    } else {
        n = read_path(path, buf, max);
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

int cred_load(const struct cred_source *s, const char *what, bool fresh, struct credential *cred,
              struct secret **secret)
{
    if (sources(s) > 1)
        return cli_fail(LFS_EXIT_USAGE, "give one way to get the passphrase or key, not several");
    bool recovery = s->recovery || s->recovery_file;
    enum credential_type type = s->keyfile ? CRED_KEYFILE : recovery ? CRED_RECOVERY : CRED_PASSPHRASE;
    char quoted[PATH_MAX];
    size_t len = 0;
    AUTO_LOCKED char *buf = locked_alloc(SECRET_MAX);
    if (!buf)
        return cli_fail(LFS_EXIT_FAILURE, "out of memory");
    cli_quote(what, quoted, sizeof quoted);
    int code = sources(s) == 0 || s->recovery ? ask(quoted, fresh, recovery, buf, &len)
                                              : read_source(s, type, buf, &len);
    if (code != LFS_EXIT_OK)
        return code;
    if (len == 0)
        return cli_fail(fresh ? LFS_EXIT_USAGE : LFS_EXIT_PASSPHRASE, "the passphrase or key is empty");
    struct secret *got = secret_new_copy(buf, len);
    if (!got)
        return cli_fail(LFS_EXIT_FAILURE, "out of memory");
    *secret = got;
    *cred = (struct credential){.type = type, .secret = got};
    return LFS_EXIT_OK;
}
