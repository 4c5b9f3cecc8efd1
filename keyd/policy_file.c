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
    return r ? r : policy_parse(text, len, c, why);
}
