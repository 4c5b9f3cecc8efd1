/* The lines of a log, in the order of the file and by number. */
#ifndef KEYD_AUDIT_INDEX_H
#define KEYD_AUDIT_INDEX_H

#include "latchfs/auditlog.h"

enum entry_state {
    ENTRY_STRAY,   /* stands for no record */
    ENTRY_GOOD,    /* genuine */
    ENTRY_RECORD,  /* genuine, and the one that stands for its number */
    ENTRY_CHANGED, /* stands for a number, but is not what was written */
};
struct audit_entry {
    const char *p; /* into the text */
    uint32_t len;  /* without newline; a longer one is no record and counts as AUDIT_LINE_MAX */
    uint8_t state; /* enum entry_state */
    bool parsed, moved;
    uint64_t seq;   /* that it claims */
    uint64_t place; /* that it stands for, if it does */
    uint8_t prev[AUDIT_HASH_BYTES], hash[AUDIT_HASH_BYTES];
};
struct audit_index {
    struct audit_entry *e; /* line i + 1 */
    size_t count;
    struct audit_entry **by_seq; /* the parsed ones, by number, then line */
    size_t parsed;
    bool half; /* text behind the last newline: not in e */
};

int audit_index_make(const char *text, size_t len, struct audit_index *out);
void audit_index_clear(struct audit_index *ix);

/* The end of the group that begins at by_seq[i]. */
size_t audit_index_group(const struct audit_index *ix, size_t i);

/* The entry that stands for a number, or NULL. */
struct audit_entry *audit_index_record(const struct audit_index *ix, uint64_t seq);

/* Marks as few of the n entries (in the order of the file) as possible as moved, so that the others ascend.
 */
int audit_index_mark_moved(struct audit_entry **list, size_t n);

#endif
