/* The names that the headers give these functions for large files or fortified calls are not wanted here. */
#undef _FILE_OFFSET_BITS
#undef _FORTIFY_SOURCE

#include "inject.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

#define EXPORT __attribute__((visibility("default")))
#define ALIAS(name) __attribute__((alias(name), visibility("default")))

/* The linker sends every call of syscall() in this program to __wrap_syscall. */
long __real_syscall(long number, ...);
#define syscall __real_syscall

struct plan *plan;

/* ---- which fault for which call ---- */

bool fault_fits(enum fault_kind kind, enum call_class what)
{
    switch (kind) {
    case FAULT_ENOSPC:
    case FAULT_EDQUOT:
        return what != CALL_LOOK && what != CALL_READ && what != CALL_FREE;
    case FAULT_EIO:
    case FAULT_IGNORED:
        return true;
    case FAULT_EINTR:
        return what == CALL_READ || what == CALL_WRITE || what == CALL_ALLOC || what == CALL_FREE ||
               what == CALL_SIZE;
    case FAULT_SHORT:
        return what == CALL_READ || what == CALL_WRITE;
    case FAULT_PARTLY:
        return what == CALL_WRITE;
    case FAULT_FULL:
    case FAULT_THIN:
        return what == CALL_WRITE || what == CALL_ALLOC || what == CALL_ADD || what == CALL_ATTR;
    default:
        return false;
    }
}

int fault_errno(enum fault_kind kind)
{
    static const int errnos[FAULT_KINDS] = {ENOSPC, EDQUOT, EIO, 0, 0, ENOSPC, ENOSPC, ENOSPC, EIO};
    return errnos[kind];
}

/* ---- the decision ---- */

static bool is_lasting(enum fault_kind kind)
{
    return kind == FAULT_FULL || kind == FAULT_THIN;
}

enum verdict { GO_ON, FAIL, HALF, LIE };

/* A full disk does not refuse what it has space for already. */
static bool has_space(enum call_class what, int fd, off_t end)
{
    struct stat st;
    if ((what != CALL_ALLOC && (what != CALL_WRITE || plan->kind == FAULT_THIN)) ||
        syscall(SYS_newfstatat, fd, "", &st, AT_EMPTY_PATH))
        return false;
    return end <= (what == CALL_ALLOC ? (off_t)st.st_blocks * 512 : st.st_size);
}

static enum verdict still_full(enum call_class what, int fd, off_t end)
{
    if (!fault_fits(plan->kind, what) || plan->kind < FAULT_PARTLY)
        return GO_ON;
    if (plan->kind == FAULT_PARTLY && plan->fired++)
        return GO_ON;
    if (has_space(what, fd, end))
        return GO_ON;
    plan->fired++;
    errno = ENOSPC;
    return FAIL;
}

static enum verdict first_fault(const char *name, enum call_class what, int fd, off_t end)
{
    if (is_lasting(plan->kind) && has_space(what, fd, end)) {
        plan->at++; /* the next that takes space */
        return GO_ON;
    }
    snprintf(plan->name, sizeof plan->name, "%s", name);
    plan->what = what;
    plan->fired = plan->kind != FAULT_PARTLY; /* that is the write behind this one */
    plan->lasting = plan->kind >= FAULT_PARTLY && plan->kind <= FAULT_THIN;
    if (plan->plant == PLANT_CRASH)
        abort();
    if (plan->plant == PLANT_HANG)
        pause();
    if (plan->plant == PLANT_LEAK)
        dup(2);
    if (plan->kind == FAULT_IGNORED)
        return LIE;
    if (plan->kind == FAULT_SHORT || plan->kind == FAULT_PARTLY)
        return HALF;
    errno = plan->plant == PLANT_ERRNO ? EPERM : plan->kind == FAULT_EINTR ? EINTR : fault_errno(plan->kind);
    return FAIL;
}

static enum verdict judge(const char *name, enum call_class what, int fd, off_t end)
{
    if (!plan || !plan->armed)
        return GO_ON;
    uint64_t number = ++plan->calls;
    if (number < CALLS_MAX) {
        plan->classes[number] = (uint8_t)what;
        snprintf(plan->names[number], CALL_NAME, "%s", name);
    }
    if (plan->lasting)
        return still_full(what, fd, end);
    /* Of a full disk: the first call from there on that takes space. */
    bool mine =
        plan->at && (is_lasting(plan->kind) ? number >= plan->at && !plan->fired : number == plan->at);
    return mine && fault_fits(plan->kind, what) ? first_fault(name, what, fd, end) : GO_ON;
}

/* For calls that answer 0 or -1. */
#define SIMPLE(name, what, call)                          \
    do {                                                  \
        enum verdict v_ = judge(name, what, -1, 0);       \
        return v_ == GO_ON ? (int)(call) : -(v_ == FAIL); \
    } while (0)

