#include "fs/mount/leases.h"

#include <stdlib.h>
#include <string.h>

#define NEVER INT64_MAX
/* While files are open somewhere, idleness is asked for this much more often than its time is long; so often
 * watches begin, too. */
#define IDLE_LOOKS 4

void leases_clear(struct leases *t)
{
    free(t->items);
    *t = (struct leases){0};
}

struct lease *leases_find(const struct leases *t, const uint8_t pd_id[static ID_BYTES])
{
    for (size_t i = 0; i < t->count; i++)
        if (memcmp(t->items[i].pd_id, pd_id, ID_BYTES) == 0)
            return &t->items[i];
    return NULL;
}

struct lease *leases_add(struct leases *t, const uint8_t pd_id[static ID_BYTES])
{
    struct lease *l = leases_find(t, pd_id);
    if (l)
        return l;
    struct lease *items = reallocarray(t->items, t->count + 1, sizeof *items);
    if (!items)
        return NULL;
    t->items = items;
    l = &items[t->count++];
    *l = (struct lease){.renew_at = NEVER, .idle_at = NEVER, .watch_at = NEVER};
    memcpy(l->pd_id, pd_id, ID_BYTES);
    return l;
}

void lease_begin(struct lease *l, unsigned seconds, unsigned idle_seconds, int64_t now)
{
    if (!l->held)
        l->used_at = now;
    l->held = true;
    l->barred = false;
    l->length_ms = (int64_t)seconds * 1000;
    l->idle_ms = (int64_t)idle_seconds * 1000;
    l->idle_at = l->idle_ms ? now + l->idle_ms : NEVER;
    lease_watched(l, now);
    lease_extend(l, now);
}

void lease_extend(struct lease *l, int64_t now)
{
    l->renewed_at = now;
    l->renew_at = l->length_ms ? now + l->length_ms / 3 : NEVER;
}

void lease_refuse(struct lease *l)
{
    l->renew_at = NEVER;
}

void lease_end(struct lease *l, bool barred)
{
    l->held = false;
    l->barred = barred;
    l->renew_at = l->idle_at = l->watch_at = NEVER;
}

static int64_t end_of(const struct lease *l)
{
    return l->held && l->length_ms ? l->renewed_at + l->length_ms : NEVER;
}

bool lease_is_over(const struct lease *l, int64_t now)
{
    return now >= end_of(l);
}

bool lease_wants_renewal(const struct lease *l, int64_t now)
{
    return l->held && now >= l->renew_at;
}

static int64_t look_ms(const struct lease *l)
{
    return l->idle_ms / IDLE_LOOKS + 1;
}

bool lease_wants_watch(const struct lease *l, int64_t now)
{
    return l->held && now >= l->watch_at;
}

void lease_watched(struct lease *l, int64_t now)
{
    l->watch_at = l->held && l->idle_ms ? now + look_ms(l) : NEVER;
}

int64_t lease_used_ago(const struct lease *l, int64_t heard_ago_ms)
{
    return heard_ago_ms > look_ms(l) ? heard_ago_ms - look_ms(l) : heard_ago_ms < 0 ? heard_ago_ms : 0;
}

bool lease_is_idle(struct lease *l, int64_t used_ago_ms, bool in_use, int64_t now)
{
    if (in_use) {
        l->used_at = now;
        l->idle_at = now + look_ms(l);
        return false;
    }
    if (used_ago_ms >= 0 && now - used_ago_ms > l->used_at)
        l->used_at = now - used_ago_ms;
    l->idle_at = l->used_at + l->idle_ms;
    return now >= l->idle_at;
}

int64_t leases_next(const struct leases *t, bool connected)
{
    int64_t next = NEVER;
    for (size_t i = 0; i < t->count; i++) {
        const struct lease *l = &t->items[i];
        const int64_t times[] = {end_of(l), connected ? l->renew_at : NEVER, l->idle_at, l->watch_at};
        for (size_t k = 0; l->held && k < sizeof times / sizeof times[0]; k++)
            if (times[k] < next)
                next = times[k];
    }
    return next;
}
