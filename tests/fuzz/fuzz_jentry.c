/* Superblock, entry head and items of the journal. The first byte chooses the decoder. */
#include "latchfs/err.h"
#include "latchfs/jentry.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint8_t touched; /* so that what an item points to is really read */

static void walk_items(const uint8_t *data, size_t size)
{
    struct rcur c = rcur_over(data, size);
    struct jitem it;
    uint8_t sink = 0;
    while (jitem_next(&c, &it) == 1) {
        if (it.type == JITEM_CHUNKS)
            sink ^= it.chunks[it.count * JCHUNK_BYTES - 1];
        if (it.type == JITEM_HEADER)
            sink ^= it.image[HEADER_BYTES - 1];
        if (it.type == JITEM_PATH)
            sink ^= it.path[it.length - 1];
    }
    touched = sink;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct journal_super s;
    struct jentry_head h;
    if (size < 1)
        return 0;
    uint8_t which = data[0] % 3;
    data++;
    size--;
    if (which == 0 && size >= JOURNAL_SUPER_BYTES)
        journal_super_decode(data, NULL, &s);
    else if (which == 1 && size >= JENTRY_HEAD_BYTES && jentry_head_decode(data, &h) == 0 &&
             h.total < jentry_total(h.item_bytes, h.data_bytes))
        abort();
    else if (which == 2)
        walk_items(data, size);
    return 0;
}
