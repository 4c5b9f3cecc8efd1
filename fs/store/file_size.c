/* Changing the size, allocating, punching, seeking, copying. */
#include "fs/store/pd.h"
#include "fs/store/txn.h"

#include "latchfs/io.h"
#include "latchfs/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Header-only change of an open transaction's file: commits and publishes h. */
static int commit_header(struct txn *t, struct file_header *h, uint64_t *reserved)
{
    txn_header(t, h);
    int r = txn_commit(t, reserved);
    if (!r) {
        t->f->hdr = *h;
        t->f->ov.changed = true;
    }
    return r;
}

/* After a commit memory must follow: when it can't, the journal has what memory lacks, so nothing more may
 * be written. */
static int must(struct file *f, int r)
{
    if (r)
        volume_fail_readonly(f->n->vol, r, "journal bookkeeping");
    return r;
}

static int punch_memory(struct file *f, uint64_t first, uint64_t end)
{
    size_t before = f->ov.count;
    if (f->n->vol->opt.bypass_journal)
        return 0;
    int r = overlay_punch(&f->ov, first, end);
    atomic_fetch_sub(&f->n->vol->pending_chunks, before - f->ov.count);
    return must(f, r ? r : rangeset_add(&f->named[0], first, end));
}

static int to_empty(struct file *f, uint64_t *reserved)
{
    struct file_header h = f->hdr;
    struct txn t;
    int r = file_seal_inline(f, &h, (const uint8_t *)"", 0, (uint8_t[1]){0});
    if (r)
        return r;
    txn_begin(&t, f);
    txn_cut(&t, HEADER_BYTES);
    r = commit_header(&t, &h, reserved);
    if (r)
        return r;
    f->state = CONTENT_INLINE;
    f->ov.inline_at = 0;
    file_cut_space(f, 0);
    return punch_memory(f, 0, CHUNK_END);
}

/* The last chunk that stays, cut to keep bytes; *cut false when it is short enough. */
static int cut_chunk(struct file *f, struct file_header *h, uint64_t chunk, size_t keep, uint8_t *cipher,
                     uint8_t record[static RECORD_BYTES], bool *cut)
{
    uint8_t plain[PAGE_BYTES];
    size_t len = 0;
    struct aead *a;
    uint16_t epoch;
    int fd, r = node_fd_get(f->n, true, &fd);
    if (r)
        return r;
    r = file_read_chunk(f, fd, chunk, plain, &len);
    *cut = len > keep;
    if (!r && *cut)
        r = file_reserve_pages(f, fd, chunk, 1);
    node_fd_put(f->n);
    if (!r && *cut)
        r = file_writing_key(f, h, 1, &a, &epoch);
    if (!r && *cut) {
        struct content_ad ad = {KIND_CHUNK, h->suite, epoch, h->file_id, chunk};
        struct record rec;
        r = record_seal(a, &ad, plain, keep, cipher, &rec);
        record_encode(&rec, record);
        h->chunk_writes++;
    }
    sodium_memzero(plain, sizeof plain);
    return r;
}

static int shrink_paged(struct file *f, uint64_t size, uint64_t *reserved)
{
    struct file_header h = f->hdr;
    uint8_t cipher[PAGE_BYTES], record[RECORD_BYTES];
    uint64_t chunks = layout_chunks(size);
    struct txn t;
    bool cut = false;
    int r = 0;
    if (size % PAGE_BYTES)
        r = cut_chunk(f, &h, chunks - 1, size % PAGE_BYTES, cipher, record, &cut);
    if (r)
        return r;
    txn_begin(&t, f);
    txn_cut(&t, layout_length(size));
    if (cut)
        txn_chunks(&t, chunks - 1, 1, false, record, cipher, NULL);
    h.size = size;
    r = commit_header(&t, &h, reserved);
    if (r)
        return r;
    file_cut_space(f, 0);
    r = punch_memory(f, chunks, CHUNK_END);
    return r || !cut ? r : must(f, file_remember_chunk(f, chunks - 1, record, t.data_at));
}

static int resize_inline(struct file *f, uint64_t size, uint64_t *reserved)
{
    uint8_t plain[PAGE_BYTES];
    int fd, r = node_fd_get(f->n, true, &fd);
    if (r)
        return r;
    r = file_read_inline(f, fd, plain);
    node_fd_put(f->n);
    if (!r && size > f->hdr.size)
        memset(plain + f->hdr.size, 0, (size_t)size - f->hdr.size);
    if (!r)
        r = file_store_inline(f, plain, (size_t)size, reserved);
    sodium_memzero(plain, sizeof plain);
    return r;
}

