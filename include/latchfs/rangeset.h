/* A set of uint64 half-open ranges, merged and sorted. Adding past RANGESET_MAX ranges coalesces the two
 * nearest: the set may grow by that, never shrink, so it suits conservative questions only. */
#ifndef LATCHFS_RANGESET_H
#define LATCHFS_RANGESET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RANGESET_MAX 4096

struct range {
    uint64_t lo, hi; /* [lo, hi) */
};

struct rangeset {
    struct range *r;
    size_t n, cap;
    bool exact; /* never coalesce: for sets that must stay true; grows without bound */
};

int rangeset_add(struct rangeset *s, uint64_t lo, uint64_t hi); /* 0 or -ENOMEM (set unchanged) */
int rangeset_remove(struct rangeset *s, uint64_t lo, uint64_t hi);
int rangeset_merge(struct rangeset *into, const struct rangeset *from);
bool rangeset_has(const struct rangeset *s, uint64_t v);
bool rangeset_meets(const struct rangeset *s, uint64_t lo, uint64_t hi); /* any of [lo, hi) in the set */
uint64_t rangeset_end(const struct rangeset *s, uint64_t v); /* of the range that v is in, else v */
void rangeset_clear(struct rangeset *s);                     /* frees; the set is empty */

#endif
