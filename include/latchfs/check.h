/* The check of a volume: what fsck, verify and scrub stand on. Two depths, one report.
 *
 * check_structure needs no key: names, records, headers, lengths, sidecars, the journal's framing, leftovers.
 * check_volume has keys and an open volume, so what is still in the journal counts as in place: MACs, names,
 * parents, file keys, seals, and on request every chunk, attribute and link target. It runs beside a mount's
 * own work (it takes the same locks as a read) as well as on a volume opened read-only.
 *
 * Nothing is changed without CHECK_REPAIR. lost+found is a directory like any other, at the top of the
 * protected directory that the damaged thing belongs to; what no key opens goes to latchfs.lost in the
 * volume's root, which is no part of the tree. Findings come from any worker, one at a time.
 */
#ifndef LATCHFS_CHECK_H
#define LATCHFS_CHECK_H

#include "latchfs/store.h"

/* What a finding means to whoever reads it. */
enum check_severity {
    CHECK_NOTE,    /* harmless, or the next mount mends it: leftovers, an unclean journal, an open seal */
    CHECK_WARNING, /* nothing is lost, but something is not as it was left: an orphan, a tail too long */
    CHECK_DAMAGE,  /* something can't be read, or is not what was written */
};

/* A finding's kind; check_kind_name gives its stable name for --json and the manual. */
enum check_kind {
    /* structure */
    CHECK_BAD_NAME = 1,    /* an entry that no volume of ours has */
    CHECK_LEFTOVER,        /* latchfs.tmp.*, half-made */
    CHECK_ORPHAN_SIDECAR,  /* a long name or link target whose entry is not there */
    CHECK_MISSING_SIDECAR, /* an entry without it: its name or target is lost */
    CHECK_BAD_SIDECAR,     /* it does not fit its entry */
    CHECK_MISSING_RECORD,  /* a directory without latchfs.dir */
    CHECK_BAD_RECORD,      /* it does not parse, does not authenticate, or names another parent or name */
    CHECK_DUPLICATE_ID, /* two directories or files with one id; a warning where one is a copy of the other */
    CHECK_BAD_HEADER,   /* of a file */
    CHECK_BAD_LENGTH,   /* too short for what its header says */
    CHECK_TAIL,         /* longer than its header says: never committed */
    CHECK_ZERO_PAGE,    /* content that never reached the disk: reads as empty */
    CHECK_BAD_LINK,     /* a symbolic link's target */
    CHECK_BAD_KEYSTORE, /* latchfs.ini or its .bak */
    CHECK_JOURNAL_MISSING, /* or unreadable */
    CHECK_JOURNAL_UNCLEAN, /* entries wait for the next mount */
    CHECK_FOREIGN_TYPE,    /* a directory where a file should be, and the like */
    /* contents */
    CHECK_UNDECRYPTABLE_NAME, /* an entry that came from elsewhere, or was changed */
    CHECK_BAD_CHUNK,          /* range: what it covers */
    CHECK_BAD_SEAL,           /* records are not the last ones */
    CHECK_BAD_XATTR,
    CHECK_WRONG_DIRECTORY,  /* a file of another protected directory */
    CHECK_OLD_VERSION,      /* a header older than the key store allows */
    CHECK_NO_KEY,           /* of a protected directory whose keys are not here: passed by, not counted */
    CHECK_IO,               /* the system could not read it */
    CHECK_UNSETTLED_RECORD, /* a copy of a directory's record is left by a power cut: the next mount that
                               looks at the directory mends the record, if need be, and removes the copy */
};
const char *check_kind_name(enum check_kind kind); /* "bad-chunk", ...; "?" */

struct check_finding {
    enum check_kind kind;
    enum check_severity severity;
    const char *cipher_path; /* relative to the volume, "" for its root */
    const char *plain_path;  /* relative to the volume's root; NULL where it is not known */
    /* Of plaintext, for CHECK_BAD_CHUNK, CHECK_BAD_LENGTH and CHECK_IO of content; else 0. */
    uint64_t offset, length;
    int err;            /* what a reader gets, or 0 */
    const char *repair; /* what --repair did or would do, in a few words; NULL: nothing can be done */
    bool repaired;
    const char *moved_to; /* plaintext path in lost+found, or ciphertext path without keys; or NULL */
};

struct check_progress {
    uint64_t entries, files, directories, bytes; /* looked at; bytes of ciphertext read */
    uint64_t entries_total, bytes_total;         /* estimates; 0: not known yet */
    uint64_t notes, warnings, damage, repaired;
    uint64_t sealed, open_seals; /* paged files with and without a seal */
};

enum check_flags {
    CHECK_CONTENTS = 1,   /* read and authenticate everything */
    CHECK_REPAIR = 2,     /* the volume must be opened for writing, and not be mounted by others */
    CHECK_CUT_TAILS = 4,  /* with CHECK_REPAIR: a damaged tail is cut before its first unreadable chunk */
    CHECK_LOST_FOUND = 8, /* with CHECK_REPAIR: the unreadable goes to lost+found */
};

struct check_options {
    unsigned flags;
    const char *subtree;       /* ciphertext path below which to look, or NULL */
    unsigned workers;          /* 0: two; 8 at most */
    uint64_t bytes_per_second; /* 0: no limit */
    /* Where an earlier check stopped, as position told it, or NULL. Entries before it are passed by: the walk
     * takes a directory's entries by the bytes of their stored names, so a place stays one when files come
     * and go. It is a ciphertext path, and inside of a large file that, two slashes and a chunk. */
    const char *resume;
    const atomic_bool *stop; /* or NULL: -EINTR soon after it is set */
    void (*finding)(const struct check_finding *f, void *arg);
    void (*progress)(const struct check_progress *p, void *arg); /* or NULL; every 200 ms at most */
    /* Or NULL; now and then, and at the end. Everything before where was looked at; the progress is of that
     * alone. */
    void (*position)(const char *where, const struct check_progress *, void *arg);
    void *arg;
};

/* 0 when the check went through, whatever it found (out->damage tells); else why it could not go on: -EINTR,
 * LFS_ERR_NOKEY (the volume was locked), -ENOENT (subtree), -ENOMEM. check_structure repairs nothing
 * (LFS_ERR_MISUSE). check_volume with CHECK_REPAIR: -EROFS unless the volume is open for writing; open it
 * with volume_options.damaged_root, so that the root's record can be mended too. */
int check_structure(const char *volume_path, const struct check_options *o, struct check_progress *out);
int check_volume(struct volume *v, const struct check_options *o, struct check_progress *out);

/* Adds the counts of more to those of sum; the estimates stay as they are. */
void check_progress_sum(struct check_progress *sum, const struct check_progress *more);

#endif
