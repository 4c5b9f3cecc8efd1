#include "offline_read.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_BYTES (1u << 20)

struct reader {
    struct node *n;
    const struct offline_read *r;
    uint8_t *buf; /* PIECE_BYTES */
    uint64_t damaged;
    uint64_t bad_at, bad_len; /* the range that is being gathered */
    int bad_err;
};

static bool is_damage(ssize_t err)
{
    return err == LFS_ERR_AUTH || err == LFS_ERR_CORRUPT || err == -EIO;
}

static bool dropped(const struct reader *p)
{
    return p->damaged && !p->r->zero_damaged;
}

static void say_range(struct reader *p)
{
    if (p->bad_len)
        p->r->damage(p->r->arg, p->bad_at, p->bad_len, p->bad_err);
    p->bad_len = 0;
}

static int give(struct reader *p, size_t len, uint64_t off)
{
    return dropped(p) ? 0 : p->r->data(p->r->arg, p->buf, len, off);
}

static int give_hole(struct reader *p, uint64_t off, uint64_t len)
{
    int r = 0;
    if (dropped(p))
        return 0;
    if (p->r->hole)
        return p->r->hole(p->r->arg, off, len);
    memset(p->buf, 0, len < PIECE_BYTES ? (size_t)len : PIECE_BYTES);
    while (!r && len) {
        size_t n = len < PIECE_BYTES ? (size_t)len : PIECE_BYTES;
        r = p->r->data(p->r->arg, p->buf, n, off);
        off += n;
        len -= n;
    }
    return r;
}

static void note_bad(struct reader *p, uint64_t off, size_t len, int err)
{
    if (p->bad_len && (p->bad_at + p->bad_len != off || p->bad_err != err))
        say_range(p);
    if (!p->bad_len)
        p->bad_at = off;
    p->bad_err = err;
    p->bad_len += len;
    p->damaged += len;
}

/* Short only where the file ends. */
static ssize_t read_whole(struct reader *p, size_t len, uint64_t off)
{
    ssize_t n = file_read(p->n, p->buf, len, off);
    return n >= 0 && (size_t)n < len ? LFS_ERR_CORRUPT : n;
}

/* One chunk after the other, to find those that are bad. */
static int by_chunks(struct reader *p, size_t len, uint64_t off)
{
    int r = 0;
    for (uint64_t end = off + len; !r && off < end;) {
        uint64_t next = (off / PAGE_BYTES + 1) * PAGE_BYTES;
        size_t n = (size_t)((next < end ? next : end) - off);
        ssize_t got = read_whole(p, n, off);
        if (got < 0 && !is_damage(got))
            return (int)got;
        if (got < 0) {
            note_bad(p, off, n, (int)got);
            memset(p->buf, 0, n);
        }
        r = give(p, n, off);
        off += n;
    }
    return r;
}

static int read_data(struct reader *p, uint64_t off, uint64_t end)
{
    int r = 0;
    while (!r && off < end) {
        size_t n = end - off < PIECE_BYTES ? (size_t)(end - off) : PIECE_BYTES;
        ssize_t got = read_whole(p, n, off);
        if (is_damage(got))
            r = by_chunks(p, n, off);
        else
            r = got < 0 ? (int)got : give(p, n, off);
        off += n;
    }
    return r;
}

/* Where damage keeps the holes from being found, all is taken for data. */
static int read_all(struct reader *p, uint64_t size)
{
    int r = 0;
    for (uint64_t off = 0; !r && off < size;) {
        int64_t from = file_seek(p->n, off, SEEK_DATA), to;
        if (from == -ENXIO)
            return give_hole(p, off, size - off);
        if (from < 0)
            return is_damage(from) ? read_data(p, off, size) : (int)from;
        if ((uint64_t)from > off)
            r = give_hole(p, off, (uint64_t)from - off);
        to = file_seek(p->n, (uint64_t)from, SEEK_HOLE);
        uint64_t end = to < 0 || (uint64_t)to > size ? size : (uint64_t)to;
        if (!r)
            r = read_data(p, (uint64_t)from, end);
        off = end;
    }
    return r;
}

int offline_read(struct node *n, uint64_t size, const struct offline_read *r, uint64_t *damaged)
{
    struct reader p = {.n = n, .r = r, .buf = malloc(PIECE_BYTES)};
    *damaged = 0;
    if (!p.buf)
        return -ENOMEM;
    int e = read_all(&p, size);
    say_range(&p);
    *damaged = p.damaged;
    sodium_memzero(p.buf, PIECE_BYTES);
    free(p.buf);
    return e;
}
