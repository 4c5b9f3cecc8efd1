#include "audit_index.h"

#include "latchfs/buf.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define GAP_MAX (UINT64_C(1) << 24)
#define NOTES_MAX 256u
#define TWINS_MAX 16u /* lines that claim one number: more are not compared */

struct check {
    const struct audit_check *in;
    struct audit_index ix;
    struct audit_entry **places; /* those that stand for a number, in the order of the file */
    size_t place_count;
    struct audit_line notes[NOTES_MAX]; /* about missing records */
    size_t note_count;
    size_t genuine;
    uint64_t last; /* genuine number */
    struct audit_verdict v;
    size_t room;
    int err;
};

static uint64_t line_of(const struct check *c, const struct audit_entry *e)
{
    return (uint64_t)(e - c->ix.e) + 1;
}

static uint64_t head_seq(const struct check *c)
{
    return c->in->head ? c->in->head->seq : 0;
}

static void find(struct check *c, struct audit_finding f)
{
    if (c->v.count == c->room) {
        size_t room = 2 * c->room + 16;
        struct audit_finding *grown = reallocarray(c->v.findings, room, sizeof *grown);
        if (!grown) {
            c->err = -ENOMEM;
            return;
        }
        c->v.findings = grown;
        c->room = room;
    }
    c->v.findings[c->v.count++] = f;
}

/* ---- which lines are genuine ---- */

static bool mac_fits(const uint8_t *key, const struct audit_entry *e)
{
    uint8_t mac[AUDIT_HASH_BYTES];
    struct audit_line l;
    audit_line_mac(key, e->p, e->len - AUDIT_MAC_TAIL_BYTES, mac);
    return audit_line_parse(e->p, e->len, &l) && sodium_memcmp(mac, l.mac, sizeof mac) == 0;
}

/* By number, so that the key only ever goes forward, however the lines lie. A number far beyond all others
 * ends it: nobody shall make us step a key for years. */
static int judge_by_key(struct check *c)
{
    uint8_t *key = locked_alloc(LFS_KEY_BYTES);
    uint64_t at = 1, gap = c->in->gap_max ? c->in->gap_max : GAP_MAX;
    if (!key)
        return -ENOMEM;
    memcpy(key, c->in->first_key, LFS_KEY_BYTES);
    for (size_t i = 0; i < c->ix.parsed; i++) {
        struct audit_entry *e = c->ix.by_seq[i];
        if (e->seq > c->ix.count + gap)
            break;
        for (; at < e->seq; at++)
            audit_key_next(key);
        e->state = mac_fits(key, e) ? ENTRY_GOOD : ENTRY_STRAY;
    }
    locked_free(key);
    return 0;
}

/* True if one of by_seq[i..end) names e as the line before it. */
static bool is_named(const struct check *c, const struct audit_entry *e, size_t i, size_t end)
{
    for (size_t n = 0; i < end && n < TWINS_MAX; i++, n++)
        if (memcmp(c->ix.by_seq[i]->prev, e->hash, sizeof e->hash) == 0)
            return true;
    return false;
}

static bool names_one(const struct check *c, const struct audit_entry *e, size_t i, size_t end)
{
    for (size_t n = 0; i < end && n < TWINS_MAX; i++, n++)
        if (memcmp(c->ix.by_seq[i]->hash, e->prev, sizeof e->prev) == 0)
            return true;
    return false;
}

/* A line without neighbours by number, to be believed if it stands in order. */
static bool in_order(const struct check *c, const struct audit_entry *e)
{
    const struct audit_entry *first = c->ix.e, *end = first + c->ix.count;
    for (const struct audit_entry *b = e; b-- > first;) {
        if (b->parsed && b->seq >= e->seq)
            return false;
        if (b->parsed)
            break;
    }
    for (const struct audit_entry *n = e + 1; n < end; n++)
        if (n->parsed)
            return n->seq > e->seq;
    return e->seq <= c->ix.count + (c->in->gap_max ? c->in->gap_max : GAP_MAX);
}

