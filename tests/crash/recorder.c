/* Preloaded into a program that works on a backing directory: writes every change of it into a trace
 * (trace.h). Environment:
 *   CRASH_ROOT    the backing directory, an absolute path
 *   CRASH_TRACE   the trace file; without it nothing is recorded
 *   CRASH_INODES  "inode path" lines: numbers to show for files that were copied from elsewhere, so that a
 *                 rebuilt state looks to the program as the original would after a power cut
 *
 * One lock is held across each call and its record, so the order of the trace is the order of the changes.
 * Syncs are recorded at their begin and their end, and not done. For 64-bit Linux only. */
#undef _FILE_OFFSET_BITS
#undef _FORTIFY_SOURCE
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "trace.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
/* The same function under the name that programs with 64-bit offsets call. */
#define ALIAS(name) __attribute__((alias(name), visibility("default")))

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static dev_t root_dev;
static int trace_fd = -1;
static uint64_t sync_number;

/* ---- inode numbers ---- */

/* Numbers that stand in no map are new files: above everything that a map may hold. */
#define NEW_INODE (UINT64_C(1) << 40)

struct mapped {
    uint64_t real, shown;
};
static struct mapped *map;
static size_t map_count;
static bool mapping;

static int by_real(const void *a, const void *b)
{
    const struct mapped *x = a, *y = b;
    return x->real < y->real ? -1 : x->real > y->real;
}

static uint64_t shown_ino(uint64_t real)
{
    struct mapped key = {.real = real};
    if (!mapping)
        return real;
    const struct mapped *m = map_count ? bsearch(&key, map, map_count, sizeof *map, by_real) : NULL;
    return m ? m->shown : real + NEW_INODE;
}

static int raw_stat(int fd, const char *path, int flags, struct stat *st)
{
    return (int)syscall(SYS_newfstatat, fd, path, st, flags);
}

static void load_map(const char *file)
{
    FILE *f = fopen(file, "re");
    char line[PATH_MAX + 32], path[2 * PATH_MAX];
    if (!f)
        return;
    mapping = true;
    while (fgets(line, sizeof line, f)) {
        char *name;
        struct stat st;
        uint64_t shown = strtoull(line, &name, 10);
        line[strcspn(line, "\n")] = '\0';
        snprintf(path, sizeof path, "%s/%s", root, *name ? name + 1 : "");
        struct mapped *grown = realloc(map, (map_count + 1) * sizeof *map);
        if (!grown || raw_stat(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, &st))
            abort();
        map = grown;
        map[map_count++] = (struct mapped){st.st_ino, shown};
    }
    fclose(f);
    if (map_count)
        qsort(map, map_count, sizeof *map, by_real);
}

__attribute__((constructor)) static void start(void)
{
    const char *r = getenv("CRASH_ROOT"), *t = getenv("CRASH_TRACE"), *m = getenv("CRASH_INODES");
    struct stat st;
    if (!r || !realpath(r, root) || raw_stat(AT_FDCWD, root, 0, &st))
        return;
    root_dev = st.st_dev;
    if (m)
        load_map(m);
    if (!t)
        return;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, t, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    trace_fd = fd < 0 ? fd : fcntl(fd, F_DUPFD_CLOEXEC, 200);
    if (trace_fd < 0)
        abort();
    close(fd);
}

/* ---- what belongs to the backing directory ---- */

static bool fd_inside(int fd)
{
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    size_t len = strlen(root);
    if (n < (ssize_t)len)
        return false;
    path[n] = '\0';
    return !strncmp(path, root, len) && (path[len] == '\0' || path[len] == '/');
}

/* What the descriptor stands for, when it lies in the backing directory. */
static bool of_fd(int fd, uint64_t *ino)
{
    struct stat st;
    if (trace_fd < 0 || raw_stat(fd, "", AT_EMPTY_PATH, &st) || st.st_dev != root_dev || !fd_inside(fd))
        return false;
    *ino = shown_ino(st.st_ino);
    return true;
}

