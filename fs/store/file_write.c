/* Writing. Whole chunks into fresh space go in place at once, their records into the journal; everything else
 * goes as ciphertext into the journal. An empty file that never had a header is fresh altogether. */
#include "fs/store/file_home.h"
#include "fs/store/pd.h"
#include "fs/store/seal.h"
#include "fs/store/txn.h"

#include "latchfs/io.h"
#include "latchfs/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>

#define RESERVE_AHEAD (16 * PAGE_BYTES) /* allocated beyond an append, so that not every one asks */

/* One piece of a write on its way: at most FILE_PIECE_CHUNKS chunks. */
struct piece {
    struct file *f;
    int fd;
    uint64_t first;
    uint32_t count;
    uint8_t *cipher; /* chunk i at i * PAGE_BYTES */
    uint8_t records[FILE_PIECE_CHUNKS * RECORD_BYTES];
};

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

static int allocate_pages(int fd, uint64_t at, uint64_t bytes)
{
    int r = io_fallocate(fd, FALLOC_FL_KEEP_SIZE, at, bytes);
    return r == -EOPNOTSUPP || r == -ENOSYS ? 0 : r; /* then the ballast stands in */
}

void file_note_reserved(struct file *f, uint64_t lo, uint64_t hi)
{
    if (lo > f->reserved_to)
        f->sparse = true; /* there may be a gap before it */
    if (hi > f->reserved_to)
        f->reserved_to = hi;
}

/* Allocates what putting in place will need, so that it can't fail for want of space later. */
int file_reserve_pages(struct file *f, int fd, uint64_t first, uint32_t count)
{
    uint64_t lo = layout_group_first(first) == first ? layout_tag_page(first) : layout_data_offset(first);
    uint64_t hi = layout_data_offset(first + count - 1) + PAGE_BYTES, tag_page = layout_tag_page(first);
    bool standing = first + count <= f->placed_chunks && !f->sparse;
    if (standing || (hi <= f->reserved_to && !f->sparse))
        return 0;
    if (!f->sparse)
        hi += RESERVE_AHEAD;
    int r = allocate_pages(fd, lo, hi - lo);
    if (!r && lo > tag_page && (f->sparse || tag_page >= f->reserved_to))
        r = allocate_pages(fd, tag_page, PAGE_BYTES);
    if (!r)
        file_note_reserved(f, lo, hi);
    return r;
}

static bool chunk_is_fresh(const struct file *f, uint64_t chunk)
{
    return f->placed_state == CONTENT_PAGED && chunk >= f->placed_chunks && !overlay_get(&f->ov, chunk) &&
           !rangeset_has(&f->ov.holes, chunk) && !file_names_chunk(f, chunk);
}

/* Encrypts [off, off + len) with what surrounds it in its first and last chunk. */
static int seal_piece(struct piece *p, struct aead *a, uint16_t epoch, const uint8_t *buf, size_t len,
                      uint64_t off)
{
    struct file *f = p->f;
    uint8_t plain[PAGE_BYTES];
    uint64_t size = f->hdr.size;
    int r = 0;
    for (uint32_t i = 0; !r && i < p->count; i++) {
        uint64_t start = (p->first + i) * PAGE_BYTES;
        uint32_t s = off > start ? (uint32_t)(off - start) : 0;
        uint32_t e = off + len - start < PAGE_BYTES ? (uint32_t)(off + len - start) : PAGE_BYTES;
        const uint8_t *from = buf + (start + s - off);
        size_t length = e;
        if (s > 0 || (e < PAGE_BYTES && start + e < size)) {
            r = file_read_chunk(f, p->fd, p->first + i, plain, &length);
            memcpy(plain + s, from, e - s);
            length = length > e ? length : e;
            from = plain;
            /* The read may have loaded the key of another epoch. */
            if (!r)
                r = aead_set_key(a, f->hdr.suite, file_content_key(f, epoch));
        }
        struct content_ad ad = {KIND_CHUNK, f->hdr.suite, epoch, f->hdr.file_id, p->first + i};
        struct record rec;
        if (!r)
            r = record_seal(a, &ad, from, length, p->cipher + (size_t)i * PAGE_BYTES, &rec);
        if (!r)
            record_encode(&rec, p->records + (size_t)i * RECORD_BYTES);
    }
    sodium_memzero(plain, sizeof plain);
    return r;
}