/* Without a key: a record is genuine if the next one names its hash. */
static void judge_by_chain(struct check *c)
{
    size_t before = 0, before_end = 0;
    for (size_t i = 0, end; i < c->ix.parsed; before = i, before_end = end, i = end) {
        struct audit_entry **g = c->ix.by_seq;
        uint64_t seq = g[i]->seq;
        end = audit_index_group(&c->ix, i);
        size_t after_end =
            end < c->ix.parsed && g[end]->seq == seq + 1 ? audit_index_group(&c->ix, end) : end;
        bool after = after_end > end, has_before = before_end > before && g[before]->seq + 1 == seq;
        for (size_t k = i; k < end && k - i < TWINS_MAX; k++) {
            bool good;
            if (after)
                good = is_named(c, g[k], end, after_end);
            else if (head_seq(c) == seq)
                good = memcmp(g[k]->hash, c->in->head->hash, sizeof g[k]->hash) == 0;
            else if (has_before)
                good = names_one(c, g[k], before, before_end);
            else
                good = in_order(c, g[k]);
            g[k]->state = good ? ENTRY_GOOD : ENTRY_STRAY;
        }
    }
}

/* ---- what the lines stand for ---- */

static void count_genuine(struct check *c)
{
    for (size_t i = 0; i < c->ix.parsed; i++) {
        if (c->ix.by_seq[i]->state != ENTRY_GOOD)
            continue;
        c->genuine++;
        c->last = c->ix.by_seq[i]->seq;
    }
}

/* One line for each number: the first genuine one, else the first that claims it within reason. */
static void choose(struct check *c)
{
    uint64_t most = c->last > head_seq(c) ? c->last : head_seq(c);
    most += c->ix.count - c->genuine;
    for (size_t i = 0, end; i < c->ix.parsed; i = end) {
        struct audit_entry **g = c->ix.by_seq, *chosen = NULL;
        end = audit_index_group(&c->ix, i);
        for (size_t k = i; k < end && !chosen; k++)
            if (g[k]->state == ENTRY_GOOD)
                chosen = g[k];
        if (chosen)
            chosen->state = ENTRY_RECORD;
        else if (g[i]->seq <= most)
            g[i]->state = ENTRY_CHANGED;
        for (size_t k = i; k < end; k++)
            if (g[k]->state == ENTRY_GOOD) {
                find(c,
                     (struct audit_finding){.kind = AUDIT_COPY, .line = line_of(c, g[k]), .from = g[k]->seq});
                g[k]->state = ENTRY_STRAY;
                g[k]->moved = true; /* told already */
            }
    }
}

static int order(struct check *c)
{
    c->places = calloc(c->ix.count + 1, sizeof *c->places);
    if (!c->places)
        return -ENOMEM;
    for (size_t i = 0; i < c->ix.count; i++)
        if (c->ix.e[i].state >= ENTRY_RECORD)
            c->places[c->place_count++] = &c->ix.e[i];
    int r = audit_index_mark_moved(c->places, c->place_count);
    for (size_t i = 0; !r && i < c->place_count; i++)
        if (c->places[i]->moved)
            find(c, (struct audit_finding){
                        .kind = AUDIT_MOVED, .line = line_of(c, c->places[i]), .from = c->places[i]->seq});
    return r;
}

static bool is_anchor(const struct audit_entry *e)
{
    return e->state >= ENTRY_RECORD && !e->moved;
}

/* The number behind the gap in which line i stands. */
static uint64_t gap_end(const struct check *c, size_t i)
{
    while (i < c->ix.count && !is_anchor(&c->ix.e[i]))
        i++;
    return i < c->ix.count ? c->ix.e[i].place : head_seq(c) + 1;
}

/* A stray line where a record is missing is taken for that record, changed; any other was put in. */
static void place_strays(struct check *c)
{
    uint64_t next = 1, end = gap_end(c, 0);
    for (size_t i = 0; i < c->ix.count; i++) {
        struct audit_entry *e = &c->ix.e[i];
        if (is_anchor(e)) {
            next = e->place + 1;
            end = gap_end(c, i + 1);
        }
        if (e->state != ENTRY_STRAY || e->moved)
            continue;
        while (next < end && audit_index_record(&c->ix, next))
            next++;
        if (next < end) {
            e->place = next++;
            e->state = ENTRY_CHANGED;
            e->moved = true; /* no anchor for others */
        } else
            find(c, (struct audit_finding){
                        .kind = AUDIT_INSERTED, .line = line_of(c, e), .from = e->parsed ? e->seq : 0});
    }
}

/* ---- what is not there ---- */

static int by_place(const void *a, const void *b)
{
    const struct audit_entry *x = *(const struct audit_entry *const *)a,
                             *y = *(const struct audit_entry *const *)b;
    return x->place < y->place ? -1 : x->place > y->place;
}