/* Splits a path into its directory, when that lies in the backing directory, and its last part. */
static bool of_path(int dirfd, const char *path, uint64_t *dir, const char **name)
{
    const char *slash = strrchr(path, '/');
    char parent[PATH_MAX];
    snprintf(parent, sizeof parent, "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
    *name = slash ? slash + 1 : path;
    if (trace_fd < 0)
        return false;
    int fd = (int)syscall(SYS_openat, dirfd, parent, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0)
        return false;
    bool in = of_fd(fd, dir);
    syscall(SYS_close, fd);
    return in;
}

static uint64_t ino_at(int dirfd, const char *path)
{
    struct stat st;
    return raw_stat(dirfd, path, AT_SYMLINK_NOFOLLOW, &st) ? 0 : shown_ino(st.st_ino);
}

/* ---- writing the trace ---- */

static void put(uint32_t type, const uint64_t *fields, int field_n, const struct iovec *tail, int tail_n)
{
    uint32_t head[2] = {(uint32_t)((size_t)field_n * sizeof *fields), type};
    struct iovec iov[IOV_MAX];
    int n = 2;
    iov[0] = (struct iovec){head, sizeof head};
    iov[1] = (struct iovec){(void *)(uintptr_t)fields, (size_t)field_n * sizeof *fields};
    for (int i = 0; i < tail_n && n < IOV_MAX; i++) {
        iov[n++] = tail[i];
        head[0] += (uint32_t)tail[i].iov_len;
    }
    ssize_t want = (ssize_t)(sizeof head + head[0]);
    if (syscall(SYS_writev, trace_fd, iov, n) != want)
        abort(); /* a trace with a gap proves nothing */
}

#define PUT(type, tail, tail_n, ...)                                                                        \
    put(type, (uint64_t[]){__VA_ARGS__}, (int)(sizeof((uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t)), tail, \
        tail_n)

static struct iovec text(const char *s)
{
    return (struct iovec){(void *)(uintptr_t)s, strlen(s)};
}

static void begin(void)
{
    pthread_mutex_lock(&lock);
}

/* Ends a call: its result, with its errno. */
static long end(long r)
{
    int saved = errno;
    pthread_mutex_unlock(&lock);
    errno = saved;
    return r;
}

static void unmodelled(int fd, const char *call)
{
    uint64_t ino;
    struct iovec name = text(call);
    if (of_fd(fd, &ino))
        put(TRACE_UNMODELLED, NULL, 0, &name, 1);
}

/* ---- contents ---- */

static void wrote(int fd, const struct iovec *iov, int n, off_t at, long done)
{
    uint64_t ino;
    struct iovec some[IOV_MAX];
    int k = 0;
    if (done <= 0 || !of_fd(fd, &ino))
        return;
    for (size_t left = (size_t)done; left && k < n; k++) {
        some[k] = iov[k];
        if (some[k].iov_len > left)
            some[k].iov_len = left;
        left -= some[k].iov_len;
    }
    PUT(TRACE_WRITE, some, k, ino, (uint64_t)at);
}

EXPORT ssize_t pwrite(int fd, const void *buf, size_t len, off_t at)
{
    struct iovec iov = {(void *)(uintptr_t)buf, len};
    begin();
    long r = syscall(SYS_pwrite64, fd, buf, len, at);
    wrote(fd, &iov, 1, at, r);
    return end(r);
}
ALIAS("pwrite") ssize_t pwrite64(int fd, const void *buf, size_t len, off64_t at);

/* The record's own pieces take two of what a call may have. */
EXPORT ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t at)
{
    n = n < IOV_MAX - 2 ? n : IOV_MAX - 2;
    begin();
    long r = syscall(SYS_pwritev, fd, iov, n, at, 0);
    wrote(fd, iov, n, at, r);
    return end(r);
}
ALIAS("pwritev") ssize_t pwritev64(int fd, const struct iovec *iov, int n, off64_t at);

EXPORT ssize_t pwritev2(int fd, const struct iovec *iov, int n, off_t at, int flags)
{
    return pwritev(fd, iov, n, at);
}
ALIAS("pwritev2") ssize_t pwritev64v2(int fd, const struct iovec *iov, int n, off64_t at, int flags);

EXPORT ssize_t writev(int fd, const struct iovec *iov, int n)
{
    begin();
    long r = syscall(SYS_writev, fd, iov, n);
    uint64_t ino;
    if (r > 0 && of_fd(fd, &ino)) {
        off_t at = lseek(fd, 0, SEEK_CUR) - r; /* with O_APPEND too: the offset is behind what was written */
        wrote(fd, iov, n, at, r);
    }
    return end(r);
}

EXPORT ssize_t write(int fd, const void *buf, size_t len)
{
    struct iovec iov = {(void *)(uintptr_t)buf, len};
    if (fd != TRACE_MARK_FD)
        return writev(fd, &iov, 1);
    begin();
    if (trace_fd >= 0)
        put(TRACE_MARK, NULL, 0, &iov, 1);
    return end((long)len);
}

EXPORT int ftruncate(int fd, off_t len)
{
    uint64_t ino;
    begin();
    long r = syscall(SYS_ftruncate, fd, len);
    if (!r && of_fd(fd, &ino))
        PUT(TRACE_TRUNCATE, NULL, 0, ino, (uint64_t)len);
    return (int)end(r);
}
ALIAS("ftruncate") int ftruncate64(int fd, off64_t len);

EXPORT int fallocate(int fd, int mode, off_t at, off_t len)
{
    uint64_t ino;
    begin();
    long r = syscall(SYS_fallocate, fd, mode, at, len);
    if (!r && of_fd(fd, &ino))
        PUT(TRACE_FALLOCATE, NULL, 0, ino, (uint64_t)mode, (uint64_t)at, (uint64_t)len);
    return (int)end(r);
}
ALIAS("fallocate") int fallocate64(int fd, int mode, off64_t at, off64_t len);

EXPORT int posix_fallocate(int fd, off_t at, off_t len)
{
    return fallocate(fd, 0, at, len) ? errno : 0;
}
ALIAS("posix_fallocate") int posix_fallocate64(int fd, off64_t at, off64_t len);

EXPORT ssize_t copy_file_range(int in, off64_t *in_at, int out, off64_t *out_at, size_t len, unsigned flags)
{
    begin();
    long r = syscall(SYS_copy_file_range, in, in_at, out, out_at, len, flags);
    unmodelled(out, "copy_file_range");
    return end(r);
}

EXPORT void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t at)
{
    if (fd < 0 || !(flags & MAP_SHARED) || !(prot & PROT_WRITE))
        return (void *)syscall(SYS_mmap, addr, len, prot, flags, fd, at);
    begin();
    unmodelled(fd, "mmap");
    return (void *)end(syscall(SYS_mmap, addr, len, prot, flags, fd, at));
}
ALIAS("mmap") void *mmap64(void *addr, size_t len, int prot, int flags, int fd, off64_t at);

