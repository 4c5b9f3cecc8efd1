/* Appending to the journal, and its flushes. */
#include "fs/store/journal_int.h"

#include "latchfs/err.h"
#include "latchfs/io.h"

#include <errno.h>
#include <string.h>

#define DATA_PIECES_MAX 300

int journal_reserve(struct journal *j, uint64_t bytes, bool system)
{
    uint64_t keep = HEADROOM_PAD + HEADROOM_REPLAY + (system ? 0 : HEADROOM_MARKS);
    int r = 0;
    pthread_mutex_lock(&j->append);
    if (j->head.pos - j->tail_pos + j->reserved + bytes + keep > j->super.ring_bytes)
        r = -EAGAIN;
    else
        j->reserved += bytes;
    pthread_mutex_unlock(&j->append);
    return r;
}

void journal_unreserve(struct journal *j, uint64_t bytes)
{
    pthread_mutex_lock(&j->append);
    j->reserved -= bytes;
    pthread_mutex_unlock(&j->append);
}

/* One entry at j->head; moves the head only when it is whole. total >= what items and data need. */
static int write_entry(struct journal *j, const struct jentry_new *e, uint32_t data_bytes, uint32_t total,
                       uint64_t *data_at)
{
    static const uint8_t zeros[JENTRY_ALIGN];
    uint8_t head[JENTRY_HEAD_BYTES], mac[JENTRY_MAC_BYTES];
    struct jentry_head h = {.total = total,
                            .seq = j->head.seq,
                            .ino = e->ino,
                            .item_bytes = e->item_bytes,
                            .data_bytes = data_bytes};
    if (e->file_id)
        memcpy(h.file_id, e->file_id, ID_BYTES);
    jentry_head_encode(&h, head);
    jentry_mac(j->keys, j->super.incarnation, j->head.mac, head, e->items, e->item_bytes, mac);

    struct iovec iov[DATA_PIECES_MAX + 4];
    uint32_t data_offset = jentry_data_offset(e->item_bytes);
    uint64_t at = JOURNAL_RING_AT + j->head.pos % j->super.ring_bytes;
    int n = 0;
    iov[n++] = (struct iovec){head, sizeof head};
    iov[n++] = (struct iovec){(uint8_t *)(uintptr_t)e->items, e->item_bytes};
    iov[n++] = (struct iovec){mac, sizeof mac};
    iov[n++] =
        (struct iovec){(uint8_t *)(uintptr_t)zeros, data_offset - sizeof head - e->item_bytes - sizeof mac};
    for (int i = 0; i < e->data_n; i++)
        iov[n++] = e->data[i];
    int r = io_pwritev(j->fd, iov, n, at);
    if (r)
        return r;
    *data_at = at + data_offset;
    j->head.pos += total;
    j->head.seq++;
    memcpy(j->head.mac, mac, sizeof mac);
    return 0;
}

/* Fills the rest of the ring when an entry of total bytes does not fit before its end. */
static int pad_to_end(struct journal *j, uint32_t total)
{
    static const struct jentry_new pad;
    uint64_t left = j->super.ring_bytes - j->head.pos % j->super.ring_bytes, ignored;
    if (left >= total)
        return 0;
    if (left < jentry_total(0, 0)) {
        j->head.pos += left;
        return 0;
    }
    return write_entry(j, &pad, 0, (uint32_t)left, &ignored);
}

int journal_append(struct journal *j, const struct jentry_new *e, uint64_t reserved, uint64_t *seq,
                   uint64_t *data_at)
{
    uint64_t data_bytes = 0;
    for (int i = 0; i < e->data_n; i++)
        data_bytes += e->data[i].iov_len;
    if (data_bytes > JENTRY_DATA_MAX || e->item_bytes > JENTRY_ITEMS_MAX || e->data_n > DATA_PIECES_MAX) {
        journal_unreserve(j, reserved);
        return LFS_ERR_MISUSE;
    }
    uint32_t total = jentry_total(e->item_bytes, (uint32_t)data_bytes);
    pthread_mutex_lock(&j->append);
    j->reserved -= reserved;
    int r = j->keys ? pad_to_end(j, total) : LFS_ERR_NOKEY;
    uint64_t this_seq = j->head.seq;
    if (!r)
        r = write_entry(j, e, (uint32_t)data_bytes, total, data_at);
    pthread_mutex_unlock(&j->append);
    if (!r)
        *seq = this_seq;
    return r;
}

struct journal_point journal_head(struct journal *j)
{
    pthread_mutex_lock(&j->append);
    struct journal_point p = j->head;
    pthread_mutex_unlock(&j->append);
    return p;
}

/* Nothing lives ahead of the head in the first lap, and the head can't move meanwhile. Best effort. */
static void fill_ahead(struct journal *j)
{
    static const uint8_t zeros[64 * 1024];
    pthread_mutex_lock(&j->append);
    uint64_t head = (j->head.pos - j->base + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    uint64_t ring = j->super.ring_bytes;
    bool wanted = j->written < ring && head < ring && head + FILL_AHEAD / 4 > j->written;
    uint64_t at = head > j->written ? head : j->written,
             end = at + FILL_AHEAD < ring ? at + FILL_AHEAD : ring;
    for (int r = 0; wanted && !r && at < end; at += sizeof zeros)
        r = io_pwrite(j->fd, zeros, end - at < sizeof zeros ? (size_t)(end - at) : sizeof zeros,
                      JOURNAL_RING_AT + at);
    if (wanted)
        j->written = end;
    else if (head >= ring)
        j->written = ring;
    pthread_mutex_unlock(&j->append);
}

/* One flush serves all who wait for entries up to seq; with always, one that begins after the call. */
static int sync_to(struct journal *j, uint64_t seq, bool always)
{
    pthread_mutex_lock(&j->sync);
    while (!j->sync_error && j->syncing && (always || j->durable < seq))
        pthread_cond_wait(&j->synced, &j->sync);
    int r = j->sync_error;
    if (r || (!always && j->durable >= seq)) {
        pthread_mutex_unlock(&j->sync);
        return r;
    }
    j->syncing = true;
    pthread_mutex_unlock(&j->sync);

    fill_ahead(j);
    uint64_t covers = journal_head(j).seq - 1;
    r = io_fdatasync(j->fd);
    j->syncs++;

    pthread_mutex_lock(&j->sync);
    j->syncing = false;
    if (r)
        j->sync_error = r;
    else if (covers > j->durable)
        j->durable = covers;
    pthread_cond_broadcast(&j->synced);
    pthread_mutex_unlock(&j->sync);
    return r;
}

int journal_sync(struct journal *j, uint64_t seq)
{
    return sync_to(j, seq, false);
}

int journal_flush(struct journal *j)
{
    return sync_to(j, 0, true);
}

int journal_move_tail(struct journal *j, const struct journal_point *p)
{
    pthread_mutex_lock(&j->append);
    if (p->pos < j->tail_pos || p->pos > j->head.pos) {
        pthread_mutex_unlock(&j->append);
        return LFS_ERR_MISUSE;
    }
    struct journal_super before = j->super;
    j->super.tail_pos = p->pos;
    j->super.tail_seq = p->seq;
    memcpy(j->super.tail_mac, p->mac, sizeof p->mac);
    int r = journal_write_super(j);
    if (r)
        j->super = before;
    pthread_mutex_unlock(&j->append);
    if (!r)
        r = journal_flush(j);
    if (r)
        return r;
    pthread_mutex_lock(&j->append);
    j->tail_pos = p->pos;
    pthread_mutex_unlock(&j->append);
    return 0;
}