static uint32_t piece_length(const struct piece *p, uint32_t i)
{
    const uint8_t *rec = p->records + (size_t)i * RECORD_BYTES + NONCE_BYTES + TAG_BYTES;
    return rec[0] | (uint32_t)rec[1] << 8;
}

/* Puts chunks [i, i + n) of the piece in place: fresh space. Tag pages between are written as zeros, which
 * they are, so that their space is there when the records come. */
static int write_fresh(struct piece *p, uint32_t i, uint32_t n)
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
        size_t bytes = (size_t)(run - 1) * PAGE_BYTES + piece_length(p, i + j + run - 1);
        iov[k] = (struct iovec){p->cipher + (size_t)(i + j) * PAGE_BYTES, bytes};
        j += run;
    }
    uint64_t end = at;
    for (int m = 0; m < k; m++)
        end += iov[m].iov_len;
    int r = 0;
    if (!leads && layout_tag_page(first) > 0 && (p->f->sparse || layout_tag_page(first) >= p->f->reserved_to))
        r = allocate_pages(p->fd, layout_tag_page(first), PAGE_BYTES);
    if (!r)
        r = io_pwritev(p->fd, iov, k, at);
    if (end > p->f->placed_length)
        p->f->placed_length = end;
    file_note_reserved(p->f, at, end);
    p->f->placed_gen++;
    p->f->mtime_touched = true;
    return r;
}

/* Splits the piece into fresh and journaled runs: puts the fresh ones in place, names all in the entry. */
static int place_runs(struct piece *p, struct txn *t)
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
            r = fresh ? write_fresh(p, i, n) : file_reserve_pages(f, p->fd, p->first + i, n);
        txn_chunks(t, p->first + i, n, fresh, p->records + (size_t)i * RECORD_BYTES,
                   p->cipher + (size_t)i * PAGE_BYTES);
    }
    return r;
}

int file_remember_chunk(struct file *f, uint64_t chunk, const uint8_t record[static RECORD_BYTES],
                        uint64_t data_at)
{
    size_t before = f->ov.count;
    if (f->n->vol->opt.bypass_journal)
        return 0;
    int r = overlay_reserve(&f->ov, 1);
    if (r)
        return r;
    overlay_put(&f->ov, chunk, record, data_at);
    atomic_fetch_add(&f->n->vol->pending_chunks, f->ov.count - before);
    return rangeset_add(&f->named[0], chunk, chunk + 1);
}

/* After commit: the overlay sees the new chunks. Walks the same runs as the items did. */
static int remember_runs(struct piece *p, const struct txn *t)
{
    struct rcur c = rcur_over(t->buf, wcur_used(&t->items));
    struct jitem it;
    uint64_t at = t->data_at;
    while (jitem_next(&c, &it) == 1) {
        for (uint64_t k = 0; it.type == JITEM_CHUNKS && k < it.count; k++) {
            uint32_t i = (uint32_t)(it.first + k - p->first);
            int r = file_remember_chunk(p->f, it.first + k, p->records + (size_t)i * RECORD_BYTES,
                                        it.fresh ? 0 : at);
            if (r)
                return r;
            at += it.fresh ? 0 : piece_length(p, i);
        }
    }
    return 0;
}

static int write_paged(struct file *f, int fd, const uint8_t *buf, size_t len, uint64_t off,
                       uint64_t *reserved)
{
    struct file_header h = f->hdr;
    struct piece p = {.f = f, .fd = fd, .first = off / PAGE_BYTES, .cipher = thread_scratch()};
    struct aead *a;
    struct txn t;
    uint16_t epoch;
    p.count = (uint32_t)((off + len - 1) / PAGE_BYTES - p.first + 1);
    int r = p.cipher ? file_writing_key(f, &h, p.count, &a, &epoch) : -ENOMEM;
    if (!r)
        r = seal_piece(&p, a, epoch, buf, len, off);
    if (r)
        return r;
    uint64_t length = f->placed_length, reserved_to = f->reserved_to;
    txn_begin(&t, f);
    r = place_runs(&p, &t);
    h.chunk_writes += p.count;
    if (off + len > h.size)
        h.size = off + len;
    txn_header(&t, &h);
    if (!r)
        r = txn_commit(&t, reserved);
    if (r) {
        /* Nothing speaks of the fresh data: the length must not either. */
        if (f->placed_length > length && io_ftruncate(fd, length) == 0) {
            f->placed_length = length;
            f->reserved_to = reserved_to < length ? reserved_to : length;
        }
        return r;
    }
    if (off / PAGE_BYTES > layout_chunks(f->hdr.size))
        f->sparse = true;
    f->hdr = h;
    f->ov.changed = true;
    r = remember_runs(&p, &t);
    if (r)
        volume_fail_readonly(f->n->vol, r, "journal bookkeeping");
    return r;
}

