/* Errors below FUSE. Every function of the libraries that can fail returns an int (or ssize_t): zero or
 * more on success, a negative error otherwise. Two ranges share the sign:
 *
 *   -1 .. -4095      a system error, -errno, as the kernel gave it (ENOSPC, ENOENT, EIO, ...)
 *   -5000 and below  an error of our own, one of enum lfs_err
 *
 * Libraries return, programs log. Outputs are written only on success. */
#ifndef LATCHFS_ERR_H
#define LATCHFS_ERR_H

enum lfs_err {
    LFS_OK = 0,
    LFS_ERR_CORRUPT = -5000,     /* bytes that no version of ours writes: cut, wrong magic, bad field */
    LFS_ERR_AUTH = -5001,        /* well formed, but the MAC or the AEAD tag does not fit */
    LFS_ERR_NOKEY = -5002,       /* locked, or no lease: the key is not here now */
    LFS_ERR_UNSUPPORTED = -5003, /* a version, suite or flag that this build does not know */
    LFS_ERR_MISUSE = -5004,      /* a caller's mistake; never the fault of data */
    LFS_ERR_BUSY = -5005,        /* the volume is in use by another mount or tool */
    LFS_ERR_PASSPHRASE = -5006,  /* no slot opens with this secret */
    LFS_ERR_NOTVOLUME = -5007,   /* the directory holds no volume */
    LFS_ERR_ROLLBACK = -5008,    /* an older or other file than the one pinned or expected */
    LFS_ERR_PROTO = -5009,       /* the peer of a socket broke the protocol */
    LFS_ERR_DENIED = -5010,      /* policy refuses this request */
    LFS_ERR_TIMEOUT = -5011,     /* a deadline passed */
    LFS_ERR_JOURNAL = -5012,     /* the journal is missing or unreadable, or of another volume */
    LFS_ERR_APPROVAL = -5013,    /* refused until others have approved it */
    LFS_ERR_SHARED = -5014,      /* not on a volume that several mounts share */
};

/* A short lower-case description of err, static storage. Knows both ranges. Not for secrets: it never
 * carries data. */
const char *lfs_strerror(int err);

/* The errno (positive) that a program above FUSE sees for err; 0 for err >= 0. The one place where the two
 * ranges meet: CORRUPT, AUTH, UNSUPPORTED, ROLLBACK, JOURNAL -> EIO; NOKEY -> ENOKEY; BUSY, SHARED -> EBUSY;
 * DENIED, APPROVAL -> EACCES; MISUSE -> EINVAL; TIMEOUT -> ETIMEDOUT. */
int lfs_errno(int err);

/* Exit codes of all programs, stable, documented in latch(1). */
enum lfs_exit {
    LFS_EXIT_OK = 0,
    LFS_EXIT_FAILURE = 1,    /* anything without a code of its own */
    LFS_EXIT_USAGE = 2,      /* wrong command line or configuration */
    LFS_EXIT_PASSPHRASE = 3, /* wrong passphrase, key file or recovery key */
    LFS_EXIT_NOKEY = 4,      /* locked, no lease, refused by policy */
    LFS_EXIT_CORRUPT = 5,    /* tampered or corrupt, or of an unknown version */
    LFS_EXIT_IO = 6,         /* the system refused: I/O error, no space, permission */
    LFS_EXIT_BUSY = 7,       /* in use: mounted already, mount point busy, lock held */
    LFS_EXIT_NOTVOLUME = 8,  /* no volume there */
    LFS_EXIT_APPROVAL = 9,   /* waits for the approval of others */
    LFS_EXIT_REPAIRED = 10,  /* fsck --repair: there was damage, and all of it was repaired */
};

/* The exit code for err (0 -> LFS_EXIT_OK). */
int lfs_exit_code(int err);

#endif
