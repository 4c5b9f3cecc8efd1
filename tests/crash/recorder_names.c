/* The recorder: names and attributes. */
#include "recorder.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

static int do_open(int dirfd, const char *path, int flags, mode_t mode)
{
    uint64_t dir, ino;
    const char *name;
    struct stat st;
    bool creates = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
    if (!creates && !(flags & O_TRUNC))
        return (int)syscall(SYS_openat, dirfd, path, flags, mode);
    rec_begin();
    bool there = rec_stat(dirfd, path, 0, &st) == 0;
    long r = syscall(SYS_openat, dirfd, path, flags, mode);
    if (r >= 0 && (flags & O_TMPFILE) == O_TMPFILE) {
        rec_unmodelled((int)r, "O_TMPFILE");
    } else if (r >= 0 && !there && rec_of_path(dirfd, path, &dir, &name)) {
        struct iovec iov = rec_text(name);
        REC_PUT(TRACE_CREATE, &iov, 1, dir, rec_ino_at(dirfd, path), S_IFREG | mode);
    } else if (r >= 0 && there && (flags & O_TRUNC) && rec_of_fd((int)r, &ino)) {
        REC_PUT(TRACE_TRUNCATE, NULL, 0, ino, 0);
    }
    return (int)rec_end(r);
}

EXPORT int openat(int dirfd, const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    return do_open(dirfd, path, flags, mode);
}
ALIAS("openat") int openat64(int dirfd, const char *path, int flags, ...);

EXPORT int open(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    return do_open(AT_FDCWD, path, flags, mode);
}
ALIAS("open") int open64(const char *path, int flags, ...);

/* What fortified calls without a mode become. */
EXPORT int __openat64_2(int dirfd, const char *path, int flags);
EXPORT int __openat64_2(int dirfd, const char *path, int flags)
{
    return do_open(dirfd, path, flags, 0);
}
EXPORT int __open64_2(const char *path, int flags);
EXPORT int __open64_2(const char *path, int flags)
{
    return do_open(AT_FDCWD, path, flags, 0);
}

static int made(long r, uint32_t type, int dirfd, const char *path, mode_t mode)
{
    uint64_t dir;
    const char *name;
    if (!r && rec_of_path(dirfd, path, &dir, &name)) {
        struct iovec iov = rec_text(name);
        REC_PUT(type, &iov, 1, dir, rec_ino_at(dirfd, path), mode);
    }
    return (int)rec_end(r);
}

EXPORT int mknodat(int dirfd, const char *path, mode_t mode, dev_t dev)
{
    rec_begin();
    return made(syscall(SYS_mknodat, dirfd, path, mode, dev), TRACE_CREATE, dirfd, path, mode);
}

EXPORT int mknod(const char *path, mode_t mode, dev_t dev)
{
    return mknodat(AT_FDCWD, path, mode, dev);
}

EXPORT int mkdirat(int dirfd, const char *path, mode_t mode)
{
    rec_begin();
    return made(syscall(SYS_mkdirat, dirfd, path, mode), TRACE_MKDIR, dirfd, path, mode);
}

EXPORT int mkdir(const char *path, mode_t mode)
{
    return mkdirat(AT_FDCWD, path, mode);
}

EXPORT int symlinkat(const char *target, int dirfd, const char *path)
{
    uint64_t dir;
    const char *name;
    rec_begin();
    long r = syscall(SYS_symlinkat, target, dirfd, path);
    if (!r && rec_of_path(dirfd, path, &dir, &name)) {
        struct iovec iov[] = {rec_text(name), rec_text(target)};
        REC_PUT(TRACE_SYMLINK, iov, 2, dir, rec_ino_at(dirfd, path), iov[0].iov_len);
    }
    return (int)rec_end(r);
}

EXPORT int symlink(const char *target, const char *path)
{
    return symlinkat(target, AT_FDCWD, path);
}

EXPORT int linkat(int dirfd, const char *path, int newdirfd, const char *newpath, int flags)
{
    uint64_t dir;
    const char *name;
    rec_begin();
    long r = syscall(SYS_linkat, dirfd, path, newdirfd, newpath, flags);
    if (!r && rec_of_path(newdirfd, newpath, &dir, &name)) {
        struct iovec iov = rec_text(name);
        REC_PUT(TRACE_LINK, &iov, 1, dir, rec_ino_at(newdirfd, newpath));
    }
    return (int)rec_end(r);
}

