/* Writing. Whole chunks into fresh space go in place at once, their records into the journal; everything else
 * goes as ciphertext into the journal. An empty file that never had a header is fresh altogether. */
#include "fs/store/file_piece.h"
#include "fs/store/pd.h"
#include "fs/store/seal.h"
#include "fs/store/txn.h"

#include "latchfs/io.h"
#include "latchfs/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* From here on a file is a stream: long runs of it go to disk at once and leave the page cache below, which
 * has them a second time. A shorter file may be gone again before it would be written. */
#define STREAM_FROM (UINT64_C(8) << 20)
#define STREAM_RUN 64u /* chunks */

/* Loads the newest content key; *epoch names it. */
int file_writing_key(struct file *f, const struct file_header *h, uint64_t messages, struct aead **a,
                     uint16_t *epoch)
{
    if (h->chunk_writes + messages >= FILE_MESSAGES_MAX)
        return -EFBIG; /* the file needs a new key before it takes more */
    *epoch = h->place[header_newest(h)].epoch;
    *a = thread_aead();
    const uint8_t *key = file_content_key(f, *epoch);
    return !*a ? -ENOMEM : !key ? LFS_ERR_NOKEY : aead_set_key(*a, h->suite, key);
}

static uint32_t chunk_length(const uint8_t *record)
{
    return record[NONCE_BYTES + TAG_BYTES] | (uint32_t)record[NONCE_BYTES + TAG_BYTES + 1] << 8;
}

static bool chunk_is_fresh(const struct file *f, uint64_t chunk)
{
    return f->placed_state == CONTENT_PAGED && chunk >= f->placed_chunks && !overlay_get(&f->ov, chunk) &&
           !rangeset_has(&f->ov.holes, chunk) && !file_names_chunk(f, chunk);
}

/* Puts chunks [i, i + n) of the piece in place: fresh space. Tag pages between are written as zeros, which
 * they are, so that their space is there when the records come. */
static int write_fresh(const struct piece *p, int fd, uint32_t i, uint32_t n)
{
    static const uint8_t zeros[PAGE_BYTES];
    struct iovec iov[16];
    uint64_t first = p->first + i, at;
    int k = 0;
    bool leads = layout_group_first(first) == first && first > 0;
    at = leads ? layout_tag_page(first) : layout_data_offset(first);
    for (uint32_t j = 0; j < n; k++) {
        uint64_t next = layout_group_next(first + j);
        uint32_t run = (uint32_t)(next - (first + j) < n - j ? next - (first + j) : n - j);
        if (j > 0 || leads)
            iov[k++] = (struct iovec){(uint8_t *)(uintptr_t)zeros, PAGE_BYTES};
        size_t bytes = (size_t)(run - 1) * PAGE_BYTES + chunk_length(piece_record(p, i + j + run - 1));
        iov[k] = (struct iovec){piece_cipher(p, i + j), bytes};
        j += run;
    }
    uint64_t end = at;
    for (int m = 0; m < k; m++)
        end += iov[m].iov_len;
    int r = 0;
    if (!leads && layout_tag_page(first) > 0)
        r = file_reserve_tag_page(p->f, fd, first);
    if (!r)
        r = at >= STREAM_FROM && n >= STREAM_RUN ? io_pwritev_through(fd, iov, k, at)
                                                 : io_pwritev(fd, iov, k, at);
    if (end > p->f->placed_length)
        p->f->placed_length = end;
    if (!r)
        file_note_space(p->f, at, end);
    p->f->placed_gen++;
    p->f->mtime_touched = true;
    return r;
}

/* Splits the piece into fresh and journaled runs: puts the fresh ones in place, names all in the entry. */
static int place_runs(const struct piece *p, int fd, struct txn *t)
{
    struct file *f = p->f;
    int r = 0;
    for (uint32_t i = 0, n; !r && i < p->count; i += n) {
        bool fresh = chunk_is_fresh(f, p->first + i);
        for (n = 1; i + n < p->count && chunk_is_fresh(f, p->first + i + n) == fresh;)
            n++;
        if (fresh && n < FRESH_RUN && !f->never_synced)
            fresh = false;
        if (fresh)
            r = seal_lets_fresh(f, n, &fresh);
        if (!r)
            r = fresh ? write_fresh(p, fd, i, n) : file_reserve_pages(f, fd, p->first + i, n);
        txn_chunks(t, p->first + i, n, fresh, piece_record(p, i), piece_cipher(p, i), p->crcs + i);
    }
    return r;
}

static int remember_run(struct file *f, uint64_t first, uint32_t count, const uint8_t *records,
                        uint64_t data_at)
{
    size_t before = f->ov.count;
    if (f->n->vol->opt.bypass_journal)
        return 0;
    int r = overlay_reserve(&f->ov, count);
    if (r)
        return r;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *record = records + (size_t)i * RECORD_BYTES;
        overlay_put(&f->ov, first + i, record, data_at);
        data_at += data_at ? chunk_length(record) : 0;
    }
    atomic_fetch_add(&f->n->vol->pending_chunks, f->ov.count - before);
    return rangeset_add(&f->named[0], first, first + count);
}

int file_remember_chunk(struct file *f, uint64_t chunk, const uint8_t record[static RECORD_BYTES],
                        uint64_t data_at)
{
    return remember_run(f, chunk, 1, record, data_at);
}

