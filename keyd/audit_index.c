#include "audit_index.h"

#include "latchfs/buf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static size_t count_lines(const char *text, size_t len)
{
    size_t n = 0;
    const char *end = text + len;
    for (const char *p = text; p < end && (p = memchr(p, '\n', (size_t)(end - p))); p++)
        n++;
    return n;
}

static void read_line(struct audit_entry *e, const char *p, size_t len)
{
    struct audit_line l;
    e->p = p;
    e->len = len < AUDIT_LINE_MAX ? (uint32_t)len : AUDIT_LINE_MAX;
    e->parsed = audit_line_parse(p, len, &l);
    if (!e->parsed)
        return;
    e->seq = e->place = l.seq;
    memcpy(e->prev, l.prev, sizeof e->prev);
    audit_line_hash(p, len, e->hash);
}

static int by_seq_then_line(const void *a, const void *b)
{
    const struct audit_entry *x = *(const struct audit_entry *const *)a,
                             *y = *(const struct audit_entry *const *)b;
    if (x->seq != y->seq)
        return x->seq < y->seq ? -1 : 1;
    return x->p < y->p ? -1 : x->p > y->p;
}

int audit_index_make(const char *text, size_t len, struct audit_index *out)
{
    struct audit_index ix = {.count = count_lines(text, len)};
    const char *p = text, *end = text + len;
    ix.e = calloc(ix.count + 1, sizeof *ix.e);
    ix.by_seq = calloc(ix.count + 1, sizeof *ix.by_seq);
    if (!ix.e || !ix.by_seq) {
        audit_index_clear(&ix);
        return -ENOMEM;
    }
    for (size_t i = 0; i < ix.count; i++) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        read_line(&ix.e[i], p, (size_t)(nl - p));
        if (ix.e[i].parsed)
            ix.by_seq[ix.parsed++] = &ix.e[i];
        p = nl + 1;
    }
    ix.half = p < end;
    qsort(ix.by_seq, ix.parsed, sizeof *ix.by_seq, by_seq_then_line);
    *out = ix;
    return 0;
}

void audit_index_clear(struct audit_index *ix)
{
    free(ix->e);
    free(ix->by_seq);
    *ix = (struct audit_index){0};
}

size_t audit_index_group(const struct audit_index *ix, size_t i)
{
    size_t end = i + 1;
    while (end < ix->parsed && ix->by_seq[end]->seq == ix->by_seq[i]->seq)
        end++;
    return end;
}

struct audit_entry *audit_index_record(const struct audit_index *ix, uint64_t seq)
{
    size_t lo = 0, hi = ix->parsed;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (ix->by_seq[mid]->seq < seq)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (; lo < ix->parsed && ix->by_seq[lo]->seq == seq; lo++)
        if (ix->by_seq[lo]->state >= ENTRY_RECORD && ix->by_seq[lo]->place == seq)
            return ix->by_seq[lo];
    return NULL;
}

static bool ascends(struct audit_entry **list, size_t n)
{
    for (size_t i = 1; i < n; i++)
        if (list[i]->seq < list[i - 1]->seq)
            return false;
    return true;
}

/* The longest ascending run stays: ends[k] is the entry with the least number that ends an ascending choice
 * of k + 1 entries, before[i] the one in front of i in the best choice that i ends. */
int audit_index_mark_moved(struct audit_entry **list, size_t n)
{
    if (n == 0 || ascends(list, n))
        return 0;
    AUTO_FREE size_t *ends = calloc(n, sizeof *ends), *before = calloc(n, sizeof *before);
    size_t best = 0;
    if (!ends || !before)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        size_t lo = 0, hi = best;
        while (lo < hi) {
            size_t mid = lo + (hi - lo) / 2;
            if (list[ends[mid]]->seq < list[i]->seq)
                lo = mid + 1;
            else
                hi = mid;
        }
        before[i] = lo ? ends[lo - 1] : n;
        ends[lo] = i;
        if (lo == best)
            best++;
        list[i]->moved = true;
    }
    for (size_t i = ends[best - 1]; i != n; i = before[i])
        list[i]->moved = false;
    return 0;
}
