/* The control sockets of mounts: every latchfs listens on one, for `latch status` and its like.
 *
 * Directory: /run/latchfs/mounts for root, $XDG_RUNTIME_DIR/latchfs/mounts for others,
 * /tmp/latchfs-UID/mounts without one; mode 0700. Socket: <volume id, 32 hex>.<pid>.sock, SOCK_SEQPACKET,
 * mode 0600; the peer must be the mount's own uid or root. One message asks, one answers, in little-endian
 * integers:
 *
 * - request: version u16 = 1 | kind u16 | by kind:
 *   RESOLVE path | PROTECT protected directory's id 16, path | JOB_START job u8, id 16, bytes per second u64,
 *   least active version u32 (0: any) | FREEZE seconds u32 | THAW serial u64 (0: any) | CIPHER_PATH path |
 *   PLAIN_PATH path (of ciphertext, below the volume) | CHECK_START flags u8, workers u32, bytes per second
 * u64, path, resume (a string) | CHECK_FINDINGS after u64 | others nothing. path: length u16, bytes: names
 * with one slash between them, below the mount point, none of them empty, "." or ".."; "" is the mount point.
 * A string: length u16 (below PATH_MAX), bytes without NUL
 * - answer: version u16 = 1 | kind u16 | error i32 (0, or as in err.h) | if 0, by kind:
 *   STATUS status | RESOLVE id 16, flags u8 (1 top, 2 locked) | JOB_STATUS job u8, running u8, result i32,
 *   id 16, files, files in all, changed, damaged, bytes, bytes in all u64 each, least version u32 |
 *   DIRS count u16 (256 at most), each: id 16, locked u8, active u32, least u32, last use u64, open files u64
 * | FREEZE serial u64 (not 0) | CIPHER_PATH, PLAIN_PATH string | CHECK_STATUS serial u64, running u8, result
 * i32, progress (entries, files, directories, bytes, entries in all, bytes in all, notes, warnings, damage,
 *   repaired, sealed, open seals: u64 each), position string | CHECK_FINDINGS serial u64, dropped u64, first
 * u64, count u16 (64 at most), each: kind u8, severity u8, err i32, offset u64, length u64, ciphertext path
 * string, plaintext path, repair: each u8 (1: there is one), string
 * - status: volume id 16 | pid u32 | flags u32 | mounted at u64 (seconds since 1970) | nodes, open fds,
 * pinned fds, journal bytes, journal used, authentication failures, checkpoints, journal syncs, seals, files
 * that wait for a seal, time of the last checkpoint, open files, WRITE requests, frozen until: u64 each |
 * failed sync i32 | replay: unclean u8, entries, files, skipped, torn u64 each | volume path string | mount
 * point string
 *
 * An unknown version or kind is answered with LFS_ERR_UNSUPPORTED, a malformed request ends the connection.
 */
#ifndef LATCHFS_MOUNTCTL_H
#define LATCHFS_MOUNTCTL_H

#include "latchfs/check.h"
#include "latchfs/format.h"
#include "latchfs/store.h"

#include <limits.h>
#include <stdbool.h>

#define MOUNTCTL_VERSION 1u
#define MOUNTCTL_REQUEST_MAX 8240u
#define MOUNTCTL_ANSWER_MAX 10624u

enum mountctl_kind {
    MOUNTCTL_STATUS = 1,
    MOUNTCTL_RESOLVE = 2,   /* path below the mount point -> its protected directory */
    MOUNTCTL_PROTECT = 3,   /* path, pd id: the empty directory becomes the top of it */
    MOUNTCTL_DIRS = 4,      /* the protected directories of the mount */
    MOUNTCTL_JOB_START = 5, /* a rotation (enum mount_job) in a thread of the mount; one at a time */
    MOUNTCTL_JOB_STATUS = 6,
    MOUNTCTL_JOB_STOP = 7,
    MOUNTCTL_FREEZE = 8,
    MOUNTCTL_THAW = 9,
    MOUNTCTL_CIPHER_PATH = 10, /* path below the mount point -> ciphertext path */
    MOUNTCTL_PLAIN_PATH = 11,  /* the other way */
    MOUNTCTL_CHECK_START = 12, /* check_volume in a thread of the mount; one at a time */
    MOUNTCTL_CHECK_STATUS = 13,
    MOUNTCTL_CHECK_FINDINGS = 14, /* those after a sequence number */
    MOUNTCTL_CHECK_STOP = 15,
};

