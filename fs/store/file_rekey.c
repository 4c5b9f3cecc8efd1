/* New keys for a file that stands: its header wrapped by another directory key, and a new file key whose
 * content takes the place of the old one's piece by piece while programs use the file. */
#include "fs/store/seal.h"
#include "fs/store/txn.h"

#include "latchfs/io.h"
#include "latchfs/layout.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <unistd.h>

#define SPENT_MARGIN (4u * FILE_PIECE_CHUNKS) /* messages */

int file_commit_header(struct txn *t, const struct file_header *h, uint64_t *reserved)
{
    int r = txn_commit(t, reserved);
    if (!r) {
        t->f->hdr = *h;
        t->f->ov.changed = true;
    }
    return r;
}

static int commit(struct file *f, struct file_header *h, uint64_t *reserved, uint64_t *seq)
{
    struct txn t;
    txn_begin(&t, f);
    txn_header(&t, h);
    int r = file_commit_header(&t, h, reserved);
    if (!r)
        *seq = t.seq;
    return r;
}

/* h is brought to the active version with the places it has. */
static int wrap_places(struct file *f, struct file_header *h)
{
    struct file_header old = *h;
    uint32_t active = file_active_version(f);
    const uint8_t *from = file_dir_key(f, old.key_version), *to = file_dir_key(f, active);
    if (old.key_version >= active)
        return 0;
    uint8_t *file_key = locked_alloc(LFS_KEY_BYTES);
    int r = !from || !to ? LFS_ERR_NOKEY : file_key ? 0 : -ENOMEM;
    h->key_version = active;
    for (int i = 0; !r && i < 2; i++) {
        if (!old.place[i].epoch)
            continue;
        r = header_unwrap_key(&old, i, from, file_key);
        if (!r)
            r = header_wrap_key(h, i, old.place[i].epoch, to, file_key);
    }
    locked_free(file_key);
    return r;
}

int file_rewrap(struct file *f, uint64_t *reserved)
{
    struct file_header h = f->hdr;
    struct txn t;
    int r = wrap_places(f, &h);
    if (r)
        return r;
    txn_begin(&t, f);
    txn_header_as_is(&t, &h); /* the file key and so the root of a seal stay */
    return file_commit_header(&t, &h, reserved);
}

/* ---- the second place ---- */

/* A header that a replay may not reach must not be the only one with a key that is used: entries before it
 * whose fresh data is not known to be on disk would take it with them. And chunks that are pending under the
 * old key would have to be looked for. */
static int settle_pending(struct file *f)
{
    if (f->fresh_seq <= f->marked_seq && !f->ov.count)
        return 0;
    int r = file_commit(f);
    return r ? r : file_apply(f);
}

/* A fresh key beside the one there is: into h, and its subkeys with the old ones'. */
static int second_place(struct file *f, struct file_header *h, struct file_keys *keys)
{
    int old = header_newest(h);
    uint16_t epoch = h->place[old].epoch;
    const uint8_t *dk = file_dir_key(f, h->key_version);
    if (epoch == UINT16_MAX)
        return LFS_ERR_UNSUPPORTED;
    uint8_t *file_key = locked_alloc(LFS_KEY_BYTES);
    int r = !dk ? LFS_ERR_NOKEY : file_key ? 0 : -ENOMEM;
    if (!r) {
        randombytes_buf(file_key, LFS_KEY_BYTES);
        r = header_wrap_key(h, 1 - old, (uint16_t)(epoch + 1), dk, file_key);
    }
    if (!r) {
        keys->k[1] = f->keys->k[0];
        memcpy(keys->file_id, h->file_id, ID_BYTES);
        keys->suite = h->suite;
        file_derive_keys(keys, 0, (uint16_t)(epoch + 1), file_key);
        keys->count = 2;
        h->chunk_writes = 0;
    }
    locked_free(file_key);
    return r;
}

