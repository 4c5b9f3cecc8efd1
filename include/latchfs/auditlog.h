/* The audit log's bytes (docs/latch-keyd.8, "Audit log"): the frame of a record and the check of a whole log.
 * No I/O; every byte of a log is hostile.
 *
 * A record is one line, {"seq":N,...,"prev":"HEX","mac":"HEX"} of printable ASCII. prev is BLAKE2b-256 of the
 * line before (zeros for the first), mac is BLAKE2b-256 of the line up to the comma before "mac", keyed.
 * Every record has its own MAC key; the chain key behind it makes the next chain key and is then wiped, so
 * whoever takes over the log today cannot rewrite what was logged yesterday. */
#ifndef LATCHFS_AUDITLOG_H
#define LATCHFS_AUDITLOG_H

#include "latchfs/secret.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AUDIT_HASH_BYTES 32u
#define AUDIT_CHAIN_BYTES 16u /* random, names the chain */
#define AUDIT_LINE_MAX 16384u /* with its newline */
#define AUDIT_SEQ_MAX UINT64_C(999999999999999)
#define AUDIT_TAIL_BYTES 148u    /* ,"prev":"64","mac":"64"} */
#define AUDIT_MAC_TAIL_BYTES 74u /* ,"mac":"64"} */

struct audit_line {
    uint64_t seq; /* 1..AUDIT_SEQ_MAX */
    uint8_t prev[AUDIT_HASH_BYTES], mac[AUDIT_HASH_BYTES];
    /* A record that says: records from..to are missing. from 0: it does not. lost: never synced and gone with
     * an unclean end of the machine. */
    uint64_t from, to;
    bool lost;
    bool begins; /* the first record, which names its chain */
    uint8_t chain[AUDIT_CHAIN_BYTES];
};

/* line without its newline. False: not a record of ours. */
bool audit_line_parse(const char *line, size_t len, struct audit_line *out);

void audit_line_hash(const char *line, size_t len, uint8_t hash[static AUDIT_HASH_BYTES]);

/* covered: the bytes before ,"mac" (len - AUDIT_MAC_TAIL_BYTES of a whole line). */
void audit_line_mac(const uint8_t chain_key[static LFS_KEY_BYTES], const char *line, size_t covered,
                    uint8_t mac[static AUDIT_HASH_BYTES]);

/* Replaces the chain key by the next one. */
void audit_key_next(uint8_t chain_key[static LFS_KEY_BYTES]);

/* ---- a whole log ---- */

struct audit_head { /* what was exported at some time: its last record then */
    uint8_t chain[AUDIT_CHAIN_BYTES];
    uint64_t seq; /* 0: no head */
    uint8_t hash[AUDIT_HASH_BYTES];
};

enum audit_finding_kind {
    AUDIT_CHANGED,  /* from stands in line, but not as it was written */
    AUDIT_MISSING,  /* from..to are not there; line: where they should stand */
    AUDIT_LOST,     /* the same, said by the log itself to be lost with the machine's unclean end: no fault */
    AUDIT_CUT,      /* from..to are missing at the end: the head knows them */
    AUDIT_MOVED,    /* from stands in line, out of order */
    AUDIT_INSERTED, /* line does not belong there; from: what it claims to be, 0: it is no record */
    AUDIT_COPY,     /* line repeats from */
    AUDIT_HALF,     /* line, the last, has no end */
    AUDIT_OTHER,    /* from is not what the head says: another log, or an older state of it went on */
    AUDIT_WRONG_KEY, /* the key fits no record: another log, or all of it was made anew */
};
struct audit_finding {
    enum audit_finding_kind kind;
    uint64_t line, from, to;
    bool noted; /* of MISSING: the log has an alarm about it */
};

struct audit_check {
    const char *text;
    size_t len;
    const uint8_t *first_key;      /* LFS_KEY_BYTES, or NULL: only the chain of hashes is checked */
    const struct audit_head *head; /* or NULL */
    uint64_t gap_max;              /* so many missing records are stepped over to go on; 0: 1 << 24 */
};
struct audit_verdict {
    uint64_t lines, records;        /* records: genuine ones */
    uint64_t last_seq;              /* of the last genuine one; 0: none */
    struct audit_finding *findings; /* malloc'ed, by line; audit_verdict_clear */
    size_t count;
    bool good; /* nothing found but AUDIT_LOST */
};

/* 0 whatever is found; -ENOMEM. Without a key the last record is only known by the head, and where the chain
 * is broken the record before the break is named as changed. */
int audit_check(const struct audit_check *in, struct audit_verdict *out);
void audit_verdict_clear(struct audit_verdict *v);

#endif
