/* Sets of ids, and texts that grow. */
#include "fs/store/check_int.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_SLOTS 256u
#define IDS_MAX (1u << 20) /* what comes later is not remembered: 32 MiB */

/* ---- ids ---- */

/* Ids are random where they are ours; hostile ones make the search longer at worst by the set's bound. */
static size_t hash_of(const uint8_t *id)
{
    uint64_t a, b;
    memcpy(&a, id, sizeof a);
    memcpy(&b, id + sizeof a, sizeof b);
    uint64_t h = (a ^ (b << 32 | b >> 32)) * UINT64_C(0x9e3779b97f4a7c15);
    return (size_t)(h ^ (h >> 29));
}

static bool is_free(const struct id_seen *s)
{
    return sodium_is_zero(s->id, ID_BYTES);
}

static struct id_seen *slot_of(const struct id_set *s, const uint8_t *id)
{
    size_t i = hash_of(id) & (s->cap - 1);
    while (!is_free(&s->slot[i]) && memcmp(s->slot[i].id, id, ID_BYTES) != 0)
        i = (i + 1) & (s->cap - 1);
    return &s->slot[i];
}

/* At most half of the slots are taken. */
static void grow(struct id_set *s)
{
    struct id_set more = {.cap = s->cap ? s->cap * 2 : FIRST_SLOTS, .count = s->count};
    more.slot = calloc(more.cap, sizeof *more.slot);
    if (!more.slot)
        return;
    for (size_t i = 0; i < s->cap; i++)
        if (!is_free(&s->slot[i]))
            *slot_of(&more, s->slot[i].id) = s->slot[i];
    free(s->slot);
    *s = more;
}

enum id_verdict id_set_add(struct id_set *s, const struct id_seen *seen)
{
    if (is_free(seen))
        return ID_FRESH;
    if (s->count * 2 >= s->cap && s->count < IDS_MAX)
        grow(s);
    struct id_seen *at = s->cap ? slot_of(s, seen->id) : NULL;
    if (at && !is_free(at))
        return at->ino == seen->ino ? ID_FRESH : at->what == seen->what ? ID_COPY : ID_OTHER;
    if (at && s->count * 2 < s->cap) {
        *at = *seen;
        s->count++;
    }
    return ID_FRESH;
}

bool id_set_has(const struct id_set *s, const uint8_t id[static ID_BYTES])
{
    return s->cap && !is_free(slot_of(s, id));
}

void id_set_clear(struct id_set *s)
{
    free(s->slot);
    *s = (struct id_set){0};
}

/* ---- texts ---- */

int text_cut(struct text *t, size_t len)
{
    if (!t->s) {
        t->s = malloc(256);
        if (!t->s)
            return -ENOMEM;
        t->cap = 256;
    }
    t->len = len;
    t->s[len] = '\0';
    return 0;
}

int text_add_name(struct text *t, const char *name)
{
    size_t n = strlen(name), slash = t->len > 0;
    if (t->len + slash + n + 1 > t->cap) {
        size_t cap = (t->len + slash + n + 1) * 2;
        char *grown = realloc(t->s, cap);
        if (!grown)
            return -ENOMEM;
        t->s = grown;
        t->cap = cap;
    }
    if (slash)
        t->s[t->len++] = '/';
    memcpy(t->s + t->len, name, n + 1);
    t->len += n;
    return 0;
}

void text_clear(struct text *t)
{
    free(t->s);
    *t = (struct text){0};
}