/* For calls whose result can't be made up: they fail or work. */
#define NEEDED(name, what, type, bad, call)   \
    do {                                      \
        if (judge(name, what, -1, 0) == FAIL) \
            return bad;                       \
        return (type)(call);                  \
    } while (0)

/* ---- contents ---- */

EXPORT ssize_t pread(int fd, void *buf, size_t len, off_t at)
{
    enum verdict v = judge("pread", CALL_READ, fd, 0);
    if (v == FAIL)
        return -1;
    if (v == LIE) {
        memset(buf, 0, len);
        return (ssize_t)len;
    }
    return syscall(SYS_pread64, fd, buf, v == HALF ? (len + 1) / 2 : len, at);
}
ALIAS("pread") ssize_t pread64(int fd, void *buf, size_t len, off64_t at);

EXPORT ssize_t pwrite(int fd, const void *buf, size_t len, off_t at)
{
    enum verdict v = judge("pwrite", CALL_WRITE, fd, at + (off_t)len);
    if (v == FAIL || v == LIE)
        return v == FAIL ? -1 : (ssize_t)len;
    return syscall(SYS_pwrite64, fd, buf, v == HALF ? (len + 1) / 2 : len, at);
}
ALIAS("pwrite") ssize_t pwrite64(int fd, const void *buf, size_t len, off64_t at);

static ssize_t total(const struct iovec *iov, int n)
{
    ssize_t sum = 0;
    for (int i = 0; i < n; i++)
        sum += (ssize_t)iov[i].iov_len;
    return sum;
}

/* The first half of iov; how many pieces that is. */
static int half_of(const struct iovec *iov, int n, struct iovec some[static IOV_MAX])
{
    ssize_t left = (total(iov, n) + 1) / 2;
    int k = 0;
    for (; left > 0 && k < n; k++) {
        some[k] = iov[k];
        if ((ssize_t)some[k].iov_len > left)
            some[k].iov_len = (size_t)left;
        left -= (ssize_t)some[k].iov_len;
    }
    return k;
}

static ssize_t read_nothing(const struct iovec *iov, int n)
{
    for (int i = 0; i < n; i++)
        memset(iov[i].iov_base, 0, iov[i].iov_len);
    return total(iov, n);
}

EXPORT ssize_t preadv2(int fd, const struct iovec *iov, int n, off_t at, int flags)
{
    struct iovec some[IOV_MAX];
    enum verdict v = judge("preadv", CALL_READ, fd, 0);
    if (v == FAIL)
        return -1;
    if (v == LIE)
        return read_nothing(iov, n);
    if (v == HALF)
        n = half_of(iov, n, some);
    return syscall(SYS_preadv2, fd, v == HALF ? some : iov, n, at, 0, flags);
}
ALIAS("preadv2") ssize_t preadv64v2(int fd, const struct iovec *iov, int n, off64_t at, int flags);

EXPORT ssize_t preadv(int fd, const struct iovec *iov, int n, off_t at)
{
    return preadv2(fd, iov, n, at, 0);
}
ALIAS("preadv") ssize_t preadv64(int fd, const struct iovec *iov, int n, off64_t at);

static ssize_t write_half(int fd, const struct iovec *iov, int n, off_t at)
{
    struct iovec some[IOV_MAX];
    return syscall(SYS_pwritev, fd, some, half_of(iov, n, some), at, 0);
}

EXPORT ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t at)
{
    enum verdict v = judge("pwritev", CALL_WRITE, fd, at + total(iov, n));
    if (v == FAIL || v == LIE)
        return v == FAIL ? -1 : total(iov, n);
    return v == HALF ? write_half(fd, iov, n, at) : syscall(SYS_pwritev, fd, iov, n, at, 0);
}
ALIAS("pwritev") ssize_t pwritev64(int fd, const struct iovec *iov, int n, off64_t at);

EXPORT ssize_t pwritev2(int fd, const struct iovec *iov, int n, off_t at, int flags)
{
    return pwritev(fd, iov, n, at);
}
ALIAS("pwritev2") ssize_t pwritev64v2(int fd, const struct iovec *iov, int n, off64_t at, int flags);

EXPORT int ftruncate(int fd, off_t len)
{
    SIMPLE("ftruncate", CALL_SIZE, syscall(SYS_ftruncate, fd, len));
}
ALIAS("ftruncate") int ftruncate64(int fd, off64_t len);

