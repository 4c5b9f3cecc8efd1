#include "command_find.h"

#include "config.h"
#include "latchfs/err.h"
#include "latchfs/keystore.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SUBDIR "latchfs/commands"

int command_refuse(struct command_why *why, int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why->text, sizeof why->text, fmt, ap);
    va_end(ap);
    why->code = code;
    return code;
}

bool command_name_ok(const char *name)
{
    size_t n = strlen(name);
    return n >= 1 && n <= KEYSTORE_COMMAND_MAX && name[0] >= 'a' && name[0] <= 'z' &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == n;
}

/* ---- directories, each "" if there is none ---- */

static void user_dir(char out[static PATH_MAX])
{
    const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    out[0] = '\0';
    if (xdg && xdg[0] == '/')
        snprintf(out, PATH_MAX, "%s/" SUBDIR, xdg);
    else if (home && home[0] == '/')
        snprintf(out, PATH_MAX, "%s/.config/" SUBDIR, home);
}

static void system_dir(char out[static PATH_MAX])
{
    snprintf(out, PATH_MAX, LATCHFS_SYSCONFDIR "/" SUBDIR);
}

static void own_dir(char out[static PATH_MAX])
{
    snprintf(out, PATH_MAX, LATCHFS_LIBEXECDIR "/" SUBDIR);
}

/* Beside a latch that runs in its build tree. */
static void build_dir(char out[static PATH_MAX])
{
    char self[PATH_MAX - 16];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    out[0] = '\0';
    if (n <= 0)
        return;
    self[n] = '\0';
    *strrchr(self, '/') = '\0';
    const char *base = strrchr(self, '/');
    if (base && strcmp(base, "/tools") == 0)
        snprintf(out, PATH_MAX, "%s/commands", self);
}

static void (*const places[])(char out[static PATH_MAX]) = {user_dir, system_dir, own_dir, build_dir};
enum { PLACES = sizeof places / sizeof places[0] };

/* ---- trust ---- */

static bool is_ours(const struct stat *st)
{
    return (st->st_uid == geteuid() || st->st_uid == 0) && !(st->st_mode & 022);
}

/* 0: there and to be trusted. -ENOENT: not there. */
static int check_file(const char *dir, const char *name, char path[static PATH_MAX], struct command_why *why)
{
    struct stat st;
    if (!dir[0] || snprintf(path, PATH_MAX, "%s/%s", dir, name) >= PATH_MAX || lstat(path, &st))
        return -ENOENT;
    if (!S_ISREG(st.st_mode) || !is_ours(&st))
        return command_refuse(
            why, LFS_EXIT_USAGE,
            "%.300s is not trusted: it must be a regular file of yours or root's that nobody else can write",
            path);
    if (stat(dir, &st) || !is_ours(&st))
        return command_refuse(
            why, LFS_EXIT_USAGE,
            "%.300s is not trusted: it must be a directory of yours or root's that nobody else can write",
            dir);
    return 0;
}

static int find(const char *name, char path[static PATH_MAX], struct command_why *why)
{
    char dir[PATH_MAX];
    int r = -ENOENT;
    for (size_t i = 0; i < PLACES && r == -ENOENT; i++) {
        places[i](dir);
        r = check_file(dir, name, path, why);
    }
    return r;
}

int command_find(const char *name, struct command_program *out, struct command_why *why)
{
    char conf[KEYSTORE_COMMAND_MAX + sizeof ".conf"];
    if (!command_name_ok(name))
        return command_refuse(why, LFS_EXIT_USAGE,
                              "the name of a command has 1 to %u of a-z 0-9 - and begins with a letter",
                              KEYSTORE_COMMAND_MAX);
    int r = find(name, out->path, why);
    if (r == -ENOENT)
        return command_refuse(why, LFS_EXIT_USAGE,
                              "there is no program of this name in ~/.config/" SUBDIR ", " LATCHFS_SYSCONFDIR
                              "/" SUBDIR " or " LATCHFS_LIBEXECDIR "/" SUBDIR);
    if (!r && access(out->path, X_OK))
        return command_refuse(why, LFS_EXIT_USAGE, "%.300s cannot be executed", out->path);
    snprintf(conf, sizeof conf, "%s.conf", name);
    if (!r)
        r = find(conf, out->config, why);
    if (r == -ENOENT) {
        out->config[0] = '\0';
        return LFS_EXIT_OK;
    }
    return r;
}
