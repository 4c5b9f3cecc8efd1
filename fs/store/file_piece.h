/* One piece of a write on its way to a paged file: its chunks sealed, with their records and CRCs.
 *
 * What a whole chunk is sealed to depends on nothing but the key, so that whole chunks are sealed before the
 * file is locked: other writers of the file go on meanwhile. */
#ifndef LATCHFS_STORE_FILE_PIECE_H
#define LATCHFS_STORE_FILE_PIECE_H

#include "fs/store/file.h"

struct piece {
    struct file *f;
    uint64_t first; /* chunk */
    uint32_t count;
    uint8_t *cipher; /* the thread's scratch buffer: chunk i at i * PAGE_BYTES */

    uint32_t ahead_from, ahead_to; /* chunks sealed before the lock: [from, to) of 0..count */
    struct key_name ahead;         /* the key that they are under */

    uint32_t crcs[FILE_PIECE_CHUNKS];
    uint8_t records[FILE_PIECE_CHUNKS * RECORD_BYTES];
};

/* How much of len bytes at off is one piece. */
static inline size_t piece_length(uint64_t off, size_t len)
{
    uint64_t most = (off / PAGE_BYTES + FILE_PIECE_CHUNKS) * PAGE_BYTES - off;
    return len < most ? len : (size_t)most;
}

/* [off, off + len) of f; nothing is sealed yet. p may be uninitialized. */
void piece_begin(struct piece *p, struct file *f, size_t len, uint64_t off);

/* Without the file's lock: seals the whole chunks, if the file's key is in memory. The scratch buffer is the
 * piece's from here on. */
void piece_seal_ahead(struct piece *p, const uint8_t *buf, size_t len, uint64_t off);

/* With the write lock: seals what is not sealed yet under the newest key of h; the first and the last chunk
 * with what surrounds the write in them. fd: of the file. */
int piece_seal(struct piece *p, int fd, const struct file_header *h, const uint8_t *buf, size_t len,
               uint64_t off);

static inline const uint8_t *piece_record(const struct piece *p, uint32_t i)
{
    return p->records + (size_t)i * RECORD_BYTES;
}

static inline uint8_t *piece_cipher(const struct piece *p, uint32_t i)
{
    return p->cipher + (size_t)i * PAGE_BYTES;
}

#endif
