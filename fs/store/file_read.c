/* Reading: records from tag pages, ciphertext from its pages, both seen through the overlay. */
#include "fs/store/file_placed.h"
#include "fs/store/pd.h"

#include "latchfs/io.h"
#include "latchfs/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <unistd.h>

static struct content_ad chunk_ad(const struct file *f, uint64_t chunk, uint16_t epoch)
{
    return (struct content_ad){
        .kind = KIND_CHUNK, .suite = f->hdr.suite, .epoch = epoch, .file_id = f->hdr.file_id, .index = chunk};
}

/* One opener per request: remembers which key the context holds. */
struct opener {
    const struct file *f;
    struct aead *a;
    uint16_t epoch; /* loaded in a; 0: none */
    bool now;       /* -EAGAIN rather than wait for the disk */
};

static int opener_key(struct opener *o, uint16_t epoch)
{
    if (o->epoch == epoch)
        return 0;
    const uint8_t *key = file_content_key(o->f, epoch);
    if (!key)
        return LFS_ERR_AUTH;
    o->epoch = epoch;
    return aead_set_key(o->a, o->f->hdr.suite, key);
}

static int opener_init(struct opener *o, const struct file *f)
{
    *o = (struct opener){.f = f, .a = thread_aead()};
    return o->a ? 0 : -ENOMEM;
}

/* Decrypts one chunk whole (out has room for its length) or through a buffer when only a part is wanted. */
static int open_chunk(struct opener *o, uint64_t chunk, const struct record *rec, const uint8_t *cipher,
                      uint32_t skip, uint32_t want, uint8_t *out)
{
    struct content_ad ad = chunk_ad(o->f, chunk, rec->epoch);
    int r = opener_key(o, rec->epoch);
    if (r)
        return r;
    if (skip == 0 && want >= rec->length) {
        r = record_open(o->a, &ad, rec, cipher, out);
        memset(out + rec->length, 0, want - rec->length);
        return r;
    }
    uint8_t plain[PAGE_BYTES];
    r = record_open(o->a, &ad, rec, cipher, plain);
    uint32_t have = rec->length > skip ? rec->length - skip : 0;
    have = have < want ? have : want;
    if (!r) {
        memcpy(out, plain + skip, have);
        memset(out + have, 0, want - have);
    }
    sodium_memzero(plain, sizeof plain);
    return r;
}

/* The record of a chunk and where its ciphertext is. *cipher NULL: a hole. from_journal has a page. */
static int find_chunk(const struct file *f, uint64_t chunk, uint32_t i, const struct placed_run *run,
                      uint8_t *from_journal, struct record *rec, const uint8_t **cipher)
{
    const struct ov_chunk *o = overlay_get(&f->ov, chunk);
    *cipher = NULL;
    if (!o && (f->placed_state != CONTENT_PAGED || rangeset_has(&f->ov.holes, chunk)))
        return 0;
    if (!o && (uint64_t)(i + 1) * RECORD_BYTES > run->records_have)
        return chunk < f->placed_chunks && !f->replayed ? LFS_ERR_CORRUPT : 0; /* a cut putting in place */
    int r = record_decode(o ? o->record : run->records + (size_t)i * RECORD_BYTES, rec);
    if (r || record_is_hole(rec))
        return r;
    if (o && o->data_at) {
        *cipher = from_journal;
        return journal_read(f->n->vol->journal, from_journal, rec->length, o->data_at);
    }
    if ((uint64_t)i * PAGE_BYTES + rec->length > run->data_have)
        return LFS_ERR_CORRUPT;
    *cipher = run->data + (size_t)i * PAGE_BYTES;
    return 0;
}

/* Bytes [off, off + len) in chunks of one group. */
struct group_part {
    uint64_t first;
    uint32_t count;
    uint64_t off;
    size_t len;
    uint8_t *out;
};

