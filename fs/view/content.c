#include "fs/view/content.h"

#include "latchfs/err.h"
#include "latchfs/header.h"
#include "latchfs/io.h"
#include "latchfs/layout.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <unistd.h>

#define EPOCH 1 /* of the file key, which a view never changes */

/* ---- where things are ---- */

bool content_is_inline(uint64_t size)
{
    return size <= INLINE_MAX;
}

uint64_t content_length(uint64_t size)
{
    return content_is_inline(size) ? HEADER_BYTES + size : layout_length(size);
}

uint64_t content_group_at(uint64_t offset)
{
    uint64_t page = offset / PAGE_BYTES;
    return page <= FIRST_RECORDS ? 0 : 1 + (page - FIRST_RECORDS - 1) / GROUP_PAGES;
}

uint64_t content_group_first(uint64_t group)
{
    return group ? FIRST_RECORDS + (group - 1) * GROUP_RECORDS : 0;
}

uint64_t content_group_offset(uint64_t group)
{
    return layout_tag_page(content_group_first(group));
}

unsigned content_group_chunks(uint64_t group, uint64_t size)
{
    uint64_t first = content_group_first(group), all = layout_chunks(size);
    uint64_t most = group ? GROUP_RECORDS : FIRST_RECORDS;
    return (unsigned)(all <= first ? 0 : all - first < most ? all - first : most);
}

/* ---- header ---- */

static int make_header(const struct content *c, const struct view_keys *k, const uint8_t *file_key,
                       const struct record *inline_record, uint8_t *out)
{
    uint8_t nonce[KEYWRAP_NONCE_BYTES], mac_key[LFS_KEY_BYTES];
    struct file_header h = {.suite = k->suite,
                            .state = inline_record ? FILE_INLINE : FILE_PAGED,
                            .key_version = k->dir_version,
                            .size = c->size,
                            .chunk_writes = inline_record ? 1 : layout_chunks(c->size),
                            .generation = 1,
                            .seal_state = SEAL_OPEN};
    memcpy(h.file_id, c->id, ID_BYTES);
    memcpy(h.pd_id, k->pd_id, ID_BYTES);
    memcpy(h.home[0], c->home, ID_BYTES);
    if (inline_record)
        h.inline_record = *inline_record;
    view_wrap_nonce(k, c->id, file_key, nonce);
    int r = header_wrap_key_with(&h, 0, EPOCH, nonce, k->dir_key, file_key);
    file_subkey(file_key, FILE_SUB_HEADER, mac_key);
    if (!r) {
        header_set_mac(&h, mac_key);
        header_encode(&h, out);
    }
    sodium_memzero(mac_key, sizeof mac_key);
    return r;
}

static int load_content_key(const struct view_keys *k, struct aead *a, const uint8_t *file_key)
{
    uint8_t key[LFS_KEY_BYTES];
    file_subkey(file_key, FILE_SUB_CONTENT, key);
    int r = aead_set_key(a, k->suite, key);
    sodium_memzero(key, sizeof key);
    return r;
}

/* ---- messages ---- */

static int seal(const struct content *c, const struct view_keys *k, struct aead *a, uint8_t kind,
                uint64_t index, const uint8_t *plain, size_t len, uint8_t *cipher, struct record *out)
{
    uint8_t nonce[NONCE_BYTES];
    struct content_ad ad = {
        .kind = kind, .suite = k->suite, .epoch = EPOCH, .file_id = c->id, .index = index};
    view_nonce(k, kind, c->id, index, NULL, plain, len, nonce);
    return record_seal_with(a, &ad, nonce, plain, len, cipher, out);
}

int content_inline(const struct content *c, const struct view_keys *k, struct aead *a, const uint8_t *plain,
                   uint8_t *out)
{
    uint8_t file_key[LFS_KEY_BYTES];
    struct record r;
    view_file_key(k, c->id, file_key);
    int err = load_content_key(k, a, file_key);
    if (!err)
        err = seal(c, k, a, KIND_INLINE, 0, plain, (size_t)c->size, out + HEADER_BYTES, &r);
    if (!err)
        err = make_header(c, k, file_key, &r, out);
    aead_clear_key(a);
    sodium_memzero(file_key, sizeof file_key);
    return err;
}