static int grow_paged(struct file *f, uint64_t size, uint64_t *reserved)
{
    struct file_header h = f->hdr;
    struct txn t;
    txn_begin(&t, f);
    h.size = size;
    int r = commit_header(&t, &h, reserved);
    file_note_gap(f);
    return r;
}

static int from_none(struct file *f, uint64_t size, uint64_t *reserved)
{
    int fd, r;
    if (size == 0 && !f->zero_page)
        return 0;
    r = node_fd_get(f->n, true, &fd);
    if (r)
        return r;
    if (size == 0) {
        r = io_ftruncate(fd, 0);
        f->placed_length = r ? f->placed_length : 0;
        f->zero_page = r != 0;
    } else {
        r = file_born(f, fd, NULL, 0, size);
    }
    node_fd_put(f->n);
    return r || f->state != CONTENT_PAGED ? r : grow_paged(f, size, reserved);
}

int file_truncate_locked(struct file *f, uint64_t size, uint64_t *reserved)
{
    if (f->state == CONTENT_NONE)
        return from_none(f, size, reserved);
    if (size == f->hdr.size)
        return 0;
    if (size == 0)
        return to_empty(f, reserved);
    if (f->state == CONTENT_INLINE && size <= INLINE_MAX)
        return resize_inline(f, size, reserved);
    if (f->state == CONTENT_INLINE) {
        uint64_t more = file_share(reserved, FILE_SHARE);
        int r = file_to_paged(f, &more);
        if (more)
            journal_unreserve(f->n->vol->journal, more);
        return r ? r : grow_paged(f, size, reserved);
    }
    return size < f->hdr.size ? shrink_paged(f, size, reserved) : grow_paged(f, size, reserved);
}

/* Runs fn with the file's write lock and room in the journal. */
typedef int (*change_fn)(struct file *f, uint64_t a, uint64_t b, int mode, uint64_t *reserved);

static int change(struct node *n, change_fn fn, uint64_t a, uint64_t b, int mode)
{
    struct volume *v = n->vol;
    struct file *f;
    uint64_t reserved = 0;
    VOLUME_CHANGE(v);
    int r = node_enter(n, true);
    if (r)
        return r;
    r = volume_check_writable(v);
    if (!r)
        r = file_get(n, &f);
    if (!r) {
        r = file_reserve(v, FILE_RESERVE);
        reserved = r ? 0 : FILE_RESERVE;
        if (!r)
            r = file_lock_write(f);
        if (!r) {
            r = fn(f, a, b, mode, &reserved);
            if (!r)
                file_touch(f);
            file_unlock(f);
        }
        thread_forget_key();
        if (reserved)
            journal_unreserve(v->journal, reserved);
        file_put(f);
    }
    volume_leave(v);
    return volume_note(v, r);
}

static int truncate_change(struct file *f, uint64_t size, uint64_t b, int mode, uint64_t *reserved)
{
    return file_truncate_locked(f, size, reserved);
}

int file_truncate(struct node *n, uint64_t size)
{
    return size > FILE_SIZE_MAX ? -EFBIG : change(n, truncate_change, size, 0, 0);
}

/* ---- fallocate ---- */

/* False for a request that can't be met: the backing filesystem would fill up before it says so. */
static bool has_room(int fd, uint64_t bytes)
{
    struct statvfs vfs;
    struct stat st;
    if (fstatvfs(fd, &vfs) || fstat(fd, &st))
        return true;
    return bytes / vfs.f_frsize <= vfs.f_bfree + (uint64_t)st.st_blocks * 512 / vfs.f_frsize;
}

/* Allocates the backing pages of [off, off + len) in one call. */
static int allocate(struct file *f, uint64_t off, uint64_t len)
{
    uint64_t first = off / PAGE_BYTES, last = (off + len - 1) / PAGE_BYTES;
    uint64_t lo = first < FIRST_RECORDS ? 0 : layout_tag_page(first);
    uint64_t hi = layout_data_offset(last) + PAGE_BYTES;
    int fd, r = node_fd_get(f->n, true, &fd);
    if (r)
        return r;
    r = has_room(fd, hi - lo) ? io_fallocate(fd, FALLOC_FL_KEEP_SIZE, lo, hi - lo) : -ENOSPC;
    node_fd_put(f->n);
    if (!r)
        file_note_space(f, lo, hi);
    return r;
}

