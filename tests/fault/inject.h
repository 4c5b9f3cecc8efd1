/* The injection layer: every call that the store makes of its backing directory passes here, and one of them,
 * or all from one on, fails. Defined in the test's own program, before libc's. */
#ifndef LATCHFS_FAULT_INJECT_H
#define LATCHFS_FAULT_INJECT_H

#include <stdbool.h>
#include <stdint.h>

enum call_class {
    CALL_LOOK,  /* opens, stats, lists, reads a link or an attribute */
    CALL_READ,  /* pread */
    CALL_WRITE, /* pwrite, pwritev */
    CALL_ALLOC, /* fallocate that takes space */
    CALL_FREE,  /* fallocate that gives space back */
    CALL_SIZE,  /* ftruncate */
    CALL_ADD,   /* makes a name: open for creating, mkdir, link, rename ... */
    CALL_DROP,  /* unlink */
    CALL_ATTR,  /* sets an attribute, an owner, a mode, times */
    CALL_SYNC,
    CALL_CLASSES
};

enum fault_kind {
    FAULT_ENOSPC,
    FAULT_EDQUOT,
    FAULT_EIO,
    FAULT_EINTR,
    FAULT_SHORT,   /* half of what was asked for is read or written, and said so */
    FAULT_PARTLY,  /* half is written, and the next write fails with ENOSPC */
    FAULT_FULL,    /* a full disk from this call on: nothing that takes space works */
    FAULT_THIN,    /* the same on storage where an overwrite takes space too */
    FAULT_IGNORED, /* for the self test: EIO as far as the checks know; the program hears of success */
    FAULT_KINDS
};

#define CALLS_MAX 20000u
#define CALL_NAME 16

/* Shared between the processes of one case. */
struct plan {
    bool armed;
    bool no_fallocate; /* the filesystem below can't */
    uint64_t at;       /* which call, from 1; 0: none, only count */
    enum fault_kind kind;
    uint64_t calls;       /* so far */
    uint64_t fired;       /* how many failed */
    bool lasting;         /* the disk is still full */
    char name[CALL_NAME]; /* of the first call that failed */
    enum call_class what; /* and its class */
    uint8_t classes[CALLS_MAX];
    char names[CALLS_MAX][CALL_NAME];
    enum { PLANT_NONE, PLANT_ERRNO, PLANT_LEAK, PLANT_HANG, PLANT_CRASH } plant; /* for the self test */
};
extern struct plan *plan;

bool fault_fits(enum fault_kind kind, enum call_class what);
int fault_errno(enum fault_kind kind); /* 0: the program must not notice */

#endif
