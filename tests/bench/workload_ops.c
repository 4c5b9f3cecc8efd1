/* The workloads: each repeats one operation until there is no more to do. */
#include "workload.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NAME_BYTES 32

static int open_at(int dir, const char *name, int flags)
{
    int fd = openat(dir, name, flags | O_CLOEXEC, 0600);
    if (fd < 0)
        die(name);
    return fd;
}

static void must(const char *what, bool good)
{
    if (!good)
        die(what);
}

/* ---- one large file, DIR/stream, that all threads share ---- */

static int open_stream(struct job *j, int flags, uint64_t *blocks)
{
    struct stat st;
    const char *name = !faccessat(j->dir, "stream", F_OK, 0) ? "stream" : "../stream";
    int fd = open_at(j->dir, name, flags);
    must("fstat", !fstat(fd, &st));
    *blocks = (uint64_t)st.st_size / BLOCK;
    return fd;
}

/* A random block; or, with files=N, N blocks spread over the whole file, each once before any again. */
static off_t choose_block(struct job *j, uint64_t blocks)
{
    uint64_t block =
        j->files == UINT64_MAX ? next_random(j) % blocks : j->done * 97 % j->files * (blocks / j->files);
    return (off_t)(block * BLOCK);
}

/* With files=N it starts again after N MiB. */
static void seq_write(struct job *j)
{
    int fd = open_at(j->dir, "stream", O_CREAT | O_WRONLY | O_TRUNC);
    for (; more(j); j->done++)
        must("write", pwrite(fd, j->block, MIB, (off_t)(j->done % j->files) * MIB) == MIB);
    must("fsync", !fsync(fd));
    must("close", !close(fd));
}

static void seq_read(struct job *j)
{
    uint64_t blocks;
    int fd = open_stream(j, O_RDONLY, &blocks);
    for (ssize_t n = MIB; more(j) && n == MIB; j->done++) {
        n = read(fd, j->block, MIB);
        must("read", n >= 0);
        if (n < MIB)
            break;
    }
    close(fd);
}

static void random_read(struct job *j)
{
    uint64_t blocks;
    int fd = open_stream(j, O_RDONLY, &blocks);
    posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    for (; more(j); j->done++) {
        off_t off = choose_block(j, blocks);
        must("read", pread(fd, j->block, BLOCK, off) == BLOCK);
    }
    close(fd);
}

static void overwrite(struct job *j, bool sync)
{
    uint64_t blocks;
    int fd = open_stream(j, O_RDWR, &blocks);
    for (; more(j); j->done++) {
        off_t off = choose_block(j, blocks);
        must("write", pwrite(fd, j->block, BLOCK, off) == BLOCK);
        must("fdatasync", !sync || !fdatasync(fd));
    }
    must("fsync", !fsync(fd));
    must("close", !close(fd));
}

static void random_write(struct job *j)
{
    overwrite(j, false);
}

static void random_write_synced(struct job *j)
{
    overwrite(j, true);
}

static void append_synced(struct job *j)
{
    int fd = open_at(j->dir, "log", O_CREAT | O_WRONLY | O_APPEND);
    for (; more(j); j->done++) {
        must("append", write(fd, j->block, 100) == 100);
        must("fdatasync", !fdatasync(fd));
    }
    must("close", !close(fd));
}

/* Sets the length of DIR/stream to SIZE bytes: a hole. */
static void sparse(struct job *j)
{
    int fd = open_at(j->dir, "stream", O_CREAT | O_WRONLY);
    must("ftruncate", !ftruncate(fd, (off_t)j->size));
    must("close", !close(fd));
    j->done = 1;
}

/* ---- small files ---- */

static void name_of(char name[static NAME_BYTES], const char *kind, uint64_t i)
{
    snprintf(name, NAME_BYTES, "%s-%llu", kind, (unsigned long long)i);
}

static void create(struct job *j)
{
    char name[NAME_BYTES];
    for (; more(j); j->done++) {
        name_of(name, "file", j->first + j->done);
        int fd = open_at(j->dir, name, O_CREAT | O_WRONLY | O_EXCL);
        must("write", !j->size || write(fd, j->block, j->size) == (ssize_t)j->size);
        must("close", !close(fd));
    }
}

