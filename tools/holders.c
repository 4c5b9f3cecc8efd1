/* mount_holders: who keeps a mount busy, by /proc. */
#include "mount_table.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static bool is_under(const char *candidate, const char *path)
{
    size_t len = strlen(path);
    return strncmp(candidate, path, len) == 0 && (candidate[len] == '/' || candidate[len] == '\0');
}

static bool link_is_under(const char *pid, const char *name, const char *path)
{
    char link[32 + 2 * NAME_MAX], target[PATH_MAX];
    snprintf(link, sizeof link, "/proc/%s/%s", pid, name);
    ssize_t n = readlink(link, target, sizeof target - 1);
    if (n <= 0)
        return false;
    target[n] = '\0';
    return is_under(target, path);
}

static bool has_descriptor(const char *pid, const char *path)
{
    char dir[32 + NAME_MAX], name[NAME_MAX + 8];
    snprintf(dir, sizeof dir, "/proc/%s/fd", pid);
    DIR *d = opendir(dir);
    bool found = false;
    for (const struct dirent *e; d && !found && (e = readdir(d));) {
        snprintf(name, sizeof name, "fd/%s", e->d_name);
        found = isdigit((unsigned char)e->d_name[0]) && link_is_under(pid, name, path);
    }
    if (d)
        closedir(d);
    return found;
}

static bool has_mapping(const char *pid, const char *path)
{
    char name[32 + NAME_MAX], *line = NULL;
    size_t cap = 0;
    snprintf(name, sizeof name, "/proc/%s/maps", pid);
    FILE *f = fopen(name, "re");
    bool found = false;
    while (f && !found && getline(&line, &cap, f) > 0) {
        const char *mapped = strchr(line, '/');
        found = mapped && is_under(mapped, path);
    }
    free(line);
    if (f)
        fclose(f);
    return found;
}

/* What a process does with the mount, or NULL. */
static const char *hold(const char *pid, const char *path)
{
    if (link_is_under(pid, "cwd", path))
        return "is in it";
    if (link_is_under(pid, "root", path))
        return "has its root in it";
    if (has_descriptor(pid, path))
        return "has files open";
    if (link_is_under(pid, "exe", path))
        return "is a program from it";
    return has_mapping(pid, path) ? "has files mapped" : NULL;
}

static void program_name(const char *pid, char *out, size_t len)
{
    char path[32 + NAME_MAX];
    snprintf(path, sizeof path, "/proc/%s/comm", pid);
    FILE *f = fopen(path, "re");
    if (!f || !fgets(out, (int)len, f))
        snprintf(out, len, "?");
    if (f)
        fclose(f);
    for (char *p = out; *p; p++) /* a process names itself: nothing of it may control a terminal */
        *p = *p == '\n' ? '\0' : iscntrl((unsigned char)*p) ? '?' : *p;
}

static unsigned look(const char *path, char *text, size_t len)
{
    unsigned count = 0;
    size_t at = 0;
    DIR *d = opendir("/proc");
    text[0] = '\0';
    for (const struct dirent *e; d && (e = readdir(d));) {
        const char *what = isdigit((unsigned char)e->d_name[0]) ? hold(e->d_name, path) : NULL;
        char name[32];
        if (!what)
            continue;
        program_name(e->d_name, name, sizeof name);
        int n = snprintf(text + at, len - at, "%s%s (pid %s) %s", count++ ? ", " : "", name, e->d_name, what);
        at = n > 0 && at + (size_t)n < len ? at + (size_t)n : len - 1;
    }
    if (d)
        closedir(d);
    return count;
}

/* ---- with a deadline ---- */

/* A process whose exec(2) closes a file of a filesystem that does not answer can't be asked, for as long as
 * its owner likes. So a child looks, which can be killed. */
#define DEADLINE_MS 4000

struct holders {
    unsigned count;
    char text[MOUNT_HOLDERS_MAX];
};

static pid_t look_apart(const char *path, int to)
{
    struct holders h = {0};
    pid_t pid = fork();
    if (pid == 0) {
        h.count = look(path, h.text, sizeof h.text);
        _exit(write(to, &h, sizeof h) == sizeof h ? 0 : 1);
    }
    return pid;
}

static bool take(int from, struct holders *h)
{
    struct pollfd p = {.fd = from, .events = POLLIN};
    return poll(&p, 1, DEADLINE_MS) == 1 && read(from, h, sizeof *h) == sizeof *h;
}

unsigned mount_holders(const char *path, char *text, size_t len)
{
    struct holders h;
    int fds[2];
    if (pipe2(fds, O_CLOEXEC))
        return look(path, text, len);
    pid_t pid = look_apart(path, fds[1]);
    close(fds[1]);
    if (pid < 0 || !take(fds[0], &h))
        h = (struct holders){1, "a process that cannot be looked at may use it"};
    close(fds[0]);
    if (pid > 0) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    snprintf(text, len, "%s", h.text);
    return h.count;
}
