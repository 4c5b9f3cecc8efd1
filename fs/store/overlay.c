#include "fs/store/overlay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static size_t slot_of(const struct overlay *o, uint64_t chunk)
{
    uint64_t h = chunk * UINT64_C(0x9e3779b97f4a7c15);
    size_t i = (size_t)(h >> 20) & (o->cap - 1);
    while (o->slots[i].data_at != OV_FREE && o->slots[i].chunk != chunk)
        i = (i + 1) & (o->cap - 1);
    return i;
}

static struct ov_chunk *alloc_slots(size_t cap)
{
    struct ov_chunk *s = malloc(cap * sizeof *s);
    for (size_t i = 0; s && i < cap; i++)
        s[i].data_at = OV_FREE;
    return s;
}

/* Refills a table of cap slots with those whose chunk is outside [first, end). */
static int rebuild(struct overlay *o, size_t cap, uint64_t first, uint64_t end)
{
    struct overlay fresh = {.slots = alloc_slots(cap), .cap = cap};
    if (!fresh.slots)
        return -ENOMEM;
    for (size_t i = 0; i < o->cap; i++) {
        const struct ov_chunk *s = &o->slots[i];
        if (s->data_at != OV_FREE && (s->chunk < first || s->chunk >= end)) {
            fresh.slots[slot_of(&fresh, s->chunk)] = *s;
            fresh.count++;
        }
    }
    free(o->slots);
    o->slots = fresh.slots;
    o->cap = fresh.cap;
    o->count = fresh.count;
    return 0;
}

int overlay_reserve(struct overlay *o, size_t n)
{
    size_t need = (o->count + n) * 2;
    size_t cap = o->cap ? o->cap : 16;
    while (cap < need)
        cap *= 2;
    return cap == o->cap ? 0 : rebuild(o, cap, 0, 0);
}

void overlay_put(struct overlay *o, uint64_t chunk, const uint8_t record[static RECORD_BYTES],
                 uint64_t data_at)
{
    struct ov_chunk *s = &o->slots[slot_of(o, chunk)];
    if (s->data_at == OV_FREE)
        o->count++;
    s->chunk = chunk;
    s->data_at = data_at;
    memcpy(s->record, record, RECORD_BYTES);
    o->changed = true;
}

const struct ov_chunk *overlay_get(const struct overlay *o, uint64_t chunk)
{
    if (!o->count)
        return NULL;
    const struct ov_chunk *s = &o->slots[slot_of(o, chunk)];
    return s->data_at == OV_FREE ? NULL : s;
}

int overlay_punch(struct overlay *o, uint64_t first, uint64_t end)
{
    if (o->count) {
        int r = rebuild(o, o->cap, first, end);
        if (r)
            return r;
    }
    o->holes.exact = true;
    o->changed = true;
    return rangeset_add(&o->holes, first, end);
}

static int by_chunk(const void *a, const void *b)
{
    const struct ov_chunk *const *x = a, *const *y = b;
    return (*x)->chunk < (*y)->chunk ? -1 : (*x)->chunk > (*y)->chunk;
}

int overlay_sorted(const struct overlay *o, const struct ov_chunk ***out, size_t *count)
{
    const struct ov_chunk **list = malloc((o->count + 1) * sizeof *list);
    if (!list)
        return -ENOMEM;
    size_t n = 0;
    for (size_t i = 0; i < o->cap; i++)
        if (o->slots[i].data_at != OV_FREE)
            list[n++] = &o->slots[i];
    qsort(list, n, sizeof *list, by_chunk);
    *out = list;
    *count = n;
    return 0;
}

void overlay_clear(struct overlay *o)
{
    free(o->slots);
    rangeset_clear(&o->holes);
    *o = (struct overlay){0};
}