/* Empty files, in the cheapest way: what is timed is done with them later. */
static void make_names(struct job *j)
{
    char name[NAME_BYTES];
    for (; more(j); j->done++) {
        name_of(name, "file", j->first + j->done);
        if (!mknodat(j->dir, name, S_IFREG | 0600, 0))
            continue;
        must(name, errno == ENOSYS || errno == EOPNOTSUPP || errno == EPERM);
        close(open_at(j->dir, name, O_CREAT | O_WRONLY | O_EXCL));
    }
}

static void read_files(struct job *j)
{
    char name[NAME_BYTES];
    for (; more(j); j->done++) {
        name_of(name, "file", j->done % j->files);
        int fd = open_at(j->dir, name, O_RDONLY);
        must("read", read(fd, j->block, MIB) >= 0);
        close(fd);
    }
}

static void stat_files(struct job *j)
{
    char name[NAME_BYTES];
    struct stat st;
    for (; more(j); j->done++) {
        name_of(name, "file", next_random(j) % j->files);
        must(name, !fstatat(j->dir, name, &st, AT_SYMLINK_NOFOLLOW));
    }
}

static void rename_files(struct job *j)
{
    char from[NAME_BYTES], to[NAME_BYTES];
    for (; more(j) && j->done < j->files; j->done++) {
        name_of(from, "file", j->done);
        name_of(to, "name", j->done);
        must(from, !renameat(j->dir, from, j->dir, to));
    }
}

/* Files that `rename` left alone or renamed; any name goes. */
static void unlink_files(struct job *j)
{
    char name[NAME_BYTES];
    for (; more(j) && j->done < j->files; j->done++) {
        name_of(name, "name", j->done);
        if (!unlinkat(j->dir, name, 0))
            continue;
        name_of(name, "file", j->done);
        must(name, !unlinkat(j->dir, name, 0));
    }
}

static void make_dirs(struct job *j)
{
    char name[NAME_BYTES];
    for (; more(j); j->done++) {
        name_of(name, "dir", j->done);
        must(name, !mkdirat(j->dir, name, 0700));
    }
}

/* Lists the directory once; done counts its names, and with the attributes of each if asked for. */
static void walk_once(struct job *j, bool attributes)
{
    struct stat st;
    DIR *d = fdopendir(openat(j->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    must("opendir", d != NULL);
    for (struct dirent *e; (e = readdir(d)); j->done++)
        if (attributes)
            must(e->d_name, !fstatat(j->dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW));
    closedir(d);
}

static void stat_walk(struct job *j)
{
    do
        walk_once(j, true);
    while (more(j));
}

static void list(struct job *j)
{
    do
        walk_once(j, false);
    while (more(j));
}

/* ---- beside a mount ---- */

/* Thread N is bound to processor N and counts as far as it gets. */
static void compute(struct job *j)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(j->id, &set);
    sched_setaffinity(0, sizeof set, &set);
    for (; more(j); j->done++)
        for (unsigned i = 0; i < 20000; i++)
            next_random(j);
}

static void ask(struct job *j)
{
    char name[NAME_BYTES];
    struct stat st;
    name_of(name, "missing", j->done);
    fstatat(j->dir, name, &st, AT_SYMLINK_NOFOLLOW);
}

/* Names that are not there and were not asked for before: one request each, whatever the kernel caches. */
static void missing(struct job *j)
{
    for (; more(j); j->done++)
        ask(j);
}

/* A program that asks now and then, each millisecond. */
static void paced(struct job *j)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    for (; more(j); j->done++) {
        ask(j);
        nanosleep(&pause, NULL);
    }
}

const struct workload workloads[] = {
    {"seqwrite", seq_write},   {"seqread", seq_read},
    {"randread", random_read}, {"randwrite", random_write},
    {"append", append_synced}, {"randsync", random_write_synced},
    {"sparse", sparse},        {"create", create},
    {"names", make_names},     {"read", read_files},
    {"stat", stat_files},      {"rename", rename_files},
    {"unlink", unlink_files},  {"mkdir", make_dirs},
    {"walk", stat_walk},       {"list", list},
    {"compute", compute},      {"paced", paced},
    {"missing", missing},      {NULL, NULL},
};
