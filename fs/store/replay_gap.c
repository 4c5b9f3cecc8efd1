/* Copies taken while files were written: what the journal of the copy no longer says, and the file of the
 * copy does not say yet. */
#include "fs/store/replay.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/io.h"
#include "latchfs/layout.h"
#include "latchfs/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SPOILED_MAX PENDING_CHUNKS_MAX

/* ---- finding out ---- */

/* How many messages an entry seals, and the header behind them; false if it has none. */
static bool count_messages(struct rcur c, uint64_t *messages, struct file_header *h)
{
    struct jitem it;
    bool found = false;
    *messages = 0;
    while (jitem_next(&c, &it) == 1) {
        if (it.type == JITEM_CHUNKS)
            *messages += it.count;
        else if (it.type == JITEM_INLINE)
            (*messages)++;
        else if (it.type == JITEM_HEADER)
            found = header_decode(it.image, h) == 0;
    }
    return found;
}

/* Under a newer key than the place knows the count began again at 0. */
static bool is_behind(const struct file_header *placed, const struct file_header *h, uint64_t messages)
{
    uint16_t there = placed->place[header_newest(placed)].epoch, epoch = h->place[header_newest(h)].epoch;
    uint64_t known = epoch == there ? placed->chunk_writes : 0;
    return epoch >= there && h->chunk_writes > known + messages;
}

int replay_is_behind(struct replay *p, const struct replay_file *rf, const struct file_header *placed)
{
    int r = 0;
    for (size_t i = 0; !r && i < rf->entry_count; i++) {
        const struct replay_entry *e = &rf->entries[i];
        AUTO_FREE uint8_t *items = malloc(e->item_bytes + 1);
        struct file_header h;
        uint64_t messages;
        r = items ? journal_read(p->v->journal, items, e->item_bytes, e->items_at) : -ENOMEM;
        if (!r && count_messages(rcur_over(items, e->item_bytes), &messages, &h))
            return is_behind(placed, &h, messages);
    }
    return r;
}

/* ---- saying so ---- */

/* A record that no ciphertext fits. */
static int spoil(struct file *f, uint64_t chunk)
{
    uint64_t left = f->hdr.size - chunk * PAGE_BYTES;
    const struct record rec = {.length = (uint16_t)(left < PAGE_BYTES ? left : PAGE_BYTES),
                               .epoch = f->hdr.place[header_newest(&f->hdr)].epoch};
    uint8_t bytes[RECORD_BYTES];
    int r = overlay_reserve(&f->ov, 1);
    if (r)
        return r;
    record_encode(&rec, bytes);
    overlay_put(&f->ov, chunk, bytes, 0);
    return 0;
}

static int spoil_group(struct file *f, int fd, uint64_t first, uint64_t end, size_t *spoiled)
{
    static const uint8_t hole[RECORD_BYTES];
    uint8_t records[GROUP_RECORDS * RECORD_BYTES] = {0};
    int r = 0;
    if (f->placed_state == CONTENT_PAGED) {
        ssize_t n = io_pread(fd, records, (size_t)(end - first) * RECORD_BYTES, layout_record_offset(first));
        if (n < 0)
            return (int)n;
    }
    for (uint64_t c = first; !r && c < end; c++) {
        if (overlay_get(&f->ov, c) || rangeset_has(&f->ov.holes, c) ||
            memcmp(records + (c - first) * RECORD_BYTES, hole, RECORD_BYTES) != 0)
            continue;
        r = ++*spoiled > SPOILED_MAX ? LFS_ERR_CORRUPT : spoil(f, c);
    }
    return r;
}

int replay_spoil(struct file *f, int fd)
{
    uint64_t chunks = f->state == CONTENT_PAGED ? layout_chunks(f->hdr.size) : 0;
    size_t spoiled = 0;
    int r = 0;
    for (uint64_t first = 0; !r && first < chunks; first = layout_group_next(first)) {
        uint64_t next = layout_group_next(first);
        r = spoil_group(f, fd, first, next < chunks ? next : chunks, &spoiled);
    }
    return r;
}