static int open_group(struct opener *o, const struct group_part *g, const struct placed_run *run)
{
    uint8_t from_journal[PAGE_BYTES];
    int r = 0;
    for (uint32_t i = 0; !r && i < g->count; i++) {
        uint64_t chunk = g->first + i, start = chunk * PAGE_BYTES, end = g->off + g->len - start;
        uint32_t skip = g->off > start ? (uint32_t)(g->off - start) : 0;
        uint32_t want = (uint32_t)(end < PAGE_BYTES ? end : PAGE_BYTES) - skip;
        uint8_t *to = g->out + (start + skip - g->off);
        struct record rec;
        const uint8_t *cipher;
        r = find_chunk(o->f, chunk, i, run, from_journal, &rec, &cipher);
        if (!r && cipher)
            r = open_chunk(o, chunk, &rec, cipher, skip, want, to);
        else if (!r)
            memset(to, 0, want);
    }
    return r;
}

/* direct: the ciphertext is read to where the plaintext is wanted. */
static int read_part(struct opener *o, int fd, const struct group_part *g, bool direct)
{
    uint8_t records[PAGE_BYTES];
    struct placed_want w = {g->first, g->count, g->out, g->len};
    struct placed_run run = {0};
    int r = 0;
    if (!direct) {
        w.data = thread_scratch();
        w.len = (size_t)g->count * PAGE_BYTES;
    }
    if (!w.data)
        return -ENOMEM;
    /* Of a file that a replay would make paged, fresh pages may be there already. */
    if (o->f->placed_state == CONTENT_PAGED || o->f->replayed)
        r = o->now ? placed_read_now(o->f, fd, &w, records, &run) : placed_read(fd, &w, records, &run);
    return r ? r : open_group(o, g, &run);
}

/* Where the last chunk is longer than what is wanted of it, there is no room for it in the caller's buffer.
 */
static int read_group(struct opener *o, int fd, const struct group_part *g)
{
    bool direct = g->off % PAGE_BYTES == 0 && (g->len % PAGE_BYTES == 0 || g->off + g->len == o->f->hdr.size);
    int r = read_part(o, fd, g, direct);
    return direct && r == LFS_ERR_CORRUPT && g->len % PAGE_BYTES ? read_part(o, fd, g, false) : r;
}

static int read_paged(struct file *f, int fd, uint8_t *out, size_t len, uint64_t off, bool now)
{
    struct opener o;
    uint64_t end = off + len;
    int r = opener_init(&o, f);
    o.now = now && !f->replayed;
    for (uint64_t at = off; !r && at < end;) {
        struct group_part g = {.first = at / PAGE_BYTES, .off = at, .out = out + (at - off)};
        uint64_t next = layout_group_next(g.first), stop = next * PAGE_BYTES < end ? next * PAGE_BYTES : end;
        g.count = (uint32_t)((stop + PAGE_BYTES - 1) / PAGE_BYTES - g.first);
        g.len = (size_t)(stop - at);
        r = read_group(&o, fd, &g);
        at = stop;
    }
    return r;
}

static int read_inline_cipher(const struct file *f, int fd, uint8_t cipher[static INLINE_MAX])
{
    size_t len = f->hdr.size;
    if (f->ov.inline_at)
        return journal_read(f->n->vol->journal, cipher, len, f->ov.inline_at);
    ssize_t n = io_pread(fd, cipher, len, HEADER_BYTES);
    return n < 0 ? (int)n : (size_t)n < len ? LFS_ERR_CORRUPT : 0;
}

int file_read_inline(struct file *f, int fd, uint8_t plain[static PAGE_BYTES])
{
    const struct record *rec = &f->hdr.inline_record;
    uint8_t cipher[INLINE_MAX];
    struct opener o;
    struct content_ad ad = {
        .kind = KIND_INLINE, .suite = f->hdr.suite, .epoch = rec->epoch, .file_id = f->hdr.file_id};
    memset(plain, 0, PAGE_BYTES);
    if (!f->hdr.size)
        return 0;
    int r = opener_init(&o, f);
    bool kept = !r && thread_take_inline(rec, cipher);
    if (!r)
        r = opener_key(&o, rec->epoch);
    if (!r && !kept)
        r = read_inline_cipher(f, fd, cipher);
    if (!r)
        r = record_open(o.a, &ad, rec, cipher, plain);
    if (!kept || r != LFS_ERR_AUTH)
        return r;
    r = read_inline_cipher(f, fd, cipher); /* the place may have been mended since */
    return r ? r : record_open(o.a, &ad, rec, cipher, plain);
}

