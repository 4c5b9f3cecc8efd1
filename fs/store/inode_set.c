#include "fs/store/inode_set.h"

#include <stdlib.h>

#define FIRST_SLOTS 256u

static size_t slot_of(const struct inode_set *s, uint64_t ino)
{
    size_t i = (size_t)(ino * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (s->cap - 1);
    while (s->slot[i] && s->slot[i] != ino)
        i = (i + 1) & (s->cap - 1);
    return i;
}

static void grow(struct inode_set *s)
{
    struct inode_set more = {.cap = s->cap ? s->cap * 2 : FIRST_SLOTS, .count = s->count};
    more.slot = calloc(more.cap, sizeof *more.slot);
    if (!more.slot)
        return;
    for (size_t i = 0; i < s->cap; i++)
        if (s->slot[i])
            more.slot[slot_of(&more, s->slot[i])] = s->slot[i];
    free(s->slot);
    *s = more;
}

/* At most half of the slots are taken. */
static bool has_room(const struct inode_set *s)
{
    return s->count * 2 < s->cap;
}

bool inode_set_add(struct inode_set *s, uint64_t ino)
{
    if (inode_set_has(s, ino))
        return false;
    if (!has_room(s) && s->count < INODE_SET_MAX)
        grow(s);
    if (has_room(s)) {
        s->slot[slot_of(s, ino)] = ino;
        s->count++;
    }
    return true;
}

bool inode_set_has(const struct inode_set *s, uint64_t ino)
{
    return s->cap && s->slot[slot_of(s, ino)] == ino;
}

void inode_set_clear(struct inode_set *s)
{
    free(s->slot);
    *s = (struct inode_set){0};
}
