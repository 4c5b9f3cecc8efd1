#include "cli.h"

#include "config.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int cli_fail(int code, const char *fmt, ...)
{
    va_list ap;
    fputs("latch: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    return code;
}

int cli_fail_err(int err, const char *what, const char *hint)
{
    char quoted[PATH_MAX];
    return cli_fail(lfs_exit_code(err), "%s: %s%s%s", cli_quote(what, quoted, sizeof quoted),
                    lfs_strerror(err), hint ? "; " : "", hint ? hint : "");
}

int cli_bad_option(const struct command *cmd, int c, char **argv)
{
    char quoted[256], letter[3] = {'-', (char)optopt, '\0'};
    bool is_short = optopt > ' ' && optopt < 0x7f;
    cli_quote(is_short ? letter : argv[optind - 1], quoted, sizeof quoted);
    if (c == ':')
        return cli_fail(LFS_EXIT_USAGE, "option %s needs a value; see 'latch help %s'", quoted, cmd->name);
    return cli_fail(LFS_EXIT_USAGE, "unknown option %s; see 'latch help %s'", quoted, cmd->name);
}

int cli_want_args(const struct command *cmd, int argc, int least, int most)
{
    int given = argc - optind;
    if (given >= least && given <= most)
        return 0;
    return cli_fail(LFS_EXIT_USAGE, "usage: latch %s %s", cmd->name, cmd->synopsis);
}

const char *cli_quote(const char *text, char *out, size_t out_len)
{
    size_t at = 0;
    for (const unsigned char *p = (const unsigned char *)text; *p && at + 5 <= out_len; p++) {
        if (*p < 0x20 || *p == 0x7f || *p == '\\')
            at += (size_t)snprintf(out + at, out_len - at, "\\x%02x", *p);
        else
            out[at++] = (char)*p;
    }
    out[at] = '\0';
    return out;
}

const char *cli_time(long long seconds, char *out, size_t out_len)
{
    time_t t = (time_t)seconds;
    struct tm tm;
    if (seconds <= 0 || !localtime_r(&t, &tm) || strftime(out, out_len, "%Y-%m-%d %H:%M", &tm) == 0)
        snprintf(out, out_len, "-");
    return out;
}

static bool is_program(const char *dir, const char *name, char *out, size_t out_len)
{
    int n = snprintf(out, out_len, "%s/%s", dir, name);
    return n > 0 && (size_t)n < out_len && access(out, X_OK) == 0;
}

int cli_program(const char *name, const char *subdir, char *out, size_t out_len)
{
    char self[PATH_MAX], in_build[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n > 0) {
        self[n] = '\0';
        *strrchr(self, '/') = '\0';
        if (is_program(self, name, out, out_len))
            return 0;
        char *up = strrchr(self, '/');
        if (up && strcmp(up, "/tools") == 0) {
            *up = '\0';
            int len = snprintf(in_build, sizeof in_build, "%s/%s", self, subdir);
            if (len > 0 && (size_t)len < sizeof in_build && is_program(in_build, name, out, out_len))
                return 0;
        }
    }
    if (is_program(LATCHFS_BINDIR, name, out, out_len) ||
        is_program(LATCHFS_LIBEXECDIR "/latchfs", name, out, out_len))
        return 0;
    return -ENOENT;
}