int file_read_chunk(struct file *f, int fd, uint64_t chunk, uint8_t plain[static PAGE_BYTES], size_t *len)
{
    uint8_t buf[2 * PAGE_BYTES], from_journal[PAGE_BYTES];
    struct placed_run run = {0};
    struct opener o;
    struct record rec;
    const uint8_t *cipher;
    uint64_t record_at = layout_record_offset(chunk);
    int r = opener_init(&o, f);
    if (!r && f->placed_state == CONTENT_PAGED && !overlay_get(&f->ov, chunk)) {
        ssize_t a = io_pread(fd, buf, RECORD_BYTES, record_at);
        ssize_t b = io_pread(fd, buf + PAGE_BYTES, PAGE_BYTES, layout_data_offset(chunk));
        if (a < 0 || b < 0)
            return (int)(a < 0 ? a : b);
        run = (struct placed_run){buf, (uint64_t)a, buf + PAGE_BYTES, (uint64_t)b};
    } else if (!r && f->placed_state == CONTENT_PAGED && overlay_get(&f->ov, chunk)->data_at == 0) {
        ssize_t b = io_pread(fd, buf + PAGE_BYTES, PAGE_BYTES, layout_data_offset(chunk));
        if (b < 0)
            return (int)b;
        run = (struct placed_run){.data = buf + PAGE_BYTES, .data_have = (uint64_t)b};
    }
    if (!r)
        r = find_chunk(f, chunk, 0, &run, from_journal, &rec, &cipher);
    if (r)
        return r;
    memset(plain, 0, PAGE_BYTES);
    *len = 0;
    if (!cipher)
        return 0;
    r = open_chunk(&o, chunk, &rec, cipher, 0, PAGE_BYTES, plain);
    if (!r)
        *len = rec.length;
    return r;
}

int file_read_other(struct file *f, int fd, uint64_t first, uint32_t count, uint16_t epoch, uint8_t *plain,
                    uint16_t *length)
{
    uint8_t *buf = thread_scratch(), from_journal[PAGE_BYTES];
    struct placed_want w = {first, count, buf + PAGE_BYTES, (size_t)count * PAGE_BYTES};
    struct placed_run run = {0};
    struct opener o;
    int r = buf ? opener_init(&o, f) : -ENOMEM;
    if (!r && f->placed_state == CONTENT_PAGED)
        r = placed_read(fd, &w, buf, &run);
    for (uint32_t i = 0; !r && i < count; i++) {
        struct record rec;
        const uint8_t *cipher;
        length[i] = 0;
        r = find_chunk(f, first + i, i, &run, from_journal, &rec, &cipher);
        if (r || !cipher || rec.epoch == epoch)
            continue;
        r = open_chunk(&o, first + i, &rec, cipher, 0, rec.length, plain + (size_t)i * PAGE_BYTES);
        length[i] = rec.length;
    }
    return r;
}

int file_verify_chunks(struct file *f, int fd, uint64_t first, uint32_t count, int *why)
{
    uint8_t *buf = thread_scratch(), from_journal[PAGE_BYTES], plain[PAGE_BYTES];
    struct placed_want w = {first, count, buf + PAGE_BYTES, (size_t)count * PAGE_BYTES};
    struct placed_run run = {0};
    struct opener o;
    int r = buf ? opener_init(&o, f) : -ENOMEM;
    if (!r && (f->placed_state == CONTENT_PAGED || f->replayed))
        r = placed_read(fd, &w, buf, &run);
    for (uint32_t i = 0; !r && i < count; i++) {
        struct record rec;
        const uint8_t *cipher;
        why[i] = find_chunk(f, first + i, i, &run, from_journal, &rec, &cipher);
        if (!why[i])
            why[i] = cipher ? open_chunk(&o, first + i, &rec, cipher, 0, PAGE_BYTES, plain) : 1;
    }
    sodium_memzero(plain, sizeof plain);
    return r;
}