EXPORT int link(const char *path, const char *newpath)
{
    return linkat(AT_FDCWD, path, AT_FDCWD, newpath, 0);
}

EXPORT int unlinkat(int dirfd, const char *path, int flags)
{
    uint64_t dir;
    const char *name;
    rec_begin();
    uint64_t ino = rec_ino_at(dirfd, path);
    long r = syscall(SYS_unlinkat, dirfd, path, flags);
    if (!r && rec_of_path(dirfd, path, &dir, &name)) {
        struct iovec iov = rec_text(name);
        REC_PUT(flags & AT_REMOVEDIR ? TRACE_RMDIR : TRACE_UNLINK, &iov, 1, dir, ino);
    }
    return (int)rec_end(r);
}

EXPORT int unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}

EXPORT int rmdir(const char *path)
{
    return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

EXPORT int renameat2(int dirfd, const char *path, int newdirfd, const char *newpath, unsigned flags)
{
    uint64_t dir, newdir;
    const char *name, *newname;
    rec_begin();
    long r = syscall(SYS_renameat2, dirfd, path, newdirfd, newpath, flags);
    if (!r && rec_of_path(dirfd, path, &dir, &name) && rec_of_path(newdirfd, newpath, &newdir, &newname)) {
        struct iovec iov[] = {rec_text(name), rec_text(newname)};
        REC_PUT(TRACE_RENAME, iov, 2, dir, newdir, flags, iov[0].iov_len);
    }
    return (int)rec_end(r);
}

EXPORT int renameat(int dirfd, const char *path, int newdirfd, const char *newpath)
{
    return renameat2(dirfd, path, newdirfd, newpath, 0);
}

EXPORT int rename(const char *path, const char *newpath)
{
    return renameat2(AT_FDCWD, path, AT_FDCWD, newpath, 0);
}

/* ---- attributes ---- */

EXPORT int fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)
{
    uint64_t ino;
    rec_begin();
    long r = syscall(SYS_fsetxattr, fd, name, value, size, flags);
    if (!r && rec_of_fd(fd, &ino)) {
        struct iovec iov[] = {rec_text(name), {(void *)(uintptr_t)value, size}};
        REC_PUT(TRACE_SETXATTR, iov, 2, ino, iov[0].iov_len);
    }
    return (int)rec_end(r);
}

EXPORT int fremovexattr(int fd, const char *name)
{
    uint64_t ino;
    rec_begin();
    long r = syscall(SYS_fremovexattr, fd, name);
    if (!r && rec_of_fd(fd, &ino)) {
        struct iovec iov = rec_text(name);
        REC_PUT(TRACE_REMOVEXATTR, &iov, 1, ino);
    }
    return (int)rec_end(r);
}

/* By path: through a descriptor, so that one function records. */
static int on_path(const char *path, bool follow)
{
    return (int)syscall(SYS_openat, AT_FDCWD, path,
                        O_RDONLY | O_NONBLOCK | O_CLOEXEC | (follow ? 0 : O_NOFOLLOW), 0);
}

static int set_by_path(const char *path, bool follow, const char *name, const void *value, size_t size,
                       int flags)
{
    int fd = on_path(path, follow);
    int r = fd < 0 ? -1 : fsetxattr(fd, name, value, size, flags);
    int saved = errno;
    if (fd >= 0)
        close(fd);
    errno = saved;
    return r;
}

EXPORT int setxattr(const char *path, const char *name, const void *value, size_t size, int flags)
{
    return set_by_path(path, true, name, value, size, flags);
}

EXPORT int lsetxattr(const char *path, const char *name, const void *value, size_t size, int flags)
{
    return set_by_path(path, false, name, value, size, flags);
}

static int remove_by_path(const char *path, bool follow, const char *name)
{
    int fd = on_path(path, follow);
    int r = fd < 0 ? -1 : fremovexattr(fd, name);
    int saved = errno;
    if (fd >= 0)
        close(fd);
    errno = saved;
    return r;
}