int file_rekey_begin(struct file *f, uint64_t *reserved)
{
    struct file_keys *keys;
    if (f->state == CONTENT_NONE || file_has_two_keys(f))
        return 0;
    int r = settle_pending(f);
    if (!r)
        r = seal_check_change(f); /* while the keys are those of the seal */
    if (r)
        return r;
    struct file_header h = f->hdr;
    keys = file_keys_new();
    r = keys ? wrap_places(f, &h) : -ENOMEM;
    if (!r)
        r = second_place(f, &h, keys);
    if (!r) {
        keys = file_keys_swap(f, keys); /* the header's MAC is the newest key's */
        r = commit(f, &h, reserved, &f->rekey_seq);
        keys = r ? file_keys_swap(f, keys) : keys;
    }
    locked_free(keys); /* those that are not the file's */
    return r;
}

int file_rekey_spent(struct file *f, uint64_t *reserved)
{
    if (f->state == CONTENT_NONE || f->hdr.chunk_writes + SPENT_MARGIN < FILE_MESSAGES_MAX ||
        file_has_two_keys(f))
        return 0;
    uint64_t part = file_share(reserved, FILE_SHARE);
    int r = file_rekey_begin(f, &part);
    if (part)
        journal_unreserve(f->n->vol->journal, part);
    return r;
}

int file_rekey_end(struct file *f, uint64_t *reserved)
{
    struct file_header h = f->hdr;
    uint64_t seq;
    int older = 1 - header_newest(&h);
    if (!file_has_two_keys(f))
        return 0;
    if (h.state == FILE_INLINE && h.inline_record.epoch == h.place[older].epoch)
        return LFS_ERR_MISUSE;
    h.place[older] = (struct key_place){0};
    int r = commit(f, &h, reserved, &seq);
    if (r)
        return r;
    sodium_memzero(&f->keys->k[1], sizeof f->keys->k[1]);
    f->keys->count = 1;
    return 0;
}

/* ---- content ---- */

/* One group of chunks on its way. */
struct regroup {
    struct file *f;
    uint64_t first;
    uint32_t count;
    uint16_t length[GROUP_RECORDS]; /* 0: not to be written */
    uint8_t *bytes;                 /* chunk i at i * PAGE_BYTES: plaintext, then ciphertext */
    uint8_t records[GROUP_RECORDS * RECORD_BYTES];
};

/* In place, so that no plaintext stays in the buffer. */
static int seal_group(struct regroup *g, struct file_header *h, uint64_t *bytes)
{
    struct aead *a;
    uint16_t epoch;
    int r = file_writing_key(g->f, h, g->count, &a, &epoch);
    for (uint32_t i = 0; !r && i < g->count; i++) {
        if (!g->length[i])
            continue;
        struct content_ad ad = {KIND_CHUNK, h->suite, epoch, h->file_id, g->first + i};
        struct record rec;
        uint8_t *p = g->bytes + (size_t)i * PAGE_BYTES;
        r = record_seal(a, &ad, p, g->length[i], p, &rec);
        if (!r)
            record_encode(&rec, g->records + (size_t)i * RECORD_BYTES);
        h->chunk_writes++;
        *bytes += g->length[i];
    }
    return r;
}

/* Names the runs in the entry: overwrites of what stands in place, which has its space. */
static void name_runs(const struct regroup *g, struct txn *t)
{
    for (uint32_t i = 0, n; i < g->count; i += n) {
        bool takes = g->length[i] > 0;
        for (n = 1; i + n < g->count && (g->length[i + n] > 0) == takes;)
            n++;
        if (takes)
            txn_chunks(t, g->first + i, n, false, g->records + (size_t)i * RECORD_BYTES,
                       g->bytes + (size_t)i * PAGE_BYTES, NULL);
    }
}

static int remember_group(struct regroup *g, uint64_t data_at)
{
    int r = 0;
    for (uint32_t i = 0; !r && i < g->count; i++) {
        if (!g->length[i])
            continue;
        r = file_remember_chunk(g->f, g->first + i, g->records + (size_t)i * RECORD_BYTES, data_at);
        data_at += g->length[i];
    }
    if (r)
        volume_fail_readonly(g->f->n->vol, r, "journal bookkeeping");
    return r;
}

