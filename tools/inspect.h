/* latch inspect: one printer per kind of ciphertext file. No key; every byte is hostile. Each prints to
 * standard output what it could read, its error itself, and returns an exit code. */
#ifndef TOOLS_INSPECT_H
#define TOOLS_INSPECT_H

#include "cli.h"

#include <stdint.h>
#include <sys/types.h>

struct inspected {
    const char *path; /* quoted, for messages */
    const char *name; /* last component of path */
    int dirfd;        /* the directory it stands in */
    int fd;           /* -1 for a symbolic link */
    uint64_t length;
    uint8_t head[512]; /* the first bytes, zeros behind the end */
};

int inspect_keystore(const struct inspected *f);
int inspect_journal(const struct inspected *f);
int inspect_dirrec(const struct inspected *f);
int inspect_file(const struct inspected *f);    /* header and content */
int inspect_sidecar(const struct inspected *f); /* latchfs.long.*.name */
int inspect_link_sidecar(const struct inspected *f);
int inspect_symlink(const struct inspected *f);

/* "latch: PATH: corrupt: why" and LFS_EXIT_CORRUPT. */
int inspect_corrupt(const struct inspected *f, const char *why);
/* The same for an error of a decoder, and with the line it stands in. */
int inspect_fail(const struct inspected *f, int err);
int inspect_fail_line(const struct inspected *f, int err, unsigned line);

/* One line "label: value". */
void inspect_line(const char *label, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void inspect_id(const char *label, const uint8_t id[static 16]);
void inspect_hex(const char *label, const uint8_t *bytes, size_t len);
void inspect_time(const char *label, uint64_t seconds);

#endif
