/* Putting in place: the overlay of a file becomes its backing bytes. Everything here stands whole in the
 * journal, so it may be cut anywhere and done again. */
#include "fs/store/seal.h"

#include "latchfs/io.h"
#include "latchfs/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

struct applier {
    struct file *f;
    int fd;
    const struct ov_chunk **list; /* pending chunks by index */
    size_t count;
    uint8_t header[HEADER_BYTES];
};

static uint32_t pending_length(const struct ov_chunk *c)
{
    return c->record[NONCE_BYTES + TAG_BYTES] | (uint32_t)c->record[NONCE_BYTES + TAG_BYTES + 1] << 8;
}

/* Copies list[i..] from the journal in one run: neighbours of one group, whole but for the last. */
static int put_data_run(struct applier *p, size_t *i)
{
    uint8_t *buf = thread_scratch();
    const struct ov_chunk *first = p->list[*i];
    uint64_t group_end = layout_group_next(first->chunk);
    size_t bytes = 0, n = 0;
    int r = buf ? 0 : -ENOMEM;
    while (!r && *i + n < p->count) {
        const struct ov_chunk *c = p->list[*i + n];
        if (c->chunk != first->chunk + n || c->chunk >= group_end || !c->data_at || bytes % PAGE_BYTES)
            break;
        r = journal_read(p->f->n->vol->journal, buf + bytes, pending_length(c), c->data_at);
        bytes += pending_length(c);
        n++;
    }
    *i += n;
    return r ? r : io_pwrite(p->fd, buf, bytes, layout_data_offset(first->chunk));
}

static int put_data(struct applier *p)
{
    int r = 0;
    for (size_t i = 0; !r && i < p->count;) {
        if (p->list[i]->data_at)
            r = put_data_run(p, &i);
        else
            i++;
    }
    return r;
}

/* The records of the group that starts at chunk first: what lies in place, holes, then what is pending. */
static int put_group(struct applier *p, uint64_t first, size_t i, size_t n)
{
    struct file *f = p->f;
    uint8_t page[PAGE_BYTES] = {0};
    uint64_t at = layout_tag_page(first), end = layout_group_next(first);
    uint64_t base = layout_record_offset(first) - at;
    if (f->placed_state == CONTENT_PAGED && first < f->placed_chunks) {
        ssize_t have = io_pread(p->fd, page, sizeof page, at);
        if (have < 0)
            return (int)have;
    }
    int r = seal_page_changes(f, p->fd, first, page);
    if (r)
        return r;
    uint64_t holes_end = end < f->placed_chunks ? end : f->placed_chunks;
    for (uint64_t c = first; c < holes_end; c++)
        if (rangeset_has(&f->ov.holes, c))
            memset(page + base + (c - first) * RECORD_BYTES, 0, RECORD_BYTES);
    for (size_t k = i; k < i + n; k++)
        memcpy(page + base + (p->list[k]->chunk - first) * RECORD_BYTES, p->list[k]->record, RECORD_BYTES);
    if (at == 0)
        memcpy(page, p->header, HEADER_BYTES);
    r = io_pwrite(p->fd, page, sizeof page, at);
    if (r)
        seal_page_lost(f, first);
    else
        seal_page_placed(f, first, page);
    return r;
}

/* Pages of holes give their space back: [lo, hi) has nothing pending in it. Best effort. */
static void free_pages(struct applier *p, uint64_t lo, uint64_t hi)
{
    while (lo < hi) {
        uint64_t next = layout_group_next(lo), stop = next < hi ? next : hi;
        uint64_t from = layout_data_offset(lo), to = layout_data_offset(stop - 1) + PAGE_BYTES;
        io_fallocate(p->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from, to - from);
        lo = stop;
    }
}

