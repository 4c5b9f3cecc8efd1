#include "fs/view/source.h"

#include "fs/view/mounts.h"
#include "latchfs/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static int open_beneath(int dirfd, const char *path, int flags)
{
    struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC | O_NOFOLLOW),
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    long fd;
    do
        fd = syscall(SYS_openat2, dirfd, path, &how, sizeof how);
    while (fd < 0 && (errno == EINTR || errno == EAGAIN));
    return fd < 0 ? -errno : (int)fd;
}

/* A path longer than the kernel takes is opened in pieces. path is changed. */
static int open_path(int top, char *path, int flags)
{
    AUTO_CLOSE int own = -1;
    int at = top;
    while (strlen(path) >= PATH_MAX) {
        char *cut = path + PATH_MAX - 1;
        while (*cut != '/')
            cut--; /* a name is shorter than that */
        *cut = '\0';
        int fd = open_beneath(at, path, O_PATH | O_DIRECTORY);
        if (fd < 0)
            return fd;
        lfs_close_fd(&own);
        at = own = fd;
        path = cut + 1;
    }
    return open_beneath(at, *path ? path : ".", flags);
}

int source_open(const struct view *v, const struct vnode *n, int flags)
{
    AUTO_FREE char *path = vnode_path(n, NULL);
    int fd = path ? open_path(v->root_fd, path, flags) : -ENOMEM;
    return fd == -ELOOP ? -ESTALE : fd; /* a link stands now where a directory was */
}

/* A view in a view would lead back here, for ever; and where two show each other, each could wait for the
 * other. So of one nothing is asked but its device, which the kernel knows. The table of mounts is long to
 * read: the answer holds for a second. */
static bool is_view(const struct view *v, dev_t dev)
{
    static _Thread_local struct {
        dev_t dev;
        int64_t until;
        bool is_view;
    } last;
    if (dev == v->root_dev)
        return false;
    if (last.dev != dev || view_now() > last.until) {
        last.is_view = mounts_view_dev(dev);
        last.dev = dev;
        last.until = view_now() + 1000;
    }
    return last.is_view;
}

static int device_of(int fd, const char *name, dev_t *dev)
{
    struct statx sx;
    if (statx(fd, name, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, 0, &sx))
        return -errno;
    *dev = makedev(sx.stx_dev_major, sx.stx_dev_minor);
    return 0;
}

static void stat_of_view(const struct view *v, struct stat *st)
{
    *st = (struct stat){.st_mode = S_IFDIR | 0555, .st_uid = geteuid(), .st_gid = getegid()};
    st->st_atim.tv_sec = st->st_mtim.tv_sec = st->st_ctim.tv_sec = v->created;
}

int source_stat(const struct view *v, int dirfd, const char *name, struct stat *st)
{
    struct stat found;
    dev_t dev;
    int r = device_of(dirfd, name, &dev);
    if (r)
        return r;
    if (is_view(v, dev)) {
        stat_of_view(v, st);
        return 0;
    }
    if (fstatat(dirfd, name, &found, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT))
        return -errno;
    if (v->one_file_system && !S_ISDIR(found.st_mode) && found.st_dev != v->root_dev)
        return -ENOENT;
    *st = found;
    return 0;
}

bool source_is_foreign(const struct view *v, int dirfd)
{
    dev_t dev;
    return device_of(dirfd, "", &dev) || (v->one_file_system && dev != v->root_dev) || is_view(v, dev);
}

static bool ends_with(const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');
    return strcmp(slash ? slash + 1 : path, name) == 0;
}

static bool is_candidate(const struct view *v, const char *name)
{
    for (int i = 0; i < VIEW_HIDDEN; i++)
        if (v->hidden[i][0] && ends_with(v->hidden[i], name))
            return true;
    return v->exclude != NULL;
}

bool source_hides(const struct view *v, const struct vnode *dir, const char *name, bool is_dir)
{
    if (!is_candidate(v, name))
        return false;
    AUTO_FREE char *path = vnode_path(dir, name);
    bool hides = !path || exclude_fits(v->exclude, path, is_dir);
    for (int i = 0; i < VIEW_HIDDEN && !hides; i++)
        hides = strcmp(v->hidden[i], path) == 0;
    return hides;
}