int file_run_is_under(struct file *f, int fd, uint64_t first, uint32_t count, uint16_t epoch)
{
    uint8_t records[GROUP_RECORDS * RECORD_BYTES];
    ssize_t n = io_pread(fd, records, (size_t)count * RECORD_BYTES, layout_record_offset(first));
    if (n < 0)
        return (int)n;
    for (uint32_t i = 0; i < (uint32_t)n / RECORD_BYTES; i++) {
        struct record rec;
        if (overlay_get(&f->ov, first + i) || rangeset_has(&f->ov.holes, first + i))
            continue;
        if (record_decode(records + (size_t)i * RECORD_BYTES, &rec) ||
            (!record_is_hole(&rec) && rec.epoch != epoch))
            return 0;
    }
    return (uint64_t)n == (uint64_t)count * RECORD_BYTES;
}

/* ---- public ---- */

static ssize_t read_locked(struct file *f, uint8_t *buf, size_t len, uint64_t off, bool now)
{
    uint64_t size = file_size(f);
    int fd, r;
    if (off >= size)
        return 0;
    len = len < size - off ? len : (size_t)(size - off);
    r = node_fd_get(f->n, false, &fd);
    if (r)
        return r;
    if (f->state == CONTENT_INLINE) {
        uint8_t plain[PAGE_BYTES];
        r = file_read_inline(f, fd, plain);
        if (!r)
            memcpy(buf, plain + off, len);
        sodium_memzero(plain, sizeof plain);
    } else {
        r = read_paged(f, fd, buf, len, off, now);
        if (now && r == LFS_ERR_CORRUPT) /* who waits for the disk decides that */
            r = -EAGAIN;
    }
    node_fd_put(f->n);
    thread_forget_key();
    return r ? r : (ssize_t)len;
}

static ssize_t read_node(struct node *n, void *buf, size_t len, uint64_t off, bool now)
{
    struct volume *v = n->vol;
    struct file *f;
    ssize_t r = node_enter(n, false);
    if (r)
        return r;
    r = file_get(n, &f);
    if (!r) {
        r = now ? file_lock_read_now(f) : file_lock_read(f);
        if (!r) {
            r = read_locked(f, buf, len, off, now);
            file_unlock(f);
        }
        file_put(f);
    }
    volume_leave(v);
    return r < 0 ? volume_note(v, (int)r) : r;
}

ssize_t file_read(struct node *n, void *buf, size_t len, uint64_t off)
{
    return read_node(n, buf, len, off, false);
}

ssize_t file_read_now(struct node *n, void *buf, size_t len, uint64_t off)
{
    return read_node(n, buf, len, off, true);
}

#define STREAM_STEP (UINT64_C(4) << 20)

/* Some way behind, because others of the stream's reads may be under way. Not where it would have to be
 * written first. */
static void drop_behind(struct file *f, uint64_t step)
{
    int fd;
    if (file_lock_read(f))
        return;
    if (f->placed_state == CONTENT_PAGED && !file_is_unsynced(f) && node_fd_get(f->n, false, &fd) == 0) {
        uint64_t from = layout_data_offset((step - 2) * STREAM_STEP / PAGE_BYTES);
        uint64_t to = layout_data_offset((step - 1) * STREAM_STEP / PAGE_BYTES);
        posix_fadvise(fd, (off_t)from, (off_t)(to - from), POSIX_FADV_DONTNEED);
        node_fd_put(f->n);
    }
    file_unlock(f);
}

void file_passed(struct node *n, uint64_t off, size_t len)
{
    uint64_t step = (off + len) / STREAM_STEP;
    struct file *f;
    if (step == off / STREAM_STEP || step < 2 || node_enter(n, false))
        return;
    f = file_peek(n);
    if (f) {
        drop_behind(f, step);
        file_put(f);
    }
    volume_leave(n->vol);
}
