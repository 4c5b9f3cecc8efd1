/* What of a file stands in the journal and not yet in place. Not thread safe: the file's lock guards it.
 * A chunk is looked up in the map first; if it is not there but in holes, it reads as zeros whatever lies in
 * place; otherwise the place counts. */
#ifndef LATCHFS_STORE_OVERLAY_H
#define LATCHFS_STORE_OVERLAY_H

#include "latchfs/format.h"
#include "latchfs/rangeset.h"

#define CHUNK_END UINT64_MAX

struct ov_chunk {
    uint64_t chunk;
    uint64_t data_at; /* offset in the journal file of the ciphertext; 0: the data is in place already
                         (fresh), OV_FREE: slot unused */
    uint8_t record[RECORD_BYTES];
};
#define OV_FREE UINT64_MAX

struct overlay {
    struct ov_chunk *slots; /* open addressing, power of two */
    size_t cap, count;
    struct rangeset holes; /* exact */
    bool changed;          /* header or length differ from the place, or anything above is filled */
    uint64_t inline_at;    /* offset in the journal of the inline content; 0: none pending */
};

/* Makes room so that the next n puts and two hole changes can't fail. 0 or -ENOMEM. */
int overlay_reserve(struct overlay *o, size_t n);

/* After overlay_reserve. Replaces what stood there. */
void overlay_put(struct overlay *o, uint64_t chunk, const uint8_t record[static RECORD_BYTES],
                 uint64_t data_at);

const struct ov_chunk *overlay_get(const struct overlay *o, uint64_t chunk); /* or NULL */

/* [first, end) are holes from now on: forgets what was pending there. 0 or -ENOMEM (unchanged). */
int overlay_punch(struct overlay *o, uint64_t first, uint64_t end);

/* The pending chunks in order of index: *out is malloc'ed, count pointers into the map. */
int overlay_sorted(const struct overlay *o, const struct ov_chunk ***out, size_t *count);

/* Empty again; memory freed. */
void overlay_clear(struct overlay *o);

static inline bool overlay_is_empty(const struct overlay *o)
{
    return !o->count && !o->holes.n && !o->changed;
}

#endif
