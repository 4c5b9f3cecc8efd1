#include "fs/mount/mountpoint.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/log.h"
#include "latchfs/unmount.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define READ_AHEAD_KB "1024"

/* ---- checks ---- */

static bool is_inside(const char *path, const char *outer)
{
    size_t len = strlen(outer);
    if (strcmp(outer, "/") == 0)
        return true;
    return strncmp(path, outer, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

bool mountpoint_is_latchfs(const char *mountpoint)
{
    bool found = false;
    FILE *f = setmntent("/proc/self/mounts", "re");
    if (!f)
        return false;
    for (const struct mntent *m; (m = getmntent(f));)
        if (strcmp(m->mnt_dir, mountpoint) == 0)
            found = strcmp(m->mnt_type, "fuse.latchfs") == 0; /* the last one is on top */
    endmntent(f);
    return found;
}

/* 1 empty, 0 not, or an error. */
static int is_empty(const char *path)
{
    DIR *d = opendir(path);
    if (!d)
        return -errno;
    int entries = 0;
    while (entries < 3 && readdir(d))
        entries++;
    closedir(d);
    return entries < 3;
}

static int refuse(const char *mountpoint, const char *why, int err)
{
    log_error("%s: %s", mountpoint, why);
    return err;
}

int mountpoint_check(const char *mountpoint, const char *volume, bool nonempty)
{
    struct stat st;
    if (mountpoint_is_latchfs(mountpoint))
        return refuse(mountpoint, "a latchfs volume is mounted here already", LFS_ERR_BUSY);
    if (stat(mountpoint, &st))
        return refuse(mountpoint, strerrordesc_np(errno), -errno);
    if (!S_ISDIR(st.st_mode))
        return refuse(mountpoint, "not a directory", -ENOTDIR);
    if (is_inside(mountpoint, volume))
        return refuse(mountpoint, "the mount point lies inside the volume", LFS_ERR_MISUSE);
    if (is_inside(volume, mountpoint))
        return refuse(mountpoint, "the volume lies inside the mount point", LFS_ERR_MISUSE);
    int empty = nonempty ? 1 : is_empty(mountpoint);
    if (empty < 0)
        return refuse(mountpoint, lfs_strerror(empty), empty);
    return empty ? 0 : refuse(mountpoint, "not empty; -o nonempty mounts over it", LFS_ERR_BUSY);
}

/* ---- tuning ---- */

static void tune(const char *dir, const char *name, const char *value)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, value, strlen(value)) < 0)
        log_debug("%s: %s", path, strerrordesc_np(errno));
}

void mountpoint_tune(const char *mountpoint)
{
    struct stat st;
    char dir[64];
    if (geteuid() || stat(mountpoint, &st))
        return;
    snprintf(dir, sizeof dir, "/sys/class/bdi/%u:%u", major(st.st_dev), minor(st.st_dev));
    tune(dir, "strict_limit", "0\n");
    tune(dir, "max_ratio", "100\n");
    tune(dir, "read_ahead_kb", READ_AHEAD_KB "\n");
}

unsigned mountpoint_connection(const char *mountpoint)
{
    struct stat st;
    return stat(mountpoint, &st) ? 0 : minor(st.st_dev);
}

void mountpoint_background(unsigned connection, unsigned requests)
{
    char dir[64], value[16];
    snprintf(dir, sizeof dir, "/sys/fs/fuse/connections/%u", connection);
    snprintf(value, sizeof value, "%u\n", requests);
    tune(dir, "max_background", value);
}

/* ---- unmounting ---- */

static void flush(const char *mountpoint)
{
    AUTO_CLOSE int fd = open(mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        syncfs(fd);
}

int mountpoint_unmount(const char *mountpoint, bool *busy)
{
    *busy = false;
    if (!mountpoint_is_latchfs(mountpoint))
        return 0; /* somebody else was faster */
    int r = unmount_path(mountpoint, false);
    if (r == -EBUSY) {
        flush(mountpoint);
        r = unmount_path(mountpoint, true);
        *busy = !r;
    }
    return r;
}