/* Chunks [first, end) of a paged file become holes. */
static int punch_chunks(struct file *f, uint64_t first, uint64_t end, uint64_t *reserved)
{
    struct file_header h = f->hdr;
    struct txn t;
    txn_begin(&t, f);
    txn_punch(&t, first, end - first);
    int r = commit_header(&t, &h, reserved);
    file_note_gap(f);
    return r ? r : punch_memory(f, first, end);
}

/* Zeros in [off, off + len) inside one chunk, only where there is something. */
static int zero_part(struct file *f, uint64_t off, uint64_t len, uint64_t *reserved)
{
    static const uint8_t zeros[PAGE_BYTES];
    uint8_t plain[PAGE_BYTES];
    size_t have = 0;
    int fd, r = len ? node_fd_get(f->n, true, &fd) : 0;
    if (r || !len)
        return r;
    r = file_read_chunk(f, fd, off / PAGE_BYTES, plain, &have);
    node_fd_put(f->n);
    sodium_memzero(plain, sizeof plain);
    if (r || have <= off % PAGE_BYTES)
        return r;
    uint64_t part = file_share(reserved, FILE_SHARE);
    r = file_write_locked(f, zeros, (size_t)len, off, &part);
    if (part)
        journal_unreserve(f->n->vol->journal, part);
    return r;
}

static int zero_paged(struct file *f, uint64_t off, uint64_t end, uint64_t *reserved)
{
    uint64_t first = (off + PAGE_BYTES - 1) / PAGE_BYTES, last = end / PAGE_BYTES;
    if (end == f->hdr.size)
        last = layout_chunks(end); /* nothing stands behind the end: the last chunk goes whole */
    if (first >= last && off / PAGE_BYTES == (end - 1) / PAGE_BYTES)
        return zero_part(f, off, end - off, reserved);
    int r = off % PAGE_BYTES ? zero_part(f, off, first * PAGE_BYTES - off, reserved) : 0;
    if (!r && last * PAGE_BYTES < end)
        r = zero_part(f, last * PAGE_BYTES, end - last * PAGE_BYTES, reserved);
    if (!r && first < last)
        r = punch_chunks(f, first, last, reserved);
    return r;
}

/* [off, end) within the size reads as zeros afterwards. */
static int zero_locked(struct file *f, uint64_t off, uint64_t end, uint64_t *reserved)
{
    static const uint8_t zeros[INLINE_MAX];
    if (off >= end)
        return 0;
    if (f->state == CONTENT_INLINE)
        return file_write_locked(f, zeros, (size_t)(end - off), off, reserved);
    return zero_paged(f, off, end, reserved);
}

static int fallocate_change(struct file *f, uint64_t off, uint64_t len, int mode, uint64_t *reserved)
{
    uint64_t end = off + len, size = file_size(f);
    bool grow = !(mode & FALLOC_FL_KEEP_SIZE) && end > size;
    uint64_t more = grow ? file_share(reserved, 3 * FILE_SHARE) : 0; /* before anything takes the rest */
    int r = 0;
    if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
        r = zero_locked(f, off, end < size ? end : size, reserved);
    if (!r && !(mode & FALLOC_FL_PUNCH_HOLE))
        r = allocate(f, off, len);
    if (!r && grow)
        r = file_truncate_locked(f, end, &more);
    if (more)
        journal_unreserve(f->n->vol->journal, more);
    return r;
}

int file_fallocate(struct node *n, int mode, uint64_t off, uint64_t len)
{
    int kind = mode & ~FALLOC_FL_KEEP_SIZE;
    if (kind != 0 && kind != FALLOC_FL_ZERO_RANGE && mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE))
        return -EOPNOTSUPP;
    if (!len || off > FILE_SIZE_MAX || len > FILE_SIZE_MAX - off)
        return len ? -EFBIG : -EINVAL;
    return change(n, fallocate_change, off, len, mode);
}

/* ---- copying and seeking ---- */

