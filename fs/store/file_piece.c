#include "fs/store/file_piece.h"

#include "latchfs/crc32c.h"
#include "latchfs/err.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

void piece_begin(struct piece *p, struct file *f, size_t len, uint64_t off)
{
    p->f = f;
    p->first = off / PAGE_BYTES;
    p->count = (uint32_t)((off + len - 1) / PAGE_BYTES - p->first + 1);
    p->cipher = NULL;
    p->ahead_from = p->ahead_to = 0;
}

static int seal_chunk(struct piece *p, struct aead *a, const struct key_name *key, uint32_t i,
                      const uint8_t *plain, size_t len)
{
    struct content_ad ad = {KIND_CHUNK, key->suite, key->epoch, key->file_id, p->first + i};
    struct record rec;
    int r = record_seal(a, &ad, plain, len, piece_cipher(p, i), &rec);
    if (!r)
        record_encode(&rec, p->records + (size_t)i * RECORD_BYTES);
    return r;
}

/* Whole chunks; a few at a time, so that their CRCs find them in the nearest cache. */
static int seal_whole(struct piece *p, struct aead *a, const struct key_name *key, uint32_t from, uint32_t to,
                      const uint8_t *plain)
{
    int r = 0;
    for (uint32_t i = from, n; !r && i < to; i += n) {
        n = to - i < CRC32C_LANES ? to - i : CRC32C_LANES;
        for (uint32_t k = 0; !r && k < n; k++)
            r = seal_chunk(p, a, key, i + k, plain + (size_t)(i + k - from) * PAGE_BYTES, PAGE_BYTES);
        if (!r)
            crc32c_blocks(piece_cipher(p, i), PAGE_BYTES, n, p->crcs + i);
    }
    return r;
}

/* The chunks that [off, off + len) covers whole: [*from, *to) of the piece's. */
static void whole_chunks(const struct piece *p, size_t len, uint64_t off, uint32_t *from, uint32_t *to)
{
    *from = off % PAGE_BYTES ? 1 : 0;
    *to = p->count - ((off + len) % PAGE_BYTES ? 1 : 0);
    if (*to < *from)
        *to = *from;
}

static const uint8_t *plain_of(const struct piece *p, uint32_t i, const uint8_t *buf, uint64_t off)
{
    return buf + ((p->first + i) * PAGE_BYTES - off);
}

void piece_seal_ahead(struct piece *p, const uint8_t *buf, size_t len, uint64_t off)
{
    uint32_t from, to;
    struct aead *a = thread_aead();
    p->cipher = thread_scratch();
    whole_chunks(p, len, off, &from, &to);
    if (from == to || !a || !p->cipher || !file_key_ahead(p->f, a, &p->ahead))
        return;
    if (seal_whole(p, a, &p->ahead, from, to, plain_of(p, from, buf, off)) == 0) {
        p->ahead_from = from;
        p->ahead_to = to;
    }
}

/* The first or the last chunk, which the write covers in part, with what else is in it. */
static int seal_edge(struct piece *p, int fd, struct aead *a, const struct key_name *key, uint32_t i,
                     const uint8_t *buf, size_t len, uint64_t off)
{
    struct file *f = p->f;
    uint8_t plain[PAGE_BYTES];
    uint64_t start = (p->first + i) * PAGE_BYTES, size = f->hdr.size;
    uint32_t s = off > start ? (uint32_t)(off - start) : 0;
    uint32_t e = off + len - start < PAGE_BYTES ? (uint32_t)(off + len - start) : PAGE_BYTES;
    const uint8_t *from = buf + (start + s - off);
    size_t length = e;
    int r = 0;
    if (s > 0 || (e < PAGE_BYTES && start + e < size)) {
        r = file_read_chunk(f, fd, p->first + i, plain, &length);
        memcpy(plain + s, from, e - s);
        length = length > e ? length : e;
        from = plain;
        /* The read may have loaded the key of another epoch. */
        if (!r)
            r = aead_set_key(a, key->suite, file_content_key(f, key->epoch));
    }
    if (!r)
        r = seal_chunk(p, a, key, i, from, length);
    if (!r)
        p->crcs[i] = crc32c(0, piece_cipher(p, i), length);
    sodium_memzero(plain, sizeof plain);
    return r;
}

/* What was sealed before the lock is under the key that is the newest now. */
static bool is_ahead(const struct piece *p, const struct key_name *newest)
{
    const struct file_keys *keys = p->f->keys;
    return p->ahead_to > p->ahead_from && keys && p->ahead.serial == keys->serial &&
           p->ahead.epoch == newest->epoch;
}

int piece_seal(struct piece *p, int fd, const struct file_header *h, const uint8_t *buf, size_t len,
               uint64_t off)
{
    uint32_t from, to;
    struct aead *a;
    struct key_name key = {.suite = h->suite};
    whole_chunks(p, len, off, &from, &to);
    memcpy(key.file_id, h->file_id, ID_BYTES);
    key.epoch = h->place[header_newest(h)].epoch;
    bool ahead = is_ahead(p, &key);
    if (ahead && to - from == p->count)
        return h->chunk_writes + p->count >= FILE_MESSAGES_MAX ? -EFBIG : 0;
    p->cipher = thread_scratch();
    int r = p->cipher ? file_writing_key(p->f, h, p->count, &a, &key.epoch) : -ENOMEM;
    if (!r && !ahead)
        r = seal_whole(p, a, &key, from, to, plain_of(p, from, buf, off));
    for (uint32_t i = 0; !r && i < from; i++)
        r = seal_edge(p, fd, a, &key, i, buf, len, off);
    for (uint32_t i = to; !r && i < p->count; i++)
        r = seal_edge(p, fd, a, &key, i, buf, len, off);
    return r;
}