EXPORT int removexattr(const char *path, const char *name)
{
    return remove_by_path(path, true, name);
}

EXPORT int lremovexattr(const char *path, const char *name)
{
    return remove_by_path(path, false, name);
}

EXPORT int fchmod(int fd, mode_t mode)
{
    uint64_t ino;
    rec_begin();
    long r = syscall(SYS_fchmod, fd, mode);
    if (!r && rec_of_fd(fd, &ino))
        REC_PUT(TRACE_CHMOD, NULL, 0, ino, mode);
    return (int)rec_end(r);
}

/* By path, which may be empty: then it is the descriptor's own. */
static bool of_any(int dirfd, const char *path, int flags, uint64_t *ino)
{
    uint64_t dir;
    const char *name;
    if (!path || (!*path && (flags & AT_EMPTY_PATH)))
        return rec_of_fd(dirfd, ino);
    if (!rec_of_path(dirfd, path, &dir, &name))
        return false;
    *ino = rec_ino_at(dirfd, path);
    return true;
}

EXPORT int fchmodat(int dirfd, const char *path, mode_t mode, int flags)
{
    uint64_t ino;
    rec_begin();
    long r = syscall(SYS_fchmodat, dirfd, path, mode);
    if (!r && of_any(dirfd, path, 0, &ino))
        REC_PUT(TRACE_CHMOD, NULL, 0, ino, mode);
    return (int)rec_end(r);
}

int rec_fchmodat2(int dirfd, const char *path, mode_t mode, int flags)
{
    uint64_t ino;
    rec_begin();
    long r = syscall(452 /* fchmodat2 */, dirfd, path, mode, flags);
    if (!r && of_any(dirfd, path, flags, &ino))
        REC_PUT(TRACE_CHMOD, NULL, 0, ino, mode);
    return (int)rec_end(r);
}

EXPORT int chmod(const char *path, mode_t mode)
{
    return fchmodat(AT_FDCWD, path, mode, 0);
}

EXPORT int fchownat(int dirfd, const char *path, uid_t uid, gid_t gid, int flags)
{
    uint64_t ino;
    rec_begin();
    long r = syscall(SYS_fchownat, dirfd, path, uid, gid, flags);
    if (!r && of_any(dirfd, path, flags, &ino))
        REC_PUT(TRACE_CHOWN, NULL, 0, ino, uid, gid);
    return (int)rec_end(r);
}

EXPORT int fchown(int fd, uid_t uid, gid_t gid)
{
    return fchownat(fd, "", uid, gid, AT_EMPTY_PATH);
}

EXPORT int chown(const char *path, uid_t uid, gid_t gid)
{
    return fchownat(AT_FDCWD, path, uid, gid, 0);
}

EXPORT int lchown(const char *path, uid_t uid, gid_t gid)
{
    return fchownat(AT_FDCWD, path, uid, gid, AT_SYMLINK_NOFOLLOW);
}

static void timed(int dirfd, const char *path, const struct timespec t[2], int flags)
{
    uint64_t ino;
    struct stat st;
    if (t && t[1].tv_nsec == UTIME_OMIT)
        return;
    bool own = !path || !*path;
    if (of_any(dirfd, path, flags | AT_EMPTY_PATH, &ino) &&
        !rec_stat(dirfd, own ? "" : path, own ? AT_EMPTY_PATH : flags & AT_SYMLINK_NOFOLLOW, &st))
        REC_PUT(TRACE_UTIMENS, NULL, 0, ino, (uint64_t)st.st_mtim.tv_sec, (uint64_t)st.st_mtim.tv_nsec);
}

static int set_times(int dirfd, const char *path, const struct timespec t[2], int flags)
{
    rec_begin();
    long r = syscall(SYS_utimensat, dirfd, path, t, flags);
    if (!r)
        timed(dirfd, path, t, flags);
    return (int)rec_end(r);
}

EXPORT int utimensat(int dirfd, const char *path, const struct timespec t[2], int flags)
{
    return set_times(dirfd, path, t, flags);
}

EXPORT int futimens(int fd, const struct timespec t[2])
{
    return set_times(fd, NULL, t, 0);
}