ssize_t file_copy_range(struct node *in, uint64_t off_in, struct node *out, uint64_t off_out, size_t len)
{
    size_t done = 0, piece = FILE_PIECE_CHUNKS * PAGE_BYTES;
    uint8_t *buf = malloc(len < piece ? len + 1 : piece);
    ssize_t r = buf ? 0 : -ENOMEM;
    while (!r && done < len) {
        size_t want = len - done < piece ? len - done : piece;
        ssize_t n = file_read(in, buf, want, off_in + done);
        if (n <= 0) {
            r = n;
            break;
        }
        ssize_t w = file_write(out, buf, (size_t)n, off_out + done);
        if (w < 0)
            r = w;
        else
            done += (size_t)w;
        if (w < n)
            break;
    }
    if (buf)
        sodium_memzero(buf, len < piece ? len + 1 : piece);
    free(buf);
    return done ? (ssize_t)done : r;
}

/* The first chunk from here on that is pending with data. */
static uint64_t next_pending(const struct overlay *o, uint64_t chunk)
{
    uint64_t next = CHUNK_END;
    for (size_t i = 0; o->count && i < o->cap; i++)
        if (o->slots[i].data_at != OV_FREE && o->slots[i].chunk >= chunk && o->slots[i].chunk < next)
            next = o->slots[i].chunk;
    return next;
}

/* Where the backing file has no data, no records are either: the first chunk behind the groups inside such a
 * hole. */
static uint64_t skip_placed(int fd, uint64_t chunk)
{
    uint64_t to = chunk + 1;
    off_t next = lseek(fd, (off_t)layout_record_offset(chunk), SEEK_DATA);
    if (next < 0)
        return errno == ENXIO ? CHUNK_END : to;
    uint64_t size = 0;
    if (layout_size((uint64_t)next, &size) == LENGTH_PAGED && layout_group_first(layout_chunks(size)) > to)
        to = layout_group_first(layout_chunks(size));
    return to;
}

/* True if the chunk holds data. *to: when it does not, where the next may be that does. */
static int chunk_has_data(struct file *f, int fd, uint64_t chunk, uint64_t *to, bool *data)
{
    uint8_t record[RECORD_BYTES];
    *data = overlay_get(&f->ov, chunk) != NULL;
    *to = chunk + 1;
    if (*data)
        return 0;
    bool placed = f->placed_state == CONTENT_PAGED;
    if (placed && rangeset_has(&f->ov.holes, chunk)) {
        *to = rangeset_end(&f->ov.holes, chunk);
    } else if (placed) {
        ssize_t n = io_pread(fd, record, sizeof record, layout_record_offset(chunk));
        if (n < 0)
            return (int)n;
        *data = n == sizeof record && !sodium_is_zero(record, sizeof record);
        *to = *data ? chunk + 1 : skip_placed(fd, chunk);
    } else {
        *to = CHUNK_END;
    }
    uint64_t pending = *data || *to == chunk + 1 ? CHUNK_END : next_pending(&f->ov, chunk);
    if (pending < *to)
        *to = pending;
    return 0;
}

static int64_t seek_locked(struct file *f, uint64_t off, int whence)
{
    uint64_t size = file_size(f), chunk = off / PAGE_BYTES;
    if (off >= size)
        return -ENXIO;
    if (f->state != CONTENT_PAGED)
        return (int64_t)(whence == SEEK_DATA ? off : size);
    int fd, r = node_fd_get(f->n, false, &fd);
    if (r)
        return r;
    while (!r && chunk < layout_chunks(size)) {
        uint64_t to;
        bool data;
        r = chunk_has_data(f, fd, chunk, &to, &data);
        if (r || data == (whence == SEEK_DATA))
            break;
        chunk = to < layout_chunks(size) ? to : layout_chunks(size);
    }
    node_fd_put(f->n);
    if (r)
        return r;
    uint64_t at = chunk * PAGE_BYTES > off ? chunk * PAGE_BYTES : off;
    if (at >= size)
        return whence == SEEK_DATA ? -ENXIO : (int64_t)size;
    return (int64_t)at;
}

int64_t file_seek(struct node *n, uint64_t off, int whence)
{
    struct volume *v = n->vol;
    struct file *f;
    if (whence != SEEK_DATA && whence != SEEK_HOLE)
        return -EINVAL;
    int64_t r = node_enter(n, false);
    if (r)
        return r;
    r = file_get(n, &f);
    if (!r) {
        r = file_lock_read(f);
        if (!r) {
            r = seek_locked(f, off, whence);
            file_unlock(f);
        }
        file_put(f);
    }
    volume_leave(v);
    return r < 0 ? volume_note(v, (int)r) : r;
}