/* After commit: the overlay sees the new chunks. Walks the same runs as the items did. */
static int remember_runs(const struct piece *p, const struct txn *t)
{
    struct rcur c = rcur_over(t->buf, wcur_used(&t->items));
    struct jitem it;
    uint64_t at = t->data_at;
    int r = 0;
    while (!r && jitem_next(&c, &it) == 1) {
        if (it.type != JITEM_CHUNKS)
            continue;
        uint32_t i = (uint32_t)(it.first - p->first), n = (uint32_t)it.count;
        r = remember_run(p->f, it.first, n, piece_record(p, i), it.fresh ? 0 : at);
        for (uint32_t k = 0; !it.fresh && k < n; k++)
            at += chunk_length(piece_record(p, i + k));
    }
    return r;
}

static int write_paged(struct piece *p, int fd, const uint8_t *buf, size_t len, uint64_t off,
                       uint64_t *reserved)
{
    struct file *f = p->f;
    struct file_header h = f->hdr;
    struct txn t;
    int r = piece_seal(p, fd, &h, buf, len, off);
    if (r)
        return r;
    uint64_t length = f->placed_length;
    txn_begin(&t, f);
    r = place_runs(p, fd, &t);
    h.chunk_writes += p->count;
    if (off + len > h.size)
        h.size = off + len;
    txn_header(&t, &h);
    if (!r)
        r = txn_commit(&t, reserved);
    if (r) {
        /* Nothing speaks of the fresh data: the length must not either. */
        if (f->placed_length > length)
            file_take_back(f, fd, length);
        return r;
    }
    if (off / PAGE_BYTES > layout_chunks(f->hdr.size))
        file_note_gap(f);
    f->hdr = h;
    f->ov.changed = true;
    r = remember_runs(p, &t);
    if (r)
        volume_fail_readonly(f->n->vol, r, "journal bookkeeping");
    return r;
}

static int write_grown(struct piece *p, int fd, const uint8_t *buf, size_t len, uint64_t off,
                       uint64_t *reserved)
{
    struct file *f = p->f;
    uint64_t more = file_share(reserved, FILE_SHARE);
    int r = file_to_paged(f, &more);
    if (!r)
        r = write_paged(p, fd, buf, len, off, reserved);
    if (more)
        journal_unreserve(f->n->vol->journal, more);
    return r;
}

int file_write_piece(struct piece *p, const uint8_t *buf, size_t len, uint64_t off, uint64_t *reserved)
{
    struct file *f = p->f;
    int fd, r = file_rekey_spent(f, reserved);
    if (!r)
        r = node_fd_get(f->n, true, &fd);
    if (r)
        return r;
    if (f->state == CONTENT_NONE) {
        r = file_born(f, fd, buf, len, off);
        if (!r && f->state == CONTENT_PAGED)
            r = write_paged(p, fd, buf, len, off, reserved);
    } else if (f->state == CONTENT_PAGED) {
        r = write_paged(p, fd, buf, len, off, reserved);
    } else if (off + len <= INLINE_MAX) {
        r = file_write_inline(f, fd, buf, len, off, reserved);
    } else {
        r = write_grown(p, fd, buf, len, off, reserved);
    }
    if (!r)
        file_touch(f);
    node_fd_put(f->n);
    thread_forget_key();
    return r;
}

int file_write_locked(struct file *f, const uint8_t *buf, size_t len, uint64_t off, uint64_t *reserved)
{
    struct piece p;
    piece_begin(&p, f, len, off);
    return file_write_piece(&p, buf, len, off, reserved);
}

/* ---- public ---- */

/* One piece, of at most len bytes; *len: how many it was. off: where, unless it is appended. */
static int write_some(struct file *f, const uint8_t *buf, size_t *len, uint64_t off, bool append,
                      uint64_t *reserved)
{
    struct piece p;
    uint64_t at = off;
    size_t n = piece_length(at, *len);
    piece_begin(&p, f, n, at);
    if (!append)
        piece_seal_ahead(&p, buf, n, at);
    int r = file_lock_write(f);
    if (!r && append) {
        at = file_size(f);
        n = piece_length(at, *len);
        piece_begin(&p, f, n, at);
    }
    if (!r) {
        r = at > FILE_SIZE_MAX || n > FILE_SIZE_MAX - at ? -EFBIG
                                                         : file_write_piece(&p, buf, n, at, reserved);
        file_unlock(f);
    }
    thread_forget_key(); /* that of what was sealed ahead, where something failed before it was needed */
    *len = n;
    return r;
}

static ssize_t write_pieces(struct file *f, const uint8_t *buf, size_t len, uint64_t off, bool append)
{
    struct volume *v = f->n->vol;
    size_t done = 0;
    int r = 0;
    while (!r && done < len) {
        uint64_t reserved = FILE_RESERVE;
        size_t n = len - done;
        r = file_reserve(v, reserved);
        if (r)
            break;
        r = write_some(f, buf + done, &n, off + done, append, &reserved);
        if (reserved)
            journal_unreserve(v->journal, reserved);
        done += r ? 0 : n;
    }
    return done ? (ssize_t)done : r;
}

static ssize_t write_public(struct node *n, const void *buf, size_t len, uint64_t off, bool append)
{
    struct volume *v = n->vol;
    struct file *f;
    if (!append && (off > FILE_SIZE_MAX || len > FILE_SIZE_MAX - off))
        return -EFBIG;
    VOLUME_CHANGE(v);
    ssize_t r = node_enter(n, true);
    if (r)
        return r;
    r = volume_check_writable(v);
    if (!r)
        r = file_get(n, &f);
    if (!r) {
        r = write_pieces(f, buf, len, off, append);
        file_put(f);
    }
    volume_leave(v);
    return r < 0 ? volume_note(v, (int)r) : r;
}

ssize_t file_write(struct node *n, const void *buf, size_t len, uint64_t off)
{
    return write_public(n, buf, len, off, false);
}

ssize_t file_append(struct node *n, const void *buf, size_t len)
{
    return write_public(n, buf, len, 0, true);
}
