#include "extract_links.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void link_table_clear(struct link_table *t)
{
    for (size_t i = 0; i < t->cap; i++)
        free(t->entry[i].path);
    free(t->entry);
    *t = (struct link_table){0};
}

/* Where ino is, or would be. */
static struct link_entry *slot_of(const struct link_table *t, uint64_t ino)
{
    size_t i = (size_t)((ino * UINT64_C(0x9e3779b97f4a7c15)) >> 20) & (t->cap - 1);
    while (t->entry[i].path && t->entry[i].ino != ino)
        i = (i + 1) & (t->cap - 1);
    return &t->entry[i];
}

const struct link_entry *link_table_find(const struct link_table *t, uint64_t ino)
{
    const struct link_entry *e = t->cap ? slot_of(t, ino) : NULL;
    return e && e->path ? e : NULL;
}

static int grow(struct link_table *t)
{
    struct link_table more = {.cap = t->cap ? t->cap * 2 : 64, .count = t->count};
    more.entry = calloc(more.cap, sizeof *more.entry);
    if (!more.entry)
        return -ENOMEM;
    for (size_t i = 0; i < t->cap; i++)
        if (t->entry[i].path)
            *slot_of(&more, t->entry[i].ino) = t->entry[i];
    free(t->entry);
    *t = more;
    return 0;
}

int link_table_add(struct link_table *t, uint64_t ino, const char *path, const struct stat *made)
{
    int r = (t->count + 1) * 2 > t->cap ? grow(t) : 0;
    char *copy = r ? NULL : strdup(path);
    if (r || !copy)
        return -ENOMEM;
    struct link_entry *e = slot_of(t, ino);
    t->count += !e->path;
    free(e->path);
    *e = (struct link_entry){.ino = ino, .path = copy};
    if (made)
        e->made = *made;
    return 0;
}
