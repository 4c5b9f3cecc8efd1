/* Reading what lies in place of one group of chunks: their records and their ciphertext. */
#ifndef LATCHFS_STORE_FILE_PLACED_H
#define LATCHFS_STORE_FILE_PLACED_H

#include "fs/store/file.h"

/* In buffers, with how much of them the backing file has. */
struct placed_run {
    const uint8_t *records; /* of the first chunk */
    uint64_t records_have;  /* bytes */
    const uint8_t *data;    /* of the first chunk, others follow by pages */
    uint64_t data_have;
};

struct placed_want {
    uint64_t first; /* count chunks of one group */
    uint32_t count;
    uint8_t *data; /* len bytes: as many pages, the last may be cut */
    size_t len;
};

/* records: for what is read of the tag page (lock held). */
int placed_read(int fd, const struct placed_want *w, uint8_t records[static PAGE_BYTES],
                struct placed_run *run);

/* The file's first len bytes; how many there are. -EAGAIN only while it is loaded in haste (lock held for
 * writing, placed_length known). */
ssize_t placed_read_head(const struct file *f, int fd, uint8_t *page, size_t len);

/* As placed_read, but -EAGAIN where not all of it is in the page cache; the disk has been asked for it then.
 * Where the backing filesystem cannot say, it waits. */
int placed_read_now(const struct file *f, int fd, const struct placed_want *w,
                    uint8_t records[static PAGE_BYTES], struct placed_run *run);

#endif
