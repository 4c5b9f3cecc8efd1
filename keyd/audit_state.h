/* What the audit log needs to go on: two slots in one sector of a file in the state directory. The newer
 * valid one holds; the other's key is wiped as soon as a new one is written. */
#ifndef KEYD_AUDIT_STATE_H
#define KEYD_AUDIT_STATE_H

#include "latchfs/auditlog.h"

#define AUDIT_BOOT_BYTES 16u

struct audit_state { /* has a key: locked memory only */
    uint8_t chain[AUDIT_CHAIN_BYTES];
    uint64_t seq;                   /* of the next record */
    uint64_t offset;                /* where it will stand */
    uint32_t last_len;              /* of the line before, with its newline; 0: there is none */
    uint64_t synced;                /* every record below is known to be on the disk */
    uint8_t boot[AUDIT_BOOT_BYTES]; /* of the machine when it was written; zeros: not known */
    uint8_t hash[AUDIT_HASH_BYTES]; /* of the line before */
    uint8_t key[LFS_KEY_BYTES];     /* chain key of the next record */
    uint64_t unwritten;             /* acts left out of the log, since it could not be written */
    uint64_t turn;                  /* of audit_state_store; one more each time */
};

/* -ENOENT: the file is empty; LFS_ERR_CORRUPT: no slot is valid. */
int audit_state_load(int fd, struct audit_state *out);

/* Writes the next slot, then wipes the one before. st->turn is advanced. */
int audit_state_store(int fd, struct audit_state *st);

#endif