/* ---- syncs ---- */

static int do_sync(int fd, enum trace_sync kind)
{
    uint64_t ino;
    struct stat st;
    begin();
    if (raw_stat(fd, "", AT_EMPTY_PATH, &st))
        return (int)end(-1);
    bool in = of_fd(fd, &ino);
    uint64_t number = ++sync_number;
    if (in)
        PUT(TRACE_SYNC_BEGIN, NULL, 0, number, (uint64_t)kind, ino);
    end(0);
    sched_yield(); /* so that other threads come in between, as they would */
    begin();
    if (in)
        PUT(TRACE_SYNC_END, NULL, 0, number);
    return (int)end(0);
}

EXPORT int fsync(int fd)
{
    return do_sync(fd, SYNC_FILE);
}

EXPORT int fdatasync(int fd)
{
    return do_sync(fd, SYNC_DATA);
}

EXPORT int syncfs(int fd)
{
    return do_sync(fd, SYNC_ALL);
}

/* Promises nothing about a power cut. */
EXPORT int sync_file_range(int fd, off64_t at, off64_t len, unsigned flags)
{
    return 0;
}

/* ---- names ---- */

static int do_open(int dirfd, const char *path, int flags, mode_t mode)
{
    uint64_t dir, ino;
    const char *name;
    struct stat st;
    bool creates = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
    if (!creates && !(flags & O_TRUNC))
        return (int)syscall(SYS_openat, dirfd, path, flags, mode);
    begin();
    bool there = raw_stat(dirfd, path, 0, &st) == 0;
    long r = syscall(SYS_openat, dirfd, path, flags, mode);
    if (r >= 0 && (flags & O_TMPFILE) == O_TMPFILE) {
        unmodelled((int)r, "O_TMPFILE");
    } else if (r >= 0 && !there && of_path(dirfd, path, &dir, &name)) {
        struct iovec iov = text(name);
        PUT(TRACE_CREATE, &iov, 1, dir, ino_at(dirfd, path), S_IFREG | mode);
    } else if (r >= 0 && there && (flags & O_TRUNC) && of_fd((int)r, &ino)) {
        PUT(TRACE_TRUNCATE, NULL, 0, ino, 0);
    }
    return (int)end(r);
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

static int made(long r, uint32_t type, int dirfd, const char *path, mode_t mode)
{
    uint64_t dir;
    const char *name;
    if (!r && of_path(dirfd, path, &dir, &name)) {
        struct iovec iov = text(name);
        PUT(type, &iov, 1, dir, ino_at(dirfd, path), mode);
    }
    return (int)end(r);
}

EXPORT int mknodat(int dirfd, const char *path, mode_t mode, dev_t dev)
{
    begin();
    return made(syscall(SYS_mknodat, dirfd, path, mode, dev), TRACE_CREATE, dirfd, path, mode);
}

EXPORT int mknod(const char *path, mode_t mode, dev_t dev)
{
    return mknodat(AT_FDCWD, path, mode, dev);
}

EXPORT int mkdirat(int dirfd, const char *path, mode_t mode)
{
    begin();
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
    begin();
    long r = syscall(SYS_symlinkat, target, dirfd, path);
    if (!r && of_path(dirfd, path, &dir, &name)) {
        struct iovec iov[] = {text(name), text(target)};
        PUT(TRACE_SYMLINK, iov, 2, dir, ino_at(dirfd, path), iov[0].iov_len);
    }
    return (int)end(r);
}

EXPORT int symlink(const char *target, const char *path)
{
    return symlinkat(target, AT_FDCWD, path);
}

EXPORT int linkat(int dirfd, const char *path, int newdirfd, const char *newpath, int flags)
{
    uint64_t dir;
    const char *name;
    begin();
    long r = syscall(SYS_linkat, dirfd, path, newdirfd, newpath, flags);
    if (!r && of_path(newdirfd, newpath, &dir, &name)) {
        struct iovec iov = text(name);
        PUT(TRACE_LINK, &iov, 1, dir, ino_at(newdirfd, newpath));
    }
    return (int)end(r);
}

EXPORT int link(const char *path, const char *newpath)
{
    return linkat(AT_FDCWD, path, AT_FDCWD, newpath, 0);
}

EXPORT int unlinkat(int dirfd, const char *path, int flags)
{
    uint64_t dir;
    const char *name;
    begin();
    uint64_t ino = ino_at(dirfd, path);
    long r = syscall(SYS_unlinkat, dirfd, path, flags);
    if (!r && of_path(dirfd, path, &dir, &name)) {
        struct iovec iov = text(name);
        PUT(flags & AT_REMOVEDIR ? TRACE_RMDIR : TRACE_UNLINK, &iov, 1, dir, ino);
    }
    return (int)end(r);
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
    begin();
    long r = syscall(SYS_renameat2, dirfd, path, newdirfd, newpath, flags);
    if (!r && of_path(dirfd, path, &dir, &name) && of_path(newdirfd, newpath, &newdir, &newname)) {
        struct iovec iov[] = {text(name), text(newname)};
        PUT(TRACE_RENAME, iov, 2, dir, newdir, flags, iov[0].iov_len);
    }
    return (int)end(r);
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
    begin();
    long r = syscall(SYS_fsetxattr, fd, name, value, size, flags);
    if (!r && of_fd(fd, &ino)) {
        struct iovec iov[] = {text(name), {(void *)(uintptr_t)value, size}};
        PUT(TRACE_SETXATTR, iov, 2, ino, iov[0].iov_len);
    }
    return (int)end(r);
}

EXPORT int fremovexattr(int fd, const char *name)
{
    uint64_t ino;
    begin();
    long r = syscall(SYS_fremovexattr, fd, name);
    if (!r && of_fd(fd, &ino)) {
        struct iovec iov = text(name);
        PUT(TRACE_REMOVEXATTR, &iov, 1, ino);
    }
    return (int)end(r);
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
    begin();
    long r = syscall(SYS_fchmod, fd, mode);
    if (!r && of_fd(fd, &ino))
        PUT(TRACE_CHMOD, NULL, 0, ino, mode);
    return (int)end(r);
}

EXPORT int fchmodat(int dirfd, const char *path, mode_t mode, int flags)
{
    uint64_t dir;
    const char *name;
    begin();
    long r = syscall(SYS_fchmodat, dirfd, path, mode);
    if (!r && of_path(dirfd, path, &dir, &name))
        PUT(TRACE_CHMOD, NULL, 0, ino_at(dirfd, path), mode);
    return (int)end(r);
}

/* ---- inode numbers as the program sees them ---- */

static int stat_call(int dirfd, const char *path, struct stat *st, int flags)
{
    int r = raw_stat(dirfd, path, flags, st);
    if (!r && mapping && st->st_dev == root_dev)
        st->st_ino = shown_ino(st->st_ino);
    return r;
}

EXPORT int fstatat(int dirfd, const char *path, struct stat *st, int flags)
{
    return stat_call(dirfd, path, st, flags);
}
EXPORT int fstat(int fd, struct stat *st)
{
    return stat_call(fd, "", st, AT_EMPTY_PATH);
}
EXPORT int stat(const char *path, struct stat *st)
{
    return stat_call(AT_FDCWD, path, st, 0);
}
EXPORT int lstat(const char *path, struct stat *st)
{
    return stat_call(AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW);
}

/* struct stat64 is struct stat here; the compiler can't know. */
EXPORT int fstatat64(int dirfd, const char *path, struct stat64 *st, int flags)
{
    return stat_call(dirfd, path, (struct stat *)st, flags);
}
EXPORT int fstat64(int fd, struct stat64 *st)
{
    return stat_call(fd, "", (struct stat *)st, AT_EMPTY_PATH);
}
EXPORT int stat64(const char *path, struct stat64 *st)
{
    return stat_call(AT_FDCWD, path, (struct stat *)st, 0);
}
EXPORT int lstat64(const char *path, struct stat64 *st)
{
    return stat_call(AT_FDCWD, path, (struct stat *)st, AT_SYMLINK_NOFOLLOW);
}

EXPORT struct dirent *readdir(DIR *d)
{
    static struct dirent *(*next)(DIR *);
    struct stat st;
    if (!next)
        next = (struct dirent * (*)(DIR *)) dlsym(RTLD_NEXT, "readdir");
    struct dirent *e = next(d);
    if (e && mapping && raw_stat(dirfd(d), "", AT_EMPTY_PATH, &st) == 0 && st.st_dev == root_dev)
        e->d_ino = shown_ino(e->d_ino);
    return e;
}

EXPORT struct dirent64 *readdir64(DIR *d)
{
    return (struct dirent64 *)readdir(d);
}
