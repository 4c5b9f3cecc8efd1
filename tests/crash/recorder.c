/* Preloaded into a program that works on a backing directory: writes every change of it into a trace
 * (trace.h). Environment:
 *   CRASH_ROOT    the backing directory, an absolute path
 *   CRASH_TRACE   the trace file; without it nothing is recorded
 *   CRASH_INODES  "inode path" lines: numbers to show for files that were copied from elsewhere, so that a
 *                 rebuilt state looks to the program as the original would after a power cut
 *
 * Syncs are recorded at their begin and their end, and not done. For 64-bit Linux only. */
#include "recorder.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#undef syscall
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

typedef long (*syscall_fn)(long number, ...);

static syscall_fn real_syscall(void)
{
    static syscall_fn fn;
    if (!fn)
        fn = (syscall_fn)dlsym(RTLD_NEXT, "syscall");
    return fn;
}

long rec_syscall(long number, ...)
{
    long a[6];
    va_list ap;
    va_start(ap, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(ap, long);
    va_end(ap);
    return real_syscall()(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

EXPORT long syscall(long number, ...)
{
    long a[6];
    va_list ap;
    va_start(ap, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(ap, long);
    va_end(ap);
    if (number != SYS_fchmodat2)
        return real_syscall()(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    return rec_fchmodat2((int)a[0], (const char *)a[1], (mode_t)a[2], (int)a[3]);
}
#define syscall rec_syscall

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static dev_t root_dev;
static int trace_fd = -1;

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

int rec_stat(int fd, const char *path, int flags, struct stat *st)
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
        if (!grown || rec_stat(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, &st))
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
    if (!r || !realpath(r, root) || rec_stat(AT_FDCWD, root, 0, &st))
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

/* A daemon closes what its caller left open; the trace stays. */
EXPORT int close_range(unsigned first, unsigned last, int flags)
{
    unsigned trace = (unsigned)trace_fd;
    if (trace_fd < 0 || trace < first || trace > last)
        return (int)syscall(SYS_close_range, first, last, flags);
    int r = trace > first ? (int)syscall(SYS_close_range, first, trace - 1, flags) : 0;
    return r || trace == last ? r : (int)syscall(SYS_close_range, trace + 1, last, flags);
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

bool rec_of_fd(int fd, uint64_t *ino)
{
    struct stat st;
    if (trace_fd < 0 || rec_stat(fd, "", AT_EMPTY_PATH, &st) || st.st_dev != root_dev || !fd_inside(fd))
        return false;
    *ino = shown_ino(st.st_ino);
    return true;
}

bool rec_of_path(int dirfd, const char *path, uint64_t *dir, const char **name)
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
    bool in = rec_of_fd(fd, dir);
    syscall(SYS_close, fd);
    return in;
}

uint64_t rec_ino_at(int dirfd, const char *path)
{
    struct stat st;
    return rec_stat(dirfd, path, AT_SYMLINK_NOFOLLOW, &st) ? 0 : shown_ino(st.st_ino);
}

/* ---- writing the trace ---- */

void rec_put(uint32_t type, const uint64_t *fields, int field_n, const struct iovec *tail, int tail_n)
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

struct iovec rec_text(const char *s)
{
    return (struct iovec){(void *)(uintptr_t)s, strlen(s)};
}

void rec_begin(void)
{
    pthread_mutex_lock(&lock);
}

/* Ends a call: its result, with its errno. */
long rec_end(long r)
{
    int saved = errno;
    pthread_mutex_unlock(&lock);
    errno = saved;
    return r;
}

void rec_unmodelled(int fd, const char *call)
{
    uint64_t ino;
    struct iovec name = rec_text(call);
    if (rec_of_fd(fd, &ino))
        rec_put(TRACE_UNMODELLED, NULL, 0, &name, 1);
}

bool rec_active(void)
{
    return trace_fd >= 0;
}

/* ---- inode numbers as the program sees them ---- */

static int stat_call(int dirfd, const char *path, struct stat *st, int flags)
{
    int r = rec_stat(dirfd, path, flags, st);
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
    if (e && mapping && rec_stat(dirfd(d), "", AT_EMPTY_PATH, &st) == 0 && st.st_dev == root_dev)
        e->d_ino = shown_ino(e->d_ino);
    return e;
}

EXPORT struct dirent64 *readdir64(DIR *d)
{
    return (struct dirent64 *)readdir(d);
}
