/* The recorder's sources among themselves. To be included before anything else: what is defined here must be
 * the plain functions, not what the headers make of their names for large files or fortified calls. */
#ifndef LATCHFS_CRASH_RECORDER_H
#define LATCHFS_CRASH_RECORDER_H

#undef _FILE_OFFSET_BITS
#undef _FORTIFY_SOURCE
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "trace.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* What of the kernel libc has no function for comes through syscall(), which is recorded too (recorder.c). */
long rec_syscall(long number, ...);
#define syscall rec_syscall

#define EXPORT __attribute__((visibility("default")))
/* The same function under the name that programs with 64-bit offsets call. */
#define ALIAS(name) __attribute__((alias(name), visibility("default")))

/* One lock around each call that changes something and its record: the order of the trace is the order of the
 * changes. rec_end answers r and keeps errno. */
void rec_begin(void);
long rec_end(long r);

/* Within that: whether the descriptor stands for something in the backing directory, and for what. */
bool rec_of_fd(int fd, uint64_t *ino);
/* Splits a path into its directory, when that lies in the backing directory, and its last part. */
bool rec_of_path(int dirfd, const char *path, uint64_t *dir, const char **name);
uint64_t rec_ino_at(int dirfd, const char *path);                   /* 0: nothing there */
int rec_stat(int fd, const char *path, int flags, struct stat *st); /* the real one */

/* A record: its type, numbers, and pieces behind them. */
void rec_put(uint32_t type, const uint64_t *fields, int field_n, const struct iovec *tail, int tail_n);
#define REC_PUT(type, tail, tail_n, ...)           \
    rec_put(type, (const uint64_t[]){__VA_ARGS__}, \
            (int)(sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t)), tail, tail_n)
struct iovec rec_text(const char *s);
bool rec_active(void);
int rec_fchmodat2(int dirfd, const char *path, mode_t mode, int flags);

/* The call changes what fd stands for in a way that the lab knows nothing of. */
void rec_unmodelled(int fd, const char *call);

#endif
