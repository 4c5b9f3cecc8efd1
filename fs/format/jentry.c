#include "latchfs/jentry.h"

#include "latchfs/err.h"

#include <sodium.h>
#include <string.h>

#define SUPER_MAGIC "LATCHJNL"
#define ENTRY_MAGIC UINT32_C(0x31454a4c) /* "LJE1" */
#define CHUNKS_MAX (FILE_SIZE_MAX / PAGE_BYTES)

void journal_keys_derive(const uint8_t journal_key[static LFS_KEY_BYTES], struct journal_keys *out)
{
    crypto_kdf_derive_from_key(out->super, LFS_KEY_BYTES, 1, "latchfsJ", journal_key);
    crypto_kdf_derive_from_key(out->entry, LFS_KEY_BYTES, 2, "latchfsJ", journal_key);
}

void journal_super_encode(const struct journal_super *s, const struct journal_keys *k,
                          uint8_t out[static JOURNAL_SUPER_BYTES])
{
    struct wcur c = wcur_over(out, JOURNAL_SUPER_BYTES);
    wcur_bytes(&c, SUPER_MAGIC, 8);
    wcur_u16(&c, FORMAT_VERSION);
    wcur_zeros(&c, 6);
    wcur_bytes(&c, s->volume_id, ID_BYTES);
    wcur_u64(&c, s->counter);
    wcur_u64(&c, s->generation);
    wcur_bytes(&c, s->incarnation, sizeof s->incarnation);
    wcur_u64(&c, s->ring_bytes);
    wcur_u64(&c, s->tail_pos);
    wcur_u64(&c, s->tail_seq);
    wcur_bytes(&c, s->tail_mac, sizeof s->tail_mac);
    wcur_u64(&c, s->self_ino);
    wcur_zeros(&c, c.left);
    crypto_generichash(out + JOURNAL_SUPER_BYTES - 32, 32, out, JOURNAL_SUPER_BYTES - 32, k->super,
                       LFS_KEY_BYTES);
}

int journal_super_decode(const uint8_t in[static JOURNAL_SUPER_BYTES], const struct journal_keys *k,
                         struct journal_super *out)
{
    struct rcur c = rcur_over(in, JOURNAL_SUPER_BYTES - 32);
    struct journal_super s = {0};
    const uint8_t *magic = rcur_view(&c, 8);
    if (memcmp(magic, SUPER_MAGIC, 8))
        return LFS_ERR_CORRUPT;
    if (rcur_u16(&c) != FORMAT_VERSION)
        return LFS_ERR_UNSUPPORTED;
    bool clean = rcur_zeros(&c, 6);
    rcur_bytes(&c, s.volume_id, ID_BYTES);
    s.counter = rcur_u64(&c);
    s.generation = rcur_u64(&c);
    rcur_bytes(&c, s.incarnation, sizeof s.incarnation);
    s.ring_bytes = rcur_u64(&c);
    s.tail_pos = rcur_u64(&c);
    s.tail_seq = rcur_u64(&c);
    rcur_bytes(&c, s.tail_mac, sizeof s.tail_mac);
    s.self_ino = rcur_u64(&c);
    clean = rcur_zeros(&c, c.left) && clean;
    if (k) {
        uint8_t mac[32];
        crypto_generichash(mac, 32, in, JOURNAL_SUPER_BYTES - 32, k->super, LFS_KEY_BYTES);
        if (sodium_memcmp(mac, in + JOURNAL_SUPER_BYTES - 32, 32))
            return LFS_ERR_AUTH;
    }
    if (!clean || s.ring_bytes % PAGE_BYTES || s.tail_pos % JENTRY_ALIGN ||
        (s.ring_bytes && (s.ring_bytes < JOURNAL_RING_MIN || s.ring_bytes > JOURNAL_RING_MAX)))
        return LFS_ERR_CORRUPT;
    *out = s;
    return 0;
}

uint32_t jentry_data_offset(uint32_t item_bytes)
{
    return (JENTRY_HEAD_BYTES + item_bytes + JENTRY_MAC_BYTES + 7u) & ~7u;
}

uint32_t jentry_total(uint32_t item_bytes, uint32_t data_bytes)
{
    return (jentry_data_offset(item_bytes) + data_bytes + JENTRY_ALIGN - 1) & ~(JENTRY_ALIGN - 1);
}

void jentry_head_encode(const struct jentry_head *h, uint8_t out[static JENTRY_HEAD_BYTES])
{
    struct wcur c = wcur_over(out, JENTRY_HEAD_BYTES);
    wcur_u32(&c, ENTRY_MAGIC);
    wcur_u32(&c, h->total);
    wcur_u64(&c, h->seq);
    wcur_bytes(&c, h->file_id, ID_BYTES);
    wcur_u64(&c, h->ino);
    wcur_u32(&c, h->item_bytes);
    wcur_u32(&c, h->data_bytes);
    wcur_zeros(&c, c.left);
}