/* Lists the lines that stand for a number, by that; and what genuine ones say of missing ones. */
static void list_places(struct check *c)
{
    struct audit_line l;
    c->place_count = 0;
    for (size_t i = 0; i < c->ix.count; i++) {
        struct audit_entry *e = &c->ix.e[i];
        if (e->state >= ENTRY_RECORD)
            c->places[c->place_count++] = e;
        if (e->state == ENTRY_RECORD && c->note_count < NOTES_MAX && audit_line_parse(e->p, e->len, &l) &&
            l.from)
            c->notes[c->note_count++] = l;
    }
    qsort(c->places, c->place_count, sizeof *c->places, by_place);
}

static void report_missing(struct check *c, struct audit_finding f)
{
    for (size_t i = 0; i < c->note_count && f.kind == AUDIT_MISSING; i++) {
        const struct audit_line *l = &c->notes[i];
        if (l->from > f.from || f.to > l->to)
            continue;
        f.noted = !l->lost;
        f.kind = l->lost ? AUDIT_LOST : AUDIT_MISSING;
    }
    find(c, f);
}

static void find_missing(struct check *c)
{
    uint64_t next = 1;
    list_places(c);
    for (size_t i = 0; i < c->place_count; i++) {
        const struct audit_entry *e = c->places[i];
        if (e->state == ENTRY_CHANGED)
            find(c, (struct audit_finding){.kind = AUDIT_CHANGED, .line = line_of(c, e), .from = e->place});
        if (e->place > next)
            report_missing(
                c, (struct audit_finding){
                       .kind = AUDIT_MISSING, .line = line_of(c, e), .from = next, .to = e->place - 1});
        next = e->place + 1;
    }
    if (head_seq(c) >= next)
        find(c, (struct audit_finding){
                    .kind = AUDIT_CUT, .line = c->ix.count + 1, .from = next, .to = head_seq(c)});
}

static void hold_against_head(struct check *c)
{
    struct audit_line l;
    const struct audit_head *h = c->in->head;
    const struct audit_entry *first = audit_index_record(&c->ix, 1),
                             *e = audit_index_record(&c->ix, head_seq(c));
    if (!h || !h->seq)
        return;
    bool other = first && first->state == ENTRY_RECORD && audit_line_parse(first->p, first->len, &l) &&
                 l.begins && memcmp(l.chain, h->chain, sizeof l.chain) != 0;
    if (other)
        find(c, (struct audit_finding){.kind = AUDIT_OTHER, .line = line_of(c, first), .from = 1});
    else if (e && e->state == ENTRY_RECORD && memcmp(e->hash, h->hash, sizeof e->hash) != 0)
        find(c, (struct audit_finding){.kind = AUDIT_OTHER, .line = line_of(c, e), .from = h->seq});
}

/* ---- the whole ---- */

static int by_line(const void *a, const void *b)
{
    const struct audit_finding *x = a, *y = b;
    if (x->line != y->line)
        return x->line < y->line ? -1 : 1;
    return (x->kind > y->kind) - (x->kind < y->kind);
}

static void run(struct check *c)
{
    c->err = audit_index_make(c->in->text, c->in->len, &c->ix);
    if (c->err)
        return;
    if (c->in->first_key)
        c->err = judge_by_key(c);
    else
        judge_by_chain(c);
    count_genuine(c);
    if (c->in->first_key && c->ix.parsed && !c->genuine) {
        find(c, (struct audit_finding){.kind = AUDIT_WRONG_KEY, .line = 1});
        return;
    }
    choose(c);
    if (!c->err)
        c->err = order(c);
    if (c->err)
        return;
    place_strays(c);
    find_missing(c);
    hold_against_head(c);
    if (c->ix.half)
        find(c, (struct audit_finding){.kind = AUDIT_HALF, .line = c->ix.count + 1});
}

int audit_check(const struct audit_check *in, struct audit_verdict *out)
{
    struct check c = {.in = in};
    run(&c);
    int r = c.err;
    if (!r) {
        c.v.lines = c.ix.count + c.ix.half;
        c.v.records = c.genuine;
        c.v.last_seq = c.last;
        c.v.good = true;
        for (size_t i = 0; i < c.v.count; i++)
            c.v.good = c.v.good && c.v.findings[i].kind == AUDIT_LOST;
        if (c.v.count)
            qsort(c.v.findings, c.v.count, sizeof *c.v.findings, by_line);
        *out = c.v;
        c.v = (struct audit_verdict){0};
    }
    audit_verdict_clear(&c.v);
    free(c.places);
    audit_index_clear(&c.ix);
    return r;
}

void audit_verdict_clear(struct audit_verdict *v)
{
    free(v->findings);
    *v = (struct audit_verdict){0};
}