/* ---- inline ---- */

int file_seal_inline(struct file *f, struct file_header *h, const uint8_t *plain, size_t len, uint8_t *cipher)
{
    struct aead *a;
    uint16_t epoch;
    int r = file_writing_key(f, h, 1, &a, &epoch);
    if (r)
        return r;
    struct content_ad ad = {KIND_INLINE, h->suite, epoch, h->file_id, 0};
    h->state = FILE_INLINE;
    h->size = len;
    h->chunk_writes++;
    return record_seal(a, &ad, plain, len, cipher, &h->inline_record);
}

/* Replaces the inline content by plain[len] through the journal. */
int file_store_inline(struct file *f, const uint8_t *plain, size_t len, uint64_t *reserved)
{
    struct file_header h = f->hdr;
    uint8_t cipher[INLINE_MAX];
    struct txn t;
    int r = file_seal_inline(f, &h, plain, len, cipher);
    if (r)
        return r;
    txn_begin(&t, f);
    txn_inline(&t, cipher, (uint16_t)len);
    txn_header(&t, &h);
    r = txn_commit(&t, reserved);
    if (r)
        return r;
    f->hdr = h;
    f->ov.changed = true;
    f->ov.inline_at = len ? t.data_at : 0;
    return 0;
}

static int write_inline(struct file *f, int fd, const uint8_t *buf, size_t len, uint64_t off,
                        uint64_t *reserved)
{
    uint8_t plain[PAGE_BYTES];
    int r = file_read_inline(f, fd, plain);
    if (!r) {
        memcpy(plain + off, buf, len);
        uint64_t size = off + len > f->hdr.size ? off + len : f->hdr.size;
        r = file_store_inline(f, plain, size, reserved);
    }
    sodium_memzero(plain, sizeof plain);
    return r;
}

int file_to_paged(struct file *f, uint64_t *reserved)
{
    struct file_header h = f->hdr;
    uint8_t plain[PAGE_BYTES], cipher[PAGE_BYTES], record[RECORD_BYTES];
    struct record rec;
    struct aead *a;
    struct txn t;
    uint16_t epoch;
    int fd, r = node_fd_get(f->n, true, &fd);
    if (r)
        return r;
    r = file_read_inline(f, fd, plain);
    if (!r)
        r = file_reserve_pages(f, fd, 0, 1);
    node_fd_put(f->n);
    if (!r)
        r = file_writing_key(f, &h, 1, &a, &epoch);
    h.state = FILE_PAGED;
    h.inline_record = (struct record){0};
    txn_begin(&t, f);
    /* A torn page 0 may hold the new header over old content where records belong: a replay clears them. */
    txn_punch(&t, h.size ? 1 : 0, FIRST_RECORDS - (h.size ? 1 : 0));
    if (!r && h.size) {
        struct content_ad ad = {KIND_CHUNK, h.suite, epoch, h.file_id, 0};
        r = record_seal(a, &ad, plain, h.size, cipher, &rec);
        record_encode(&rec, record);
        h.chunk_writes++;
        txn_chunks(&t, 0, 1, false, record, cipher);
    }
    sodium_memzero(plain, sizeof plain);
    txn_header(&t, &h);
    if (!r)
        r = txn_commit(&t, reserved);
    if (r)
        return r;
    f->ov.changed = true;
    f->ov.inline_at = 0;
    f->hdr = h;
    f->state = CONTENT_PAGED;
    r = h.size ? file_remember_chunk(f, 0, record, t.data_at) : 0;
    if (r)
        volume_fail_readonly(f->n->vol, r, "journal bookkeeping");
    return r;
}

/* ---- the first write of an empty file: in place at once ---- */

