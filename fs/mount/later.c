#include "fs/mount/later.h"

#include <string.h>

bool later_put(struct later *l, const void *request, size_t len)
{
    if (l->count == LATER_MAX || len > LATER_BYTES)
        return false;
    unsigned i = (l->first + l->count++) % LATER_MAX;
    l->each[i].len = len;
    memcpy(l->each[i].request, request, len);
    return true;
}

bool later_take(struct later *l, void **request, size_t *len)
{
    if (!l->count)
        return false;
    unsigned i = l->first;
    l->first = (i + 1) % LATER_MAX;
    l->count--;
    *request = l->each[i].request;
    *len = l->each[i].len;
    return true;
}
