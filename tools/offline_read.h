/* The content of a regular file from begin to end, with what is a hole and what can't be read told apart. */
#ifndef TOOLS_OFFLINE_READ_H
#define TOOLS_OFFLINE_READ_H

#include "latchfs/store.h"

struct offline_read {
    /* In order. An error ends the reading, which returns it. hole may be NULL: holes then come as zeros. */
    int (*data)(void *arg, const void *buf, size_t len, uint64_t off);
    int (*hole)(void *arg, uint64_t off, uint64_t len);
    /* A range that could not be read: chunks that are damaged (err: LFS_ERR_AUTH, _CORRUPT) or that the
     * system did not give (-EIO). After the first one nothing more goes to data and hole, unless: */
    void (*damage)(void *arg, uint64_t off, uint64_t len, int err);
    bool zero_damaged; /* such ranges come as zeros, and the rest as it is */
    void *arg;
};

/* Reads all size bytes. *damaged: how many of them could not be read. 0, or what a callback returned, or an
 * error of the whole file. */
int offline_read(struct node *n, uint64_t size, const struct offline_read *r, uint64_t *damaged);

#endif
