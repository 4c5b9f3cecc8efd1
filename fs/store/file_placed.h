/* Reading what lies in place of one group of chunks: their records and their ciphertext. */
#ifndef LATCHFS_STORE_FILE_PLACED_H
#define LATCHFS_STORE_FILE_PLACED_H

#include "fs/store/file.h"

/* In a buffer: an image of the tag page and the data pages, with how much of them the backing file has. */
struct placed_run {
    const uint8_t *records; /* of the first chunk */
    uint64_t records_have;  /* bytes */
    const uint8_t *data;
    uint64_t data_have;
};

/* Chunks [first, first + count) of one group into buf, (count + 1) pages at least and GROUP_RECORDS + 1 at
 * most (lock held). */
int placed_read(int fd, uint64_t first, uint32_t count, uint8_t *buf, struct placed_run *run);

/* The same, but -EAGAIN where not all of it is in the page cache; the disk has been asked for it then. Where
 * the backing filesystem cannot say, it waits. */
int placed_read_now(const struct file *f, int fd, uint64_t first, uint32_t count, uint8_t *buf,
                    struct placed_run *run);

#endif
