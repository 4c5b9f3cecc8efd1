#ifndef LATCHFS_STORE_AHEAD_H
#define LATCHFS_STORE_AHEAD_H

/* Reading long directories ahead: a thread of the process asks the backing filesystem for the next entries
 * while those of before are decrypted and answered. It has ciphertext only. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define AHEAD_BYTES 32768u

/* Belongs to one directory stream, whose lock guards the calls. All zero: nothing is asked for. */
struct ahead {
    char *buf;
    int fd;
    uint64_t first; /* position in the directory where it begins */
    ssize_t len;
    enum { AHEAD_NONE, AHEAD_ASKED, AHEAD_READING, AHEAD_READY } state;
    struct ahead *next;
};

/* Has the entries at the position of fd read; only while nothing is asked for. fd is not used otherwise until
 * ahead_take. Where it can't be done nothing happens. */
void ahead_ask(struct ahead *a, int fd);

/* Waits for what was asked for, if it is being read, and ends the asking. True: buf has len bytes (0: the end
 * of the directory) of what stands at first. */
bool ahead_take(struct ahead *a);

/* The same, and gives the memory back. */
void ahead_clear(struct ahead *a);

#endif
