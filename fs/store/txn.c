#include "fs/store/txn.h"
#include "fs/store/seal.h"

#include "latchfs/crc32c.h"
#include "latchfs/err.h"

#include <string.h>

void txn_begin(struct txn *t, struct file *f)
{
    t->f = f;
    t->items = wcur_over(t->buf, sizeof t->buf);
    t->data_n = 0;
    t->data_bytes = 0;
    t->fresh = t->opens = false;
    t->hint = f->hint_seq < atomic_load(&f->n->vol->period_seq);
    char path[JENTRY_PATH_MAX + 1];
    if (t->hint && node_path(f->n, path, sizeof path) == 0 && path[0])
        jitem_put_path(&t->items, path, strlen(path));
}

static void add_data(struct txn *t, const uint8_t *p, size_t len)
{
    struct iovec *last = t->data_n ? &t->data[t->data_n - 1] : NULL;
    if (last && (uint8_t *)last->iov_base + last->iov_len == p)
        last->iov_len += len;
    else if (t->data_n < TXN_PIECES)
        t->data[t->data_n++] = (struct iovec){(uint8_t *)(uintptr_t)p, len};
    else
        t->items.bad = true;
    t->data_bytes += len;
}

static uint16_t record_length(const uint8_t *record)
{
    return (uint16_t)(record[NONCE_BYTES + TAG_BYTES] | record[NONCE_BYTES + TAG_BYTES + 1] << 8);
}

void txn_chunks(struct txn *t, uint64_t first, uint32_t count, bool fresh, const uint8_t *records,
                const uint8_t *cipher, const uint32_t *crcs)
{
    jitem_put_chunks(&t->items, first, count, fresh);
    t->fresh = t->fresh || fresh;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *record = records + i * RECORD_BYTES, *c = cipher + (size_t)i * PAGE_BYTES;
        uint16_t length = record_length(record);
        jitem_put_chunk(&t->items, record, crcs ? crcs[i] : crc32c(0, c, length));
        if (!fresh)
            add_data(t, c, length);
    }
}

void txn_cut(struct txn *t, uint64_t length)
{
    jitem_put_cut(&t->items, length);
}

void txn_punch(struct txn *t, uint64_t first, uint64_t count)
{
    jitem_put_punch(&t->items, first, count);
}

void txn_inline(struct txn *t, const uint8_t *cipher, uint16_t length)
{
    jitem_put_inline(&t->items, length, crc32c(0, cipher, length));
    if (length)
        add_data(t, cipher, length);
}

void txn_header(struct txn *t, struct file_header *h)
{
    t->opens = t->f->hdr.seal_state == SEAL_SEALED;
    h->seal_state = SEAL_OPEN;
    memset(h->seal_root, 0, sizeof h->seal_root);
    txn_header_as_is(t, h);
}

void txn_header_as_is(struct txn *t, struct file_header *h)
{
    uint8_t image[HEADER_BYTES];
    file_encode_header(t->f, h, image);
    jitem_put_header(&t->items, image);
}

int txn_commit(struct txn *t, uint64_t *reserved)
{
    struct file *f = t->f;
    uint64_t held = *reserved;
    *reserved = 0;
    int bad = t->items.bad ? LFS_ERR_MISUSE : t->opens ? seal_check_change(f) : 0;
    if (bad) {
        journal_unreserve(f->n->vol->journal, held);
        return bad;
    }
    if (f->n->vol->opt.bypass_journal) {
        journal_unreserve(f->n->vol->journal, held);
        return txn_bypass(t);
    }
    struct jentry_new e = {
        .file_id = f->hdr.file_id,
        .ino = f->n->ino,
        .items = t->buf,
        .item_bytes = (uint32_t)wcur_used(&t->items),
        .data = t->data,
        .data_n = t->data_n,
    };
    file_list_dirty(f); /* before there is an entry: every checkpoint that moves past it must know the file */
    int r = journal_append(f->n->vol->journal, &e, held, &t->seq, &t->data_at);
    if (r)
        return r;
    if (!f->first_seq)
        f->first_seq = t->seq;
    f->last_seq = t->seq;
    if (t->hint)
        f->hint_seq = t->seq;
    if (t->fresh)
        f->fresh_seq = t->seq;
    if (t->opens)
        f->opened_seq = t->seq;
    return 0;
}