int jentry_head_decode(const uint8_t in[static JENTRY_HEAD_BYTES], struct jentry_head *out)
{
    struct rcur c = rcur_over(in, JENTRY_HEAD_BYTES);
    struct jentry_head h = {0};
    if (rcur_u32(&c) != ENTRY_MAGIC)
        return LFS_ERR_CORRUPT;
    h.total = rcur_u32(&c);
    h.seq = rcur_u64(&c);
    rcur_bytes(&c, h.file_id, ID_BYTES);
    h.ino = rcur_u64(&c);
    h.item_bytes = rcur_u32(&c);
    h.data_bytes = rcur_u32(&c);
    if (!rcur_zeros(&c, c.left) || h.item_bytes > JENTRY_ITEMS_MAX || h.data_bytes > JENTRY_DATA_MAX ||
        h.total % JENTRY_ALIGN || h.total < jentry_total(h.item_bytes, h.data_bytes))
        return LFS_ERR_CORRUPT;
    *out = h;
    return 0;
}

void jentry_mac(const struct journal_keys *k, const uint8_t incarnation[static 16],
                const uint8_t prev[static JENTRY_MAC_BYTES], const uint8_t head[static JENTRY_HEAD_BYTES],
                const uint8_t *items, size_t item_bytes, uint8_t mac[static JENTRY_MAC_BYTES])
{
    crypto_generichash_state st;
    crypto_generichash_init(&st, k->entry, LFS_KEY_BYTES, JENTRY_MAC_BYTES);
    crypto_generichash_update(&st, incarnation, 16);
    crypto_generichash_update(&st, prev, JENTRY_MAC_BYTES);
    crypto_generichash_update(&st, head, JENTRY_HEAD_BYTES);
    crypto_generichash_update(&st, items, item_bytes);
    crypto_generichash_final(&st, mac, JENTRY_MAC_BYTES);
    sodium_memzero(&st, sizeof st);
}

void jitem_put_header(struct wcur *c, const uint8_t image[static HEADER_BYTES])
{
    wcur_u8(c, JITEM_HEADER);
    wcur_bytes(c, image, HEADER_BYTES);
}

void jitem_put_chunks(struct wcur *c, uint64_t first, uint32_t count, bool fresh)
{
    wcur_u8(c, JITEM_CHUNKS);
    wcur_u64(c, first);
    wcur_u32(c, count);
    wcur_u8(c, fresh);
}

void jitem_put_chunk(struct wcur *c, const uint8_t record[static RECORD_BYTES], uint32_t crc)
{
    wcur_bytes(c, record, RECORD_BYTES);
    wcur_u32(c, crc);
}

void jitem_put_cut(struct wcur *c, uint64_t length)
{
    wcur_u8(c, JITEM_CUT);
    wcur_u64(c, length);
}

void jitem_put_punch(struct wcur *c, uint64_t first, uint64_t count)
{
    wcur_u8(c, JITEM_PUNCH);
    wcur_u64(c, first);
    wcur_u64(c, count);
}

void jitem_put_inline(struct wcur *c, uint16_t length, uint32_t crc)
{
    wcur_u8(c, JITEM_INLINE);
    wcur_u16(c, length);
    wcur_u32(c, crc);
}

void jitem_put_mark(struct wcur *c, const uint8_t file_id[static ID_BYTES], uint64_t seq)
{
    wcur_u8(c, JITEM_MARK);
    wcur_bytes(c, file_id, ID_BYTES);
    wcur_u64(c, seq);
}

void jitem_put_path(struct wcur *c, const char *path, size_t len)
{
    wcur_u8(c, JITEM_PATH);
    wcur_u16(c, (uint16_t)len);
    wcur_bytes(c, path, len);
}

void jitem_put_removed(struct wcur *c)
{
    wcur_u8(c, JITEM_REMOVED);
}

static bool chunks_bad(const struct jitem *it)
{
    return it->first >= CHUNKS_MAX || it->count == 0 || it->count > CHUNKS_MAX - it->first;
}

static bool get_body(struct rcur *c, struct jitem *it)
{
    switch (it->type) {
    case JITEM_HEADER:
        it->image = rcur_view(c, HEADER_BYTES);
        return true;
    case JITEM_CHUNKS:
        it->first = rcur_u64(c);
        it->count = rcur_u32(c);
        uint8_t fresh = rcur_u8(c);
        it->fresh = fresh == 1;
        if (c->bad || fresh > 1 || chunks_bad(it))
            return false;
        it->chunks = rcur_view(c, it->count * JCHUNK_BYTES);
        return true;
    case JITEM_CUT:
        it->length = rcur_u64(c);
        return it->length >= HEADER_BYTES && it->length <= FILE_SIZE_MAX * 2;
    case JITEM_PUNCH:
        it->first = rcur_u64(c);
        it->count = rcur_u64(c);
        return !chunks_bad(it);
    case JITEM_INLINE:
        it->length = rcur_u16(c);
        it->crc = rcur_u32(c);
        return it->length <= INLINE_MAX;
    case JITEM_MARK:
        it->file_id = rcur_view(c, ID_BYTES);
        it->seq = rcur_u64(c);
        return true;
    case JITEM_PATH:
        it->length = rcur_u16(c);
        it->path = rcur_view(c, it->length);
        return it->length > 0 && it->length <= JENTRY_PATH_MAX;
    case JITEM_REMOVED:
        return true;
    default:
        return false;
    }
}

int jitem_next(struct rcur *c, struct jitem *out)
{
    if (c->left == 0 && !c->bad)
        return 0;
    struct jitem it = {.type = rcur_u8(c)};
    if (!get_body(c, &it) || c->bad)
        return LFS_ERR_CORRUPT;
    *out = it;
    return 1;
}
