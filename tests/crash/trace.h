/* The trace: what reaches a backing directory, in order. The recorder writes it, states.py reads it.
 *
 * A record: length u32 of what follows the head, type u32, then the fields as listed, packed, little-endian.
 * ino is the inode number that the recorded program saw. A name runs to the end of the record unless its
 * length stands before it. */
#ifndef LATCHFS_CRASH_TRACE_H
#define LATCHFS_CRASH_TRACE_H

enum trace_type {
    TRACE_WRITE = 1,   /* ino u64, offset u64, data */
    TRACE_TRUNCATE,    /* ino u64, length u64 */
    TRACE_FALLOCATE,   /* ino u64, mode u64, offset u64, length u64 */
    TRACE_CREATE,      /* directory u64, ino u64, mode u64, name */
    TRACE_MKDIR,       /* directory u64, ino u64, mode u64, name */
    TRACE_SYMLINK,     /* directory u64, ino u64, name length u64, name, target */
    TRACE_LINK,        /* directory u64, ino u64, name */
    TRACE_UNLINK,      /* directory u64, ino u64, name */
    TRACE_RMDIR,       /* directory u64, ino u64, name */
    TRACE_RENAME,      /* directory u64, new directory u64, flags u64, name length u64, name, new name */
    TRACE_SETXATTR,    /* ino u64, name length u64, name, value */
    TRACE_REMOVEXATTR, /* ino u64, name */
    TRACE_CHMOD,       /* ino u64, mode u64 */
    TRACE_SYNC_BEGIN,  /* number u64, kind u64 (enum trace_sync), ino u64 */
    TRACE_SYNC_END,    /* number u64 */
    TRACE_MARK,        /* bytes that the program wrote to TRACE_MARK_FD */
    TRACE_CHOWN,       /* ino u64, uid u64, gid u64; what stays as it is: 2^32 - 1 */
    TRACE_UTIMENS,     /* ino u64, modification time: seconds u64, nanoseconds u64 */
    TRACE_UNMODELLED,  /* name of a call that changes files and that the lab knows nothing of */
};

enum trace_sync { SYNC_FILE = 1, SYNC_DATA, SYNC_ALL };

/* Never open: only the recorder sees what is written to it. */
#define TRACE_MARK_FD 987654

#endif
