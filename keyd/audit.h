/* The audit log: one JSON object a line, appended. Each record has its number, the hash of the line before
 * and a MAC under a key that is replaced after it (auditlog.h). What is needed to go on lies in the state
 * directory, so that an end at any point loses no record (latch-keyd(8), "Audit log"). */
#ifndef KEYD_AUDIT_H
#define KEYD_AUDIT_H

#include "latchfs/format.h"
#include "latchfs/secret.h"

#include <stdbool.h>
#include <sys/socket.h>

struct audit;

/* path: of the log, or "" for audit.log in statedir. Made with mode 0600; refused if it is not this user's.
 * Puts right what an end in the middle of a record left; what is missing or was changed is recorded. */
int audit_open(int statedir, const char *path, struct audit **out);
void audit_free(struct audit *a);

struct audit_act {
    const char *act;          /* "unlock", ... */
    const struct ucred *peer; /* NULL: keyd itself */
    const uint8_t *volume_id; /* or NULL */
    const uint8_t *pd_id;     /* or NULL; logged as a keyed hash */
    int result;               /* 0 or an error of err.h */
    const char *detail;       /* one line without secrets, or NULL */
    const char *event;        /* of an alarm (alert.h), or NULL */
};

/* Appends; synced if sync. Returns -errno when the record is not whole in the log. sync is for acts that may
 * not happen unlogged: with result 0 they are also refused (-ENOSPC) when only the reserve is left on the
 * disk, and the refusal is recorded there. */
int audit_write(struct audit *a, const struct audit_act *act, bool sync);

/* As audit_write, for acts that strangers cause at will: beyond ten a minute they are only counted, and the
 * count is logged. */
void audit_noise(struct audit *a, const struct audit_act *act);

/* As audit_write, for an act that was refused: beyond sixty a minute of one user they are only counted, and
 * the count is logged. */
int audit_refusal(struct audit *a, const struct audit_act *act);

/* Bytes of the log from byte from on, as they are; 0 at the end. */
int audit_read(struct audit *a, uint64_t from, char *buf, size_t size);

/* {"chain","seq","hash","time","offset","enrolled"}, malloc'ed: the last record, to be kept elsewhere and
 * held against the log later. */
int audit_head_json(struct audit *a, char **json);

/* The first MAC key of the chain (32 bytes), once; then it is wiped here. -ENOENT: it was handed out. */
int audit_enroll(struct audit *a, struct secret **key);

struct audit_counts {
    uint64_t records;  /* in the chain */
    uint64_t failures; /* records that could not be written since the start */
    uint64_t trouble;  /* findings since the start: missing, changed, foreign */
    bool in_reserve;   /* the disk is full */
};
void audit_counts(const struct audit *a, struct audit_counts *out);

/* fn is told of each finding of that kind (one line), also of those of audit_open. Already recorded. */
void audit_watch(struct audit *a, void (*fn)(void *arg, const char *what), void *arg);

#endif