EXPORT int fallocate(int fd, int mode, off_t at, off_t len)
{
    enum call_class what = mode & FALLOC_FL_PUNCH_HOLE ? CALL_FREE : CALL_ALLOC;
    if (plan && plan->no_fallocate) {
        errno = EOPNOTSUPP;
        return -1;
    }
    enum verdict v = judge("fallocate", what, fd, at + len);
    return v == GO_ON ? (int)syscall(SYS_fallocate, fd, mode, at, len) : -(v == FAIL);
}
ALIAS("fallocate") int fallocate64(int fd, int mode, off64_t at, off64_t len);

EXPORT int fsync(int fd)
{
    SIMPLE("fsync", CALL_SYNC, syscall(SYS_fsync, fd));
}

EXPORT int fdatasync(int fd)
{
    SIMPLE("fdatasync", CALL_SYNC, syscall(SYS_fdatasync, fd));
}

EXPORT int syncfs(int fd)
{
    SIMPLE("syncfs", CALL_SYNC, 0); /* the whole machine need not wait */
}

EXPORT off_t lseek(int fd, off_t at, int whence)
{
    NEEDED("lseek", CALL_LOOK, off_t, -1, syscall(SYS_lseek, fd, at, whence));
}
ALIAS("lseek") off64_t lseek64(int fd, off64_t at, int whence);

/* ---- names ---- */

static int do_open(int dirfd, const char *path, int flags, mode_t mode)
{
    NEEDED("open", flags & O_CREAT ? CALL_ADD : CALL_LOOK, int, -1,
           syscall(SYS_openat, dirfd, path, flags, mode));
}

EXPORT int openat(int dirfd, const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = flags & O_CREAT ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    return do_open(dirfd, path, flags, mode);
}
ALIAS("openat") int openat64(int dirfd, const char *path, int flags, ...);

/* What a fortified call without a mode becomes. */
EXPORT int __openat64_2(int dirfd, const char *path, int flags);
EXPORT int __openat64_2(int dirfd, const char *path, int flags)
{
    return do_open(dirfd, path, flags, 0);
}

EXPORT int open(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = flags & O_CREAT ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    return do_open(AT_FDCWD, path, flags, mode);
}
ALIAS("open") int open64(const char *path, int flags, ...);

EXPORT int mknodat(int dirfd, const char *path, mode_t mode, dev_t dev)
{
    SIMPLE("mknod", CALL_ADD, syscall(SYS_mknodat, dirfd, path, mode, dev));
}

EXPORT int mkdirat(int dirfd, const char *path, mode_t mode)
{
    SIMPLE("mkdir", CALL_ADD, syscall(SYS_mkdirat, dirfd, path, mode));
}

EXPORT int symlinkat(const char *target, int dirfd, const char *path)
{
    SIMPLE("symlink", CALL_ADD, syscall(SYS_symlinkat, target, dirfd, path));
}

EXPORT int linkat(int dirfd, const char *path, int newdirfd, const char *newpath, int flags)
{
    SIMPLE("link", CALL_ADD, syscall(SYS_linkat, dirfd, path, newdirfd, newpath, flags));
}

EXPORT int renameat2(int dirfd, const char *path, int newdirfd, const char *newpath, unsigned flags)
{
    SIMPLE("rename", CALL_ADD, syscall(SYS_renameat2, dirfd, path, newdirfd, newpath, flags));
}

EXPORT int renameat(int dirfd, const char *path, int newdirfd, const char *newpath)
{
    return renameat2(dirfd, path, newdirfd, newpath, 0);
}

EXPORT int unlinkat(int dirfd, const char *path, int flags)
{
    SIMPLE("unlink", CALL_DROP, syscall(SYS_unlinkat, dirfd, path, flags));
}

/* ---- looking ---- */

EXPORT int fstatat(int dirfd, const char *path, struct stat *st, int flags)
{
    NEEDED("fstatat", CALL_LOOK, int, -1, syscall(SYS_newfstatat, dirfd, path, st, flags));
}

EXPORT int fstat(int fd, struct stat *st)
{
    NEEDED("fstat", CALL_LOOK, int, -1, syscall(SYS_newfstatat, fd, "", st, AT_EMPTY_PATH));
}

/* struct stat64 and the like are the plain ones here; the compiler can't know. */
EXPORT int fstatat64(int dirfd, const char *path, struct stat64 *st, int flags)
{
    return fstatat(dirfd, path, (struct stat *)st, flags);
}
EXPORT int fstat64(int fd, struct stat64 *st)
{
    return fstat(fd, (struct stat *)st);
}

EXPORT int statx(int dirfd, const char *path, int flags, unsigned mask, struct statx *st)
{
    NEEDED("statx", CALL_LOOK, int, -1, syscall(SYS_statx, dirfd, path, flags, mask, st));
}

