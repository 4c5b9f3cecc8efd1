/* A transaction without the journal: everything in place at once, in an order that keeps no promise. It is
 * there to measure what the journal costs (tests/bench/promise). */
#include "fs/store/txn.h"

#include "latchfs/io.h"
#include "latchfs/layout.h"

#include <errno.h>
#include <string.h>

struct bypass {
    struct txn *t;
    int fd;
    int piece; /* of t->data */
    size_t in_piece;
    struct file_header h;
    bool cut;
};

static uint16_t record_length(const uint8_t *record)
{
    return (uint16_t)(record[NONCE_BYTES + TAG_BYTES] | record[NONCE_BYTES + TAG_BYTES + 1] << 8);
}

/* The next len bytes of data; pieces end where chunks or contents end. */
static const uint8_t *take(struct bypass *b, size_t len)
{
    struct iovec *p = &b->t->data[b->piece];
    const uint8_t *at = (const uint8_t *)p->iov_base + b->in_piece;
    b->in_piece += len;
    if (b->in_piece == p->iov_len) {
        b->piece++;
        b->in_piece = 0;
    }
    return at;
}

/* One group at most. */
static int put_chunks(struct bypass *b, uint64_t first, uint64_t n, const uint8_t *chunks, bool fresh)
{
    uint8_t records[GROUP_RECORDS * RECORD_BYTES];
    const uint8_t *run = NULL;
    uint64_t run_first = first;
    size_t bytes = 0;
    int r = 0;
    for (uint64_t i = 0; !r && i < n; i++) {
        memcpy(records + i * RECORD_BYTES, chunks + i * JCHUNK_BYTES, RECORD_BYTES);
        size_t len = fresh ? 0 : record_length(records + i * RECORD_BYTES);
        const uint8_t *at = fresh ? NULL : take(b, len);
        if (bytes && (at != run + bytes || bytes % PAGE_BYTES)) {
            r = io_pwrite(b->fd, run, bytes, layout_data_offset(run_first));
            bytes = 0;
        }
        if (!bytes) {
            run = at;
            run_first = first + i;
        }
        bytes += len;
    }
    if (!r && bytes)
        r = io_pwrite(b->fd, run, bytes, layout_data_offset(run_first));
    return r ? r : io_pwrite(b->fd, records, n * RECORD_BYTES, layout_record_offset(first));
}

static int put_holes(struct bypass *b, uint64_t first, uint64_t end)
{
    static const uint8_t zeros[PAGE_BYTES];
    uint64_t placed = b->t->f->placed_chunks, stop = placed > FIRST_RECORDS ? placed : FIRST_RECORDS;
    int r = 0;
    end = end < stop ? end : stop;
    for (uint64_t next; !r && first < end; first = next) {
        next = layout_group_next(first) < end ? layout_group_next(first) : end;
        r = io_pwrite(b->fd, zeros, (next - first) * RECORD_BYTES, layout_record_offset(first));
    }
    return r;
}

static uint64_t cut_first_chunk(uint64_t length)
{
    uint64_t size = 0;
    return layout_size(length, &size) == LENGTH_PAGED ? layout_chunks(size) : 0;
}

static int put_item(struct bypass *b, const struct jitem *it)
{
    int r = 0;
    switch (it->type) {
    case JITEM_CHUNKS:
        for (uint64_t i = 0, n; !r && i < it->count; i += n) {
            uint64_t room = layout_group_next(it->first + i) - (it->first + i);
            n = it->count - i < room ? it->count - i : room;
            r = put_chunks(b, it->first + i, n, it->chunks + i * JCHUNK_BYTES, it->fresh);
        }
        return r;
    case JITEM_CUT:
        b->cut = true;
        return put_holes(b, cut_first_chunk(it->length), UINT64_MAX);
    case JITEM_PUNCH:
        return put_holes(b, it->first, it->first + it->count);
    case JITEM_INLINE:
        return it->length ? io_pwrite(b->fd, take(b, (size_t)it->length), (size_t)it->length, HEADER_BYTES)
                          : 0;
    case JITEM_HEADER:
        r = header_decode(it->image, &b->h);
        return r ? r : io_pwrite(b->fd, it->image, HEADER_BYTES, 0);
    default:
        return 0;
    }
}

static int put_length(struct bypass *b)
{
    struct file *f = b->t->f;
    const struct file_header *h = &b->h;
    uint64_t want = h->state == FILE_INLINE ? HEADER_BYTES + h->size
                    : h->size               ? layout_length(h->size)
                                            : HEADER_BYTES;
    int r = want != f->placed_length || b->cut ? io_ftruncate(b->fd, want) : 0;
    if (r)
        return r;
    file_cut_space(f, b->cut ? want : f->reserved_to);
    f->placed_length = want;
    f->reserved_to = f->reserved_to > want && !b->cut ? f->reserved_to : want;
    f->placed_state = h->state == FILE_PAGED ? CONTENT_PAGED : CONTENT_INLINE;
    f->placed_chunks = h->state == FILE_PAGED ? layout_chunks(h->size) : 0;
    return 0;
}

int txn_bypass(struct txn *t)
{
    struct bypass b = {.t = t};
    struct rcur c = rcur_over(t->buf, wcur_used(&t->items));
    struct file *f = t->f;
    struct jitem it;
    int r = node_fd_get(f->n, true, &b.fd), more = 1;
    if (r)
        return r;
    while (!r && (more = jitem_next(&c, &it)) == 1)
        r = put_item(&b, &it);
    r = r ? r : more;
    if (!r)
        r = put_length(&b);
    node_fd_put(f->n);
    f->placed_gen++;
    f->mtime_touched = true;
    f->hint_seq = atomic_load(&f->n->vol->period_seq);
    t->data_at = 0;
    return r;
}
