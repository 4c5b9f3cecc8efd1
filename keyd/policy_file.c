/* Where keyd.ini lies, and whether it may be trusted. */
#include "policy.h"

#include "config.h"
#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int policy_path(char path[static PATH_MAX])
{
    const char *set = getenv("LATCH_KEYD_CONFIG"), *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    int n;
    if (set && set[0])
        n = snprintf(path, PATH_MAX, "%s", set);
    else if (geteuid() == 0)
        n = snprintf(path, PATH_MAX, "%s/latchfs/keyd.ini", LATCHFS_SYSCONFDIR);
    else if (xdg && xdg[0] == '/')
        n = snprintf(path, PATH_MAX, "%s/latchfs/keyd.ini", xdg);
    else
        n = snprintf(path, PATH_MAX, "%s%s", home && home[0] == '/' ? home : "",
                     home && home[0] == '/' ? "/.config/latchfs/keyd.ini" : "");
    return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

static int read_trusted(const char *path, char **text, size_t *len, char why[static POLICY_WHY_MAX])
{
    struct stat st;
    if (stat(path, &st))
        return -errno;
    if ((st.st_uid != geteuid() && st.st_uid != 0) || st.st_mode & 022) {
        snprintf(why, POLICY_WHY_MAX, "the file belongs to another user or can be written by others");
        return LFS_ERR_DENIED;
    }
    int r = io_read_file(AT_FDCWD, path, POLICY_BYTES_MAX, text, len);
    if (r < 0)
        snprintf(why, POLICY_WHY_MAX, "%s", lfs_strerror(r));
    return r;
}

static int refuse_path(unsigned line, const char *what, char why[static POLICY_WHY_MAX])
{
    snprintf(why, POLICY_WHY_MAX, "line %u: %s", line, what);
    return LFS_ERR_MISUSE;
}

/* An alarm or a metrics file that cannot be is found now, not on the day when it is needed. */
static int check_paths(const struct policy *c, char why[static POLICY_WHY_MAX])
{
    struct stat st;
    char dir[PATH_MAX];
    if (c->alert_command[0] && (stat(c->alert_command, &st) || !S_ISREG(st.st_mode) ||
                                faccessat(AT_FDCWD, c->alert_command, X_OK, AT_EACCESS)))
        return refuse_path(c->alert_line, "alert_command is not a file that can be run", why);
    if (!c->metrics[0])
        return 0;
    snprintf(dir, sizeof dir, "%s", c->metrics);
    strrchr(dir, '/')[1] = '\0';
    if (stat(dir, &st) || !S_ISDIR(st.st_mode))
        return refuse_path(c->metrics_line, "the directory of the metrics file is missing", why);
    return 0;
}

int policy_load(const char *path, struct policy *c, char why[static POLICY_WHY_MAX])
{
    char found[PATH_MAX];
    AUTO_FREE char *text = NULL;
    size_t len;
    const char *set = getenv("LATCH_KEYD_CONFIG");
    bool must_be_there = path || (set && set[0]);
    why[0] = '\0';
    int r = path ? 0 : policy_path(found);
    if (r || (!path && !found[0]))
        return r;
    r = read_trusted(path ? path : found, &text, &len, why);
    if (r == -ENOENT && !must_be_there)
        return 0;
    if (r && !why[0])
        snprintf(why, POLICY_WHY_MAX, "%s", lfs_strerror(r));
    if (!r)
        r = policy_parse(text, len, c, why);
    return r ? r : check_paths(c, why);
}
