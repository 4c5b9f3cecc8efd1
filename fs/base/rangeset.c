#include "latchfs/rangeset.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Index of the first range whose hi is above v. */
static size_t first_above(const struct rangeset *s, uint64_t v)
{
    size_t lo = 0, hi = s->n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (s->r[mid].hi > v)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

static int grow(struct rangeset *s)
{
    if (s->n + 1 < s->cap)
        return 0;
    size_t cap = s->cap ? s->cap * 2 : 8;
    struct range *r = realloc(s->r, cap * sizeof *r);
    if (!r)
        return -ENOMEM;
    s->r = r;
    s->cap = cap;
    return 0;
}

static void remove_at(struct rangeset *s, size_t i, size_t count)
{
    memmove(s->r + i, s->r + i + count, (s->n - i - count) * sizeof *s->r);
    s->n -= count;
}

static void coalesce_nearest(struct rangeset *s)
{
    size_t best = 0;
    for (size_t i = 1; i + 1 < s->n; i++)
        if (s->r[i + 1].lo - s->r[i].hi < s->r[best + 1].lo - s->r[best].hi)
            best = i;
    s->r[best].hi = s->r[best + 1].hi;
    remove_at(s, best + 1, 1);
}

int rangeset_add(struct rangeset *s, uint64_t lo, uint64_t hi)
{
    if (lo >= hi)
        return 0;
    if (grow(s))
        return -ENOMEM;
    /* Touching ranges merge, so look for the first whose hi is at or above lo. */
    size_t i = lo ? first_above(s, lo - 1) : 0;
    size_t j = i;
    while (j < s->n && s->r[j].lo <= hi) {
        lo = s->r[j].lo < lo ? s->r[j].lo : lo;
        hi = s->r[j].hi > hi ? s->r[j].hi : hi;
        j++;
    }
    if (j == i) {
        memmove(s->r + i + 1, s->r + i, (s->n - i) * sizeof *s->r);
        s->n++;
    } else {
        remove_at(s, i + 1, j - i - 1);
    }
    s->r[i] = (struct range){lo, hi};
    if (!s->exact && s->n > RANGESET_MAX)
        coalesce_nearest(s);
    return 0;
}

int rangeset_remove(struct rangeset *s, uint64_t lo, uint64_t hi)
{
    if (lo >= hi)
        return 0;
    if (grow(s))
        return -ENOMEM;
    size_t i = first_above(s, lo);
    if (i < s->n && s->r[i].lo < lo && s->r[i].hi > hi) {
        memmove(s->r + i + 1, s->r + i, (s->n - i) * sizeof *s->r);
        s->n++;
        s->r[i].hi = lo;
        s->r[i + 1].lo = hi;
        return 0;
    }
    if (i < s->n && s->r[i].lo < lo)
        s->r[i++].hi = lo;
    size_t j = i;
    while (j < s->n && s->r[j].hi <= hi)
        j++;
    if (j < s->n && s->r[j].lo < hi)
        s->r[j].lo = hi;
    remove_at(s, i, j - i);
    return 0;
}

int rangeset_merge(struct rangeset *into, const struct rangeset *from)
{
    for (size_t i = 0; i < from->n; i++)
        if (rangeset_add(into, from->r[i].lo, from->r[i].hi))
            return -ENOMEM;
    return 0;
}

bool rangeset_has(const struct rangeset *s, uint64_t v)
{
    size_t i = first_above(s, v);
    return i < s->n && s->r[i].lo <= v;
}

uint64_t rangeset_end(const struct rangeset *s, uint64_t v)
{
    size_t i = first_above(s, v);
    return i < s->n && s->r[i].lo <= v ? s->r[i].hi : v;
}

bool rangeset_meets(const struct rangeset *s, uint64_t lo, uint64_t hi)
{
    size_t i = first_above(s, lo);
    return lo < hi && i < s->n && s->r[i].lo < hi;
}

void rangeset_clear(struct rangeset *s)
{
    free(s->r);
    s->r = NULL;
    s->n = s->cap = 0;
}
