/* Opening nodes by path: from the nearest ancestor that has a descriptor, one component at a time, no symlink
 * followed. Where the owner's own permission bits are in the way (a file of mode 0, whose user runs the
 * mount), they are granted for the moment; the kernel above has decided on access long before. */
#include "fs/store/share.h"
#include "fs/store/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

int fd_openat(struct volume *v, int dirfd, const char *name, int flags, mode_t mode)
{
    flags |= O_CLOEXEC | O_NOFOLLOW | O_NOCTTY;
    int fd = openat(dirfd, name, flags, mode);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
        fd_evict_unused(v);
        fd = openat(dirfd, name, flags, mode);
    }
    return fd < 0 ? -errno : fd;
}

/* Before Linux 6.6 there is no call that does not follow; then what is no symlink now is taken as such. */
int fd_chmodat(int dirfd, const char *name, mode_t mode)
{
    struct stat st;
    if (syscall(SYS_fchmodat2, dirfd, name, mode, AT_SYMLINK_NOFOLLOW) == 0)
        return 0;
    if (errno != ENOSYS && errno != EPERM)
        return -errno;
    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW))
        return -errno;
    if (S_ISLNK(st.st_mode))
        return -EOPNOTSUPP;
    return fchmodat(dirfd, name, mode, 0) ? -errno : 0;
}

static int open_flags(mode_t type, bool write)
{
    if (S_ISREG(type))
        return (write ? O_RDWR : O_RDONLY) | O_NONBLOCK;
    return S_ISDIR(type) ? O_RDONLY | O_DIRECTORY : O_PATH;
}

/* The entry with the owner's bits added; taken back once it is open. */
static int open_entry_granted(struct volume *v, int dirfd, const char *name, int flags)
{
    struct stat st;
    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW))
        return -errno;
    mode_t mode = st.st_mode & 07777, bits = S_ISDIR(st.st_mode) ? S_IRWXU : S_IRUSR | S_IWUSR;
    if (st.st_uid != geteuid() || (mode & bits) == bits || S_ISLNK(st.st_mode))
        return fd_openat(v, dirfd, name, flags, 0);
    int r = fd_chmodat(dirfd, name, mode | bits);
    if (r)
        return r;
    int fd = fd_openat(v, dirfd, name, flags, 0);
    if (fd < 0)
        fd_chmodat(dirfd, name, mode);
    else if (fchmod(fd, mode)) {
        r = -errno;
        close(fd);
        return r;
    }
    return fd;
}

/* The same where the directory itself may not be searched. */
static int open_granted(struct volume *v, int dirfd, const char *name, int flags)
{
    struct stat dir;
    if (!freeze_moment_begin(v))
        return -EBUSY;
    fd_grant_lock(v);
    int fd = open_entry_granted(v, dirfd, name, flags);
    if (fd == -EACCES && !fstat(dirfd, &dir) && dir.st_uid == geteuid() && (dir.st_mode & S_IXUSR) == 0 &&
        fchmod(dirfd, (dir.st_mode & 07777) | S_IRWXU) == 0) {
        fd = open_entry_granted(v, dirfd, name, flags);
        fchmod(dirfd, dir.st_mode & 07777);
    }
    fd_grant_unlock(v);
    freeze_moment_end(v);
    return fd;
}

/* Opens n under its parent's descriptor, and makes sure that it is n. */
static int open_at(struct node *n, int dirfd, bool write)
{
    struct stat st;
    int flags = open_flags(n->type, write);
    int fd = fd_openat(n->vol, dirfd, n->stored, flags, 0);
    if (fd == -EACCES && !n->vol->opt.read_only)
        fd = open_granted(n->vol, dirfd, n->stored, flags);
    if (fd == -EACCES && S_ISDIR(n->type))
        fd = fd_openat(n->vol, dirfd, n->stored, O_PATH | O_DIRECTORY, 0);
    if (fd == -ENOENT || fd == -ELOOP || fd == -ENOTDIR)
        return -ESTALE;
    if (fd < 0)
        return fd;
    int r = fstat(fd, &st) ? -errno : 0;
    if (!r && (st.st_ino != n->ino || st.st_dev != n->dev || (st.st_mode & S_IFMT) != n->type ||
               !share_is_node(n, fd, "")))
        r = -ESTALE;
    if (r) {
        close(fd);
        return r;
    }
    return fd;
}

/* The highest node from n up that has no descriptor while its parent has (in use then, *fd). */
static struct node *first_closed(struct node *n, int *fd)
{
    while (n->parent && !fd_try(n->parent, false, fd))
        n = n->parent;
    return n->parent ? n : NULL;
}

/* The parent's descriptor, with every directory on the way opened. */
static int parent_fd(struct node *n, int *out)
{
    struct node *held = NULL, *next;
    int r = 0, fd = -1;
    while ((next = first_closed(n, &fd)) != n) {
        int opened = next ? open_at(next, fd, false) : -ESTALE;
        if (opened >= 0)
            fd_publish(next, opened, false, &fd);
        /* next now holds its own, so that its parent may be evicted. */
        if (next)
            node_fd_put(next->parent);
        if (held)
            node_fd_put(held);
        held = opened >= 0 ? next : NULL;
        if (opened < 0) {
            r = opened;
            break;
        }
    }
    if (held)
        node_fd_put(held);
    if (!r)
        *out = fd;
    return r;
}

int fd_open_fresh(struct node *n, bool write, int *fd)
{
    int dirfd, r;
    if (n == n->vol->root) {
        r = fd_openat(n->vol, n->vol->root_fd, ".", O_RDONLY | O_DIRECTORY, 0);
    } else {
        r = parent_fd(n, &dirfd);
        if (r)
            return r;
        r = open_at(n, dirfd, write);
        node_fd_put(n->parent);
    }
    if (r < 0)
        return r;
    *fd = r;
    return 0;
}

int fd_get_locked(struct node *n, bool write, int *fd)
{
    int fresh;
    if (fd_try(n, write, fd))
        return 0;
    int r = fd_open_fresh(n, write, &fresh);
    if (r)
        return r;
    fd_publish(n, fresh, write || !S_ISREG(n->type), fd);
    return 0;
}