struct mount_status {
    uint8_t volume_id[ID_BYTES];
    uint32_t pid;
    bool locked;
    bool read_only; /* mounted so, or turned so by a failed sync */
    bool failed;    /* the latter */
    bool writeback; /* the kernel keeps written data for a while */
    uint64_t mounted_at;
    struct volume_stats stats;
    uint64_t open_files, writes;
    uint64_t frozen_until;       /* seconds since 1970; 0: not frozen */
    struct replay_report replay; /* at this mount's start */
    char volume[PATH_MAX], mountpoint[PATH_MAX];
};

/* ---- for tools ---- */

/* Asks the mount behind one socket. -ECONNREFUSED or -ENOENT when it is gone, LFS_ERR_DENIED when the peer is
 * another user's program, LFS_ERR_PROTO, LFS_ERR_TIMEOUT (5 s). */
int mountctl_status(const char *socket_path, struct mount_status *out);

/* Calls fn for every mount of this user that answers; one that does not is left out, and
 * the socket of one that was killed removed. fn returning non-zero ends
 * the walk, which returns it. 0 also when there is no mount. */
int mountctl_each(int (*fn)(const char *socket_path, const struct mount_status *st, void *arg), void *arg);

/* All of these: deadline 30 s; errors of the mount come back as they are. path is relative to the mount
 * point,
 * "" for its root. */
struct mount_resolved {
    uint8_t pd_id[ID_BYTES];
    bool top;    /* path is a topmost directory of it */
    bool locked; /* the mount has no keys of it */
};
int mountctl_resolve(const char *socket_path, const char *path, struct mount_resolved *out);

/* The mount leases the keys of pd_id from latch-keyd, then node_protect. */
int mountctl_protect(const char *socket_path, const char *path, const uint8_t pd_id[static ID_BYTES]);

/* The protected directories that have keys in the mount, or had some. */
struct mount_dir {
    struct pd_status pd;
    uint64_t open_files; /* files of it that programs have open or mapped */
};
#define MOUNTCTL_DIRS_MAX 256u
int mountctl_dirs(const char *socket_path, struct mount_dir *out, size_t room, size_t *count);

/* Rotations: the job goes on when the asker is gone; its last state can be asked until the next one starts.
 */
enum mount_job { MOUNT_JOB_REWRAP = 1, MOUNT_JOB_REENCRYPT = 2, MOUNT_JOB_SCAN = 3 };
struct mount_job_status {
    uint8_t job; /* enum mount_job; 0: none was started */
    bool running;
    int32_t result; /* once it is over */
    uint8_t pd_id[ID_BYTES];
    struct rotate_progress progress;
};
/* version: a version of the directory's key; the job proves nothing about it in a mount whose own active
 * version is lower, so that is refused with LFS_ERR_NOKEY, as is a locked directory; 0: any will do (scans).
 * LFS_ERR_BUSY: a job is running. */
int mountctl_job_start(const char *socket_path, enum mount_job job, const uint8_t pd_id[static ID_BYTES],
                       uint64_t bytes_per_second, uint32_t version);
int mountctl_job_status(const char *socket_path, struct mount_job_status *out);
int mountctl_job_stop(const char *socket_path);

/* Freezing (volume_freeze): what the kernel still holds is written out by the caller, with syncfs on the
 * mount. LFS_ERR_BUSY: frozen already; LFS_ERR_NOKEY: locked; -EROFS: read-only, where nothing changes
 * anyhow. *serial names this freeze: thaw with it ends no other (0: whichever there is). thaw: -EINVAL when
 * it has ended before: by its deadline, or by a lock, which goes before it. Deadline of the call: 10 minutes,
 * since a freeze puts everything in place first. */
int mountctl_freeze(const char *socket_path, unsigned seconds, uint64_t *serial);
int mountctl_thaw(const char *socket_path, uint64_t serial);

/* Paths relative to the mount point and to the volume, "" for their roots; out: PATH_MAX bytes. -ENOENT,
 * LFS_ERR_NOKEY for what is in a locked directory, LFS_ERR_AUTH for a name that does not decrypt. */
int mountctl_cipher_path(const char *socket_path, const char *plain, char *out);
int mountctl_plain_path(const char *socket_path, const char *cipher, char *out);

/* A check of the mounted volume. It stops, with -EINTR, when nobody has asked for its state or its findings
 * for a while. Its last state can be asked until the next one starts. A lock of the volume or of a protected
 * directory ends it with LFS_ERR_NOKEY. */
#define CHECK_ASKED_SECONDS 30
struct mount_check {
    unsigned flags;            /* 0 or CHECK_CONTENTS: nothing is repaired in a mount */
    unsigned workers;          /* as in check_options */
    uint64_t bytes_per_second; /* as in check_options */
    const char *subtree;       /* plaintext path relative to the mount point; NULL or "": all */
    const char *resume;        /* position of an earlier check, or NULL */
};
/* LFS_ERR_BUSY: one is running. Errors of finding subtree. */
int mountctl_check_start(const char *socket_path, const struct mount_check *c);