static size_t first_pending(const struct applier *p, uint64_t chunk)
{
    size_t lo = 0, hi = p->count;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (p->list[mid]->chunk < chunk)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Zeroes the records and frees the pages of one range of holes that has a place. Groups that lie in it whole
 * with nothing pending go with one call, tag page and all. */
static int put_hole(struct applier *p, uint64_t lo, uint64_t hi)
{
    int r = 0;
    for (uint64_t first = layout_group_first(lo); !r && first < hi; first = layout_group_next(first)) {
        uint64_t end = layout_group_next(first);
        size_t i = first_pending(p, first), n = first_pending(p, end) - i;
        if (first > 0 && first >= lo && end <= hi && !n) {
            uint64_t at = layout_tag_page(first);
            uint64_t bytes = layout_data_offset(end - 1) + PAGE_BYTES - at;
            r = seal_page_changes(p->f, p->fd, first, NULL);
            if (r)
                return r;
            seal_page_lost(p->f, first);
            if (io_fallocate(p->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, bytes) == 0)
                continue;
        }
        r = put_group(p, first, i, n);
        uint64_t a = first > lo ? first : lo, b = end < hi ? end : hi;
        for (size_t k = first_pending(p, a); !r && k < p->count && p->list[k]->chunk < b; k++) {
            free_pages(p, a, p->list[k]->chunk);
            a = p->list[k]->chunk + 1;
        }
        if (!r && a < b)
            free_pages(p, a, b);
    }
    return r;
}

static int put_holes(struct applier *p)
{
    struct file *f = p->f;
    uint64_t end = f->placed_chunks;
    /* Behind the end of the file only the records in its last group remain after the cut. */
    uint64_t chunks = layout_chunks(f->hdr.size);
    uint64_t stay = chunks ? layout_group_next(chunks - 1) : 0;
    int r = 0;
    end = end < stay ? end : stay;
    for (size_t i = 0; !r && f->placed_state == CONTENT_PAGED && i < f->ov.holes.n; i++) {
        struct range g = f->ov.holes.r[i];
        if (g.lo < end)
            r = put_hole(p, g.lo, g.hi < end ? g.hi : end);
    }
    return r;
}

static int put_records(struct applier *p)
{
    bool header_done = false;
    int r = 0;
    for (size_t i = 0; !r && i < p->count;) {
        uint64_t first = layout_group_first(p->list[i]->chunk), end = layout_group_next(first);
        size_t n = 1;
        while (i + n < p->count && p->list[i + n]->chunk < end)
            n++;
        r = put_group(p, first, i, n);
        header_done = header_done || first == 0;
        i += n;
    }
    /* Growing out of inline, the old content behind the header must not be taken for records. */
    if (!r && !header_done && p->f->placed_state != CONTENT_PAGED)
        return put_group(p, 0, 0, 0);
    return r || header_done ? r : io_pwrite(p->fd, p->header, HEADER_BYTES, 0);
}

static int put_inline(struct applier *p)
{
    struct file *f = p->f;
    uint8_t page[PAGE_BYTES];
    size_t len = f->ov.inline_at ? (size_t)f->hdr.size : 0;
    memcpy(page, p->header, HEADER_BYTES);
    int r = len ? journal_read(f->n->vol->journal, page + HEADER_BYTES, len, f->ov.inline_at) : 0;
    return r ? r : io_pwrite(p->fd, page, HEADER_BYTES + len, 0);
}

/* Of what becomes inline nothing stays that the seal was about: then it may go unasked. */
static int ask_seal(struct applier *p)
{
    int r = seal_later_finish(p->f, p->fd);
    if (r && p->f->state == CONTENT_INLINE) {
        seal_later_drop(p->f);
        r = 0;
    }
    return r;
}

static int put_all(struct applier *p)
{
    struct file *f = p->f;
    uint64_t want = f->state == CONTENT_INLINE ? HEADER_BYTES + f->hdr.size
                    : f->hdr.size              ? layout_length(f->hdr.size)
                                               : HEADER_BYTES;
    int r = want < f->placed_length ? ask_seal(p) : 0;
    if (r)
        return r;
    if (f->state == CONTENT_INLINE)
        r = put_inline(p);
    else if (!(r = put_data(p)) && !(r = put_holes(p)))
        r = put_records(p);
    if (!r && (want != f->placed_length || f->reserved_to > want || f->ov.holes.n))
        r = io_ftruncate(p->fd, want);
    if (r)
        return r;
    file_cut_space(f, f->ov.holes.n ? 0 : want); /* what was punched has none */
    f->placed_length = f->reserved_to = want;
    f->placed_chunks = f->state == CONTENT_PAGED ? layout_chunks(f->hdr.size) : 0;
    f->placed_state = f->state;
    seal_pages_cut(f, f->state == CONTENT_PAGED ? f->hdr.size : 0);
    return 0;
}

int file_apply(struct file *f)
{
    struct applier p = {.f = f};
    if (overlay_is_empty(&f->ov)) {
        f->first_seq = 0;
        return 0;
    }
    if (f->state == CONTENT_NONE)
        return LFS_ERR_MISUSE;
    int r = node_fd_get(f->n, true, &p.fd);
    if (r)
        return r;
    header_encode(&f->hdr, p.header);
    r = overlay_sorted(&f->ov, &p.list, &p.count);
    if (!r)
        r = put_all(&p);
    free(p.list);
    f->placed_gen++;
    f->mtime_touched = true;
    node_fd_put(f->n);
    if (r) {
        atomic_store(&f->n->vol->apply_error, r);
        return r;
    }
    atomic_fetch_sub(&f->n->vol->pending_chunks, f->ov.count);
    overlay_clear(&f->ov);
    f->first_seq = f->opened_seq = 0;
    file_restore_mtime(f);
    return 0;
}
