/* Small files: inline content, the way from inline to paged, and the first write of an empty file, which goes
 * in place at once. */
#include "fs/store/file_home.h"
#include "fs/store/txn.h"

#include "latchfs/io.h"

#include <sodium.h>
#include <string.h>

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

int file_write_inline(struct file *f, int fd, const uint8_t *buf, size_t len, uint64_t off,
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
        txn_chunks(&t, 0, 1, false, record, cipher, NULL);
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
    file_cut_space(f, 0);
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