static int write_group(struct regroup *g, struct file_header *h, uint64_t *reserved)
{
    struct txn t;
    txn_begin(&t, g->f);
    name_runs(g, &t);
    txn_header(&t, h);
    int r = txn_commit(&t, reserved);
    if (r)
        return r;
    g->f->hdr = *h;
    g->f->ov.changed = true;
    return remember_group(g, t.data_at);
}

static int rekey_group(struct file *f, int fd, uint64_t first, uint32_t count, uint64_t *bytes,
                       uint64_t *reserved)
{
    struct regroup g = {.f = f, .first = first, .count = count, .bytes = thread_scratch()};
    struct file_header h = f->hdr;
    uint16_t epoch = h.place[header_newest(&h)].epoch;
    if (!g.bytes)
        return -ENOMEM;
    g.bytes += (size_t)(GROUP_RECORDS + 1) * PAGE_BYTES;
    int r = file_read_other(f, fd, first, count, epoch, g.bytes, g.length);
    if (!r)
        r = seal_group(&g, &h, bytes);
    if (r)
        sodium_memzero(g.bytes, (size_t)count * PAGE_BYTES);
    return r || !*bytes ? r : write_group(&g, &h, reserved);
}

/* Where the backing file has data next: a hole in it holds no record. */
static void skip_hole(int fd, uint64_t *chunk)
{
    uint64_t end = layout_data_offset(layout_group_next(*chunk) - 1) + PAGE_BYTES, size = 0;
    off_t next = lseek(fd, (off_t)layout_tag_page(*chunk), SEEK_DATA);
    if (next < 0 && errno == ENXIO)
        *chunk = CHUNK_END;
    else if (next >= 0 && (uint64_t)next >= end && layout_size((uint64_t)next + 1, &size) == LENGTH_PAGED)
        *chunk = layout_group_first(layout_chunks(size) - 1);
}

static int rekey_paged(struct file *f, int fd, uint64_t *chunk, uint64_t *bytes, uint64_t *reserved)
{
    /* What is not in place was written under the newest key: see settle_pending. */
    uint64_t chunks = layout_chunks(f->hdr.size), first = *chunk;
    chunks = f->placed_state != CONTENT_PAGED ? 0 : chunks < f->placed_chunks ? chunks : f->placed_chunks;
    uint16_t epoch = f->hdr.place[header_newest(&f->hdr)].epoch;
    while (first < chunks) {
        uint64_t next = layout_group_next(first), end = next < chunks ? next : chunks;
        int done = file_run_is_under(f, fd, first, (uint32_t)(end - first), epoch);
        if (done < 0)
            return done;
        if (!done) {
            *chunk = next;
            return rekey_group(f, fd, first, (uint32_t)(end - first), bytes, reserved);
        }
        first = next;
        skip_hole(fd, &first);
    }
    *chunk = CHUNK_END;
    return 0;
}

static int rekey_inline(struct file *f, int fd, uint64_t *bytes, uint64_t *reserved)
{
    uint8_t plain[PAGE_BYTES];
    uint16_t epoch = f->hdr.inline_record.epoch;
    if (!epoch || epoch == f->hdr.place[header_newest(&f->hdr)].epoch)
        return 0;
    int r = file_read_inline(f, fd, plain);
    if (!r)
        r = file_store_inline(f, plain, (size_t)f->hdr.size, reserved);
    sodium_memzero(plain, sizeof plain);
    *bytes += r ? 0 : f->hdr.size;
    return r;
}

int file_rekey_some(struct file *f, uint64_t *chunk, uint64_t *bytes, uint64_t *reserved)
{
    int fd, r = node_fd_get(f->n, true, &fd);
    if (r)
        return r;
    *bytes = 0;
    if (f->state == CONTENT_PAGED) {
        r = rekey_paged(f, fd, chunk, bytes, reserved);
    } else {
        r = f->state == CONTENT_INLINE ? rekey_inline(f, fd, bytes, reserved) : 0;
        *chunk = CHUNK_END;
    }
    node_fd_put(f->n);
    thread_forget_key();
    return r;
}