static int born(struct file *f, const struct file_header *h, const uint8_t *page, size_t len, int fd)
{
    int r = f->zero_page ? io_ftruncate(fd, 0) : 0;
    if (!r)
        r = io_pwrite(fd, page, len, 0);
    if (r) {
        /* Nothing refers to what was written: an empty file again. */
        io_ftruncate(fd, 0);
        return r;
    }
    f->hdr = *h;
    f->state = f->placed_state = h->state == FILE_PAGED ? CONTENT_PAGED : CONTENT_INLINE;
    f->placed_length = f->reserved_to = len;
    f->placed_chunks = 0;
    f->zero_page = false;
    f->placed_gen++;
    f->mtime_touched = f->never_synced = true;
    atomic_store(&f->n->meta_dirty, true);
    return 0;
}

static int born_inline(struct file *f, int fd, const uint8_t *buf, size_t len, uint64_t off)
{
    uint8_t plain[PAGE_BYTES] = {0}, page[PAGE_BYTES];
    struct file_header h;
    int r = file_new_header(f, CONTENT_INLINE, &h);
    if (r)
        return r;
    home_of_birth(f, fd, &h);
    if (len)
        memcpy(plain + off, buf, len);
    r = file_seal_inline(f, &h, plain, off + len, page + HEADER_BYTES);
    sodium_memzero(plain, sizeof plain);
    if (r)
        return r;
    file_encode_header(f, &h, page);
    return born(f, &h, page, HEADER_BYTES + off + len, fd);
}

/* A header that says paged and empty; content follows by transactions. */
static int born_paged(struct file *f, int fd)
{
    uint8_t image[HEADER_BYTES];
    struct file_header h;
    int r = file_new_header(f, CONTENT_PAGED, &h);
    if (r)
        return r;
    home_of_birth(f, fd, &h);
    file_encode_header(f, &h, image);
    return born(f, &h, image, sizeof image, fd);
}

int file_born(struct file *f, int fd, const uint8_t *buf, size_t len, uint64_t off)
{
    return off + len <= INLINE_MAX ? born_inline(f, fd, buf, len, off) : born_paged(f, fd);
}

int file_write_locked(struct file *f, const uint8_t *buf, size_t len, uint64_t off, uint64_t *reserved)
{
    int fd, r = file_rekey_spent(f, reserved);
    if (!r)
        r = node_fd_get(f->n, true, &fd);
    if (r)
        return r;
    if (f->state == CONTENT_NONE) {
        r = file_born(f, fd, buf, len, off);
        if (!r && f->state == CONTENT_PAGED)
            r = write_paged(f, fd, buf, len, off, reserved);
    } else if (f->state == CONTENT_INLINE && off + len <= INLINE_MAX) {
        r = write_inline(f, fd, buf, len, off, reserved);
    } else {
        uint64_t more = f->state == CONTENT_INLINE ? file_share(reserved, FILE_SHARE) : 0;
        if (f->state == CONTENT_INLINE)
            r = file_to_paged(f, &more);
        if (!r)
            r = write_paged(f, fd, buf, len, off, reserved);
        if (more)
            journal_unreserve(f->n->vol->journal, more);
    }
    if (!r)
        file_touch(f);
    node_fd_put(f->n);
    thread_forget_key();
    return r;
}

/* ---- public ---- */

static ssize_t write_pieces(struct file *f, const uint8_t *buf, size_t len, uint64_t off, bool append)
{
    struct volume *v = f->n->vol;
    size_t done = 0;
    int r = 0;
    while (!r && done < len) {
        uint64_t reserved = FILE_RESERVE;
        r = file_reserve(v, reserved);
        if (r)
            break;
        r = file_lock_write(f);
        if (!r && append)
            off = file_size(f);
        uint64_t at = off + (append ? 0 : done);
        uint64_t stop = (at / PAGE_BYTES + FILE_PIECE_CHUNKS) * PAGE_BYTES;
        size_t n = len - done < stop - at ? len - done : (size_t)(stop - at);
        if (!r && (at > FILE_SIZE_MAX || n > FILE_SIZE_MAX - at)) {
            file_unlock(f);
            r = -EFBIG;
        }
        if (!r) {
            r = file_write_locked(f, buf + done, n, at, &reserved);
            file_unlock(f);
        }
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