/* ---- chunks ---- */

/* Bit i of data: chunk first + i is not a hole. File systems that know no holes say that all is data. */
struct data_map {
    uint64_t bits[GROUP_RECORDS / 64];
};

static void mark(struct data_map *m, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i < to; i++)
        m->bits[i / 64] |= UINT64_C(1) << (i % 64);
}

static bool is_data(const struct data_map *m, unsigned i)
{
    return m->bits[i / 64] >> (i % 64) & 1;
}

static int find_data(const struct content *c, uint64_t first, unsigned count, struct data_map *m)
{
    uint64_t from = first * PAGE_BYTES, end = from + (uint64_t)count * PAGE_BYTES;
    *m = (struct data_map){0};
    for (uint64_t at = from; at < end;) {
        off_t data = lseek(c->fd, (off_t)at, SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            return 0;
        off_t hole = data < 0 ? -1 : lseek(c->fd, data, SEEK_HOLE);
        if (data < 0 && errno != EINVAL && errno != EOPNOTSUPP)
            return -errno;
        uint64_t begin = data < 0 ? at : (uint64_t)data, stop = hole < 0 ? end : (uint64_t)hole;
        if (begin >= end)
            return 0;
        stop = stop < end ? stop : end;
        mark(m, begin / PAGE_BYTES - first, (stop + PAGE_BYTES - 1) / PAGE_BYTES - first);
        at = stop > at ? stop : end;
    }
    return 0;
}

/* Length of a chunk by the size. */
static size_t chunk_length(const struct content *c, uint64_t chunk)
{
    uint64_t left = c->size - chunk * PAGE_BYTES;
    return left < PAGE_BYTES ? (size_t)left : PAGE_BYTES;
}

/* All that is data, holes in between with it, in one read. */
static int read_plain(const struct content *c, uint64_t first, unsigned count, const struct data_map *m,
                      uint8_t *plain)
{
    unsigned from = 0, to = count;
    while (from < to && !is_data(m, from))
        from++;
    while (to > from && !is_data(m, to - 1))
        to--;
    if (from == to)
        return 0;
    size_t want = (size_t)(to - from - 1) * PAGE_BYTES + chunk_length(c, first + to - 1);
    ssize_t got = io_pread(c->fd, plain + (size_t)from * PAGE_BYTES, want, (first + from) * PAGE_BYTES);
    return got < 0 ? (int)got : (size_t)got == want ? 0 : -EIO;
}

static int seal_chunks(const struct content *c, const struct view_keys *k, struct aead *a, uint64_t first,
                       unsigned count, const struct data_map *m, const uint8_t *plain, uint8_t *out,
                       uint8_t *records)
{
    int r = 0;
    for (unsigned i = 0; i < count && !r; i++) {
        struct record rec = {0};
        size_t at = (size_t)i * PAGE_BYTES, len = is_data(m, i) ? chunk_length(c, first + i) : 0;
        if (len)
            r = seal(c, k, a, KIND_CHUNK, first + i, plain + at, len, out + at, &rec);
        memset(out + at + len, 0, PAGE_BYTES - len);
        record_encode(&rec, records + (size_t)i * RECORD_BYTES);
    }
    return r;
}

static int make_chunks(const struct content *c, const struct view_keys *k, struct aead *a,
                       const uint8_t *file_key, uint64_t first, unsigned count, uint8_t *plain, uint8_t *out,
                       uint8_t *records)
{
    struct data_map m;
    int r = find_data(c, first, count, &m);
    if (!r)
        r = read_plain(c, first, count, &m, plain);
    if (!r)
        r = load_content_key(k, a, file_key);
    if (!r)
        r = seal_chunks(c, k, a, first, count, &m, plain, out, records);
    aead_clear_key(a);
    return r;
}

int content_chunks(const struct content *c, const struct view_keys *k, struct aead *a, uint64_t first,
                   unsigned count, uint8_t *plain, uint8_t *out, uint8_t *records)
{
    uint8_t file_key[LFS_KEY_BYTES];
    view_file_key(k, c->id, file_key);
    int r = make_chunks(c, k, a, file_key, first, count, plain, out, records);
    sodium_memzero(file_key, sizeof file_key);
    return r;
}

int content_group(const struct content *c, const struct view_keys *k, struct aead *a, uint64_t group,
                  uint8_t *plain, uint8_t *image)
{
    uint8_t file_key[LFS_KEY_BYTES], *records = image + (group ? 0 : HEADER_BYTES);
    unsigned count = content_group_chunks(group, c->size);
    view_file_key(k, c->id, file_key);
    memset(image, 0, PAGE_BYTES);
    int r =
        make_chunks(c, k, a, file_key, content_group_first(group), count, plain, image + PAGE_BYTES, records);
    if (!r && !group)
        r = make_header(c, k, file_key, NULL, image);
    sodium_memzero(file_key, sizeof file_key);
    return r;
}

/* ---- holes of the view ---- */

/* Where data (or a hole) of the plain file begins, from offset on; c->size if there is none before it. */
static uint64_t plain_next(const struct content *c, uint64_t offset, bool hole)
{
    off_t at = offset < c->size ? lseek(c->fd, (off_t)offset, hole ? SEEK_HOLE : SEEK_DATA) : -1;
    if (at >= 0)
        return (uint64_t)at < c->size ? (uint64_t)at : c->size;
    return offset >= c->size || errno == ENXIO || hole ? c->size : offset;
}

static uint64_t chunk_group(uint64_t chunk)
{
    return content_group_at(layout_data_offset(chunk));
}

/* A tag page is a hole when its whole group is. */
static int64_t seek_data(const struct content *c, uint64_t offset)
{
    uint64_t group = content_group_at(offset), base = content_group_offset(group);
    uint64_t page = (offset - base) / PAGE_BYTES, first = content_group_first(group);
    if (offset < PAGE_BYTES)
        return (int64_t)offset;
    uint64_t chunk = first + (page ? page - 1 : 0), data = plain_next(c, chunk * PAGE_BYTES, false);
    if (data >= c->size)
        return -ENXIO;
    uint64_t found = data / PAGE_BYTES, there = chunk_group(found);
    uint64_t at = there > group ? content_group_offset(there) : layout_data_offset(found);
    return (int64_t)(at < offset || (!page && there == group) ? offset : at);
}

/* Tag pages between data count as data. */
static int64_t seek_hole(const struct content *c, uint64_t offset)
{
    uint64_t group = content_group_at(offset), base = content_group_offset(group);
    uint64_t page = (offset - base) / PAGE_BYTES;
    uint64_t chunk = content_group_first(group) + (page ? page - 1 : 0);
    for (;;) {
        uint64_t hole = plain_next(c, chunk * PAGE_BYTES, true);
        if (hole >= c->size)
            return (int64_t)content_length(c->size);
        chunk = (hole + PAGE_BYTES - 1) / PAGE_BYTES;
        if (chunk * PAGE_BYTES >= c->size)
            return (int64_t)content_length(c->size);
        uint64_t data = plain_next(c, chunk * PAGE_BYTES, false) / PAGE_BYTES;
        if (data > chunk || plain_next(c, chunk * PAGE_BYTES, false) >= c->size)
            break;
        chunk = data;
    }
    uint64_t at = layout_data_offset(chunk);
    return (int64_t)(at < offset ? offset : at);
}

int64_t content_seek(const struct content *c, uint64_t offset, bool hole)
{
    uint64_t length = content_length(c->size);
    if (offset >= length)
        return -ENXIO;
    if (content_is_inline(c->size))
        return hole ? (int64_t)length : (int64_t)offset;
    return hole ? seek_hole(c, offset) : seek_data(c, offset);
}