EXPORT int name_to_handle_at(int dirfd, const char *path, struct file_handle *h, int *mount, int flags)
{
    NEEDED("name_to_handle_at", CALL_LOOK, int, -1,
           syscall(SYS_name_to_handle_at, dirfd, path, h, mount, flags));
}

/* Locks of shared volumes. */
EXPORT int fcntl(int fd, int command, ...)
{
    va_list ap;
    va_start(ap, command);
    void *arg = va_arg(ap, void *);
    va_end(ap);
    NEEDED("fcntl", CALL_LOOK, int, -1, syscall(SYS_fcntl, fd, command, arg));
}
ALIAS("fcntl") int fcntl64(int fd, int command, ...);

EXPORT int fstatfs(int fd, struct statfs *s)
{
    NEEDED("fstatfs", CALL_LOOK, int, -1, syscall(SYS_fstatfs, fd, s));
}
EXPORT int fstatfs64(int fd, struct statfs64 *s)
{
    return fstatfs(fd, (struct statfs *)s);
}

/* The only function of these whose structure is not the kernel's. */
EXPORT int fstatvfs64(int fd, struct statvfs64 *s)
{
    static int (*next)(int, struct statvfs64 *);
    if (!next)
        next = (int (*)(int, struct statvfs64 *))dlsym(RTLD_NEXT, "fstatvfs64");
    NEEDED("fstatvfs", CALL_LOOK, int, -1, next(fd, s));
}

EXPORT int faccessat(int dirfd, const char *path, int mode, int flags)
{
    NEEDED("faccessat", CALL_LOOK, int, -1, syscall(SYS_faccessat2, dirfd, path, mode, flags));
}

EXPORT ssize_t readlinkat(int dirfd, const char *path, char *buf, size_t len)
{
    NEEDED("readlink", CALL_LOOK, ssize_t, -1, syscall(SYS_readlinkat, dirfd, path, buf, len));
}

EXPORT ssize_t getdents64(int fd, void *buf, size_t len)
{
    NEEDED("getdents", CALL_LOOK, ssize_t, -1, syscall(SYS_getdents64, fd, buf, len));
}

EXPORT struct dirent64 *readdir64(DIR *d)
{
    static struct dirent64 *(*next)(DIR *);
    if (!next)
        next = (struct dirent64 * (*)(DIR *)) dlsym(RTLD_NEXT, "readdir64");
    NEEDED("readdir", CALL_LOOK, struct dirent64 *, NULL, next(d));
}

EXPORT int flock(int fd, int how)
{
    NEEDED("flock", CALL_LOOK, int, -1, syscall(SYS_flock, fd, how));
}

/* ---- attributes ---- */

EXPORT ssize_t fgetxattr(int fd, const char *name, void *value, size_t size)
{
    NEEDED("getxattr", CALL_LOOK, ssize_t, -1, syscall(SYS_fgetxattr, fd, name, value, size));
}

EXPORT ssize_t flistxattr(int fd, char *list, size_t size)
{
    NEEDED("listxattr", CALL_LOOK, ssize_t, -1, syscall(SYS_flistxattr, fd, list, size));
}

EXPORT int fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)
{
    SIMPLE("setxattr", CALL_ATTR, syscall(SYS_fsetxattr, fd, name, value, size, flags));
}

EXPORT int fremovexattr(int fd, const char *name)
{
    SIMPLE("removexattr", CALL_DROP, syscall(SYS_fremovexattr, fd, name));
}

EXPORT int fchmod(int fd, mode_t mode)
{
    SIMPLE("fchmod", CALL_ATTR, syscall(SYS_fchmod, fd, mode));
}

EXPORT int fchmodat(int dirfd, const char *path, mode_t mode, int flags)
{
    SIMPLE("fchmodat", CALL_ATTR, syscall(SYS_fchmodat, dirfd, path, mode));
}

EXPORT int chmod(const char *path, mode_t mode)
{
    return fchmodat(AT_FDCWD, path, mode, 0);
}

EXPORT int fchownat(int dirfd, const char *path, uid_t uid, gid_t gid, int flags)
{
    SIMPLE("fchown", CALL_ATTR, syscall(SYS_fchownat, dirfd, path, uid, gid, flags));
}

EXPORT int futimens(int fd, const struct timespec t[2])
{
    SIMPLE("futimens", CALL_ATTR, syscall(SYS_utimensat, fd, NULL, t, 0));
}

EXPORT int utimensat(int dirfd, const char *path, const struct timespec t[2], int flags)
{
    SIMPLE("utimensat", CALL_ATTR, syscall(SYS_utimensat, dirfd, path, t, flags));
}

long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f);
long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f)
{
    NEEDED("syscall", number == SYS_fchmodat2 ? CALL_ATTR : CALL_LOOK, long, -1,
           __real_syscall(number, a, b, c, d, e, f));
}