struct mount_check_status {
    uint64_t serial; /* of the check, counted from the mount's start; 0: none was started */
    bool running;
    int32_t result; /* once it is over: as check_volume; -EINTR after a stop */
    struct check_progress progress;
    char position[PATH_MAX]; /* where a later check can go on, "" if that is not known */
};
int mountctl_check_status(const char *socket_path, struct mount_check_status *out);
int mountctl_check_stop(const char *socket_path); /* 0 too when none is running */

/* Findings of the last check, numbered from 1 on. A mount keeps a bounded number: the oldest go first. */
#define MOUNTCTL_FINDINGS_MAX 64u
struct mount_findings {
    uint64_t serial;  /* of the check */
    uint64_t dropped; /* findings after the number asked for that were gone already */
    uint64_t first;   /* number of each[0]; the next question: after = first + count - 1 */
    size_t count;     /* 0: none yet */
    struct check_finding each[MOUNTCTL_FINDINGS_MAX]; /* repaired, moved_to: never set; strings in text */
    char text[MOUNTCTL_ANSWER_MAX];
};
int mountctl_check_findings(const char *socket_path, uint64_t after, struct mount_findings *out);

/* ---- for the mount's side ---- */

/* The directory of this user's sockets, without a trailing slash. */
int mountctl_dir(char *path, size_t size);

/* What was asked; fields that a kind does not have are zero. */
struct mountctl_request {
    uint16_t kind;
    uint8_t pd_id[ID_BYTES];
    uint8_t job;
    uint64_t bytes_per_second;
    uint32_t version; /* of JOB_START */
    uint32_t seconds; /* of FREEZE */
    uint64_t number;  /* serial of THAW, after of CHECK_FINDINGS */
    uint8_t flags;    /* of CHECK_START, as the next */
    uint32_t workers;
    char path[PATH_MAX];
    char resume[PATH_MAX]; /* of CHECK_START */
};

/* Fills in the address of the socket at path, which may be longer than an address can be: then through *dir,
 * a descriptor that the caller keeps open until after bind or connect, else -1. -errno of the directory. */
struct sockaddr_un;
int mountctl_address(const char *path, struct sockaddr_un *out, int *dir);

/* Encoders return the length or LFS_ERR_MISUSE (no room, or what the decoder would refuse). Decoders of
 * answers return the mount's error if that is what came, LFS_ERR_PROTO for anything malformed; *out is
 * written on success only. */
int mountctl_encode_request(const struct mountctl_request *q, uint8_t *out, size_t size);
/* LFS_ERR_PROTO; LFS_ERR_UNSUPPORTED with only kind set in *out. */
int mountctl_decode_request(const uint8_t *in, size_t len, struct mountctl_request *out);

int mountctl_encode_status(const struct mount_status *st, uint8_t *out, size_t size);
int mountctl_decode_status(const uint8_t *in, size_t len, struct mount_status *out);
int mountctl_encode_resolved(const struct mount_resolved *m, uint8_t *out, size_t size);
int mountctl_decode_resolved(const uint8_t *in, size_t len, struct mount_resolved *out);
int mountctl_encode_dirs(const struct mount_dir *dirs, size_t count, uint8_t *out, size_t size);
/* -E2BIG when there are more than room. */
int mountctl_decode_dirs(const uint8_t *in, size_t len, struct mount_dir *out, size_t room, size_t *count);
int mountctl_encode_job(const struct mount_job_status *st, uint8_t *out, size_t size);
int mountctl_decode_job(const uint8_t *in, size_t len, struct mount_job_status *out);
int mountctl_encode_serial(uint64_t serial, uint8_t *out, size_t size); /* of FREEZE */
int mountctl_decode_serial(const uint8_t *in, size_t len, uint64_t *out);
int mountctl_encode_path(uint16_t kind, const char *path, uint8_t *out, size_t size);
int mountctl_decode_path(uint16_t kind, const uint8_t *in, size_t len, char *out); /* out: PATH_MAX bytes */
int mountctl_encode_check(const struct mount_check_status *st, uint8_t *out, size_t size);
int mountctl_decode_check(const uint8_t *in, size_t len, struct mount_check_status *out);
/* As many of them as there is room for, at least one if there are any: f->count becomes that. */
int mountctl_encode_findings(struct mount_findings *f, uint8_t *out, size_t size);
int mountctl_decode_findings(const uint8_t *in, size_t len, struct mount_findings *out);
/* An answer without a body: err is 0 or an error. */
int mountctl_encode_plain(uint16_t kind, int err, uint8_t *out, size_t size);
int mountctl_decode_plain(uint16_t kind, const uint8_t *in, size_t len);

#endif
