/* The control sockets of mounts: every latchfs listens on one, for `latch status` and its like.
 *
 * Directory: /run/latchfs/mounts for root, $XDG_RUNTIME_DIR/latchfs/mounts for others,
 * /tmp/latchfs-UID/mounts without one; mode 0700. Socket: <volume id, 32 hex>.<pid>.sock, SOCK_SEQPACKET,
 * mode 0600; the peer must be the mount's own uid or root. One message asks, one answers, in little-endian
 * integers:
 *
 * - request: version u16 = 1 | kind u16
 * - answer: version u16 = 1 | kind u16 | error i32 (0, or as in err.h) | status, when kind is MOUNTCTL_STATUS
 * - status: volume id 16 | pid u32 | flags u32 | mounted at u64 (seconds since 1970) | nodes, open fds,
 * pinned fds, journal bytes, journal used, authentication failures, checkpoints, journal syncs, open files,
 * WRITE requests: u64 each | replay: unclean u8, entries, files, skipped, torn u64 each | volume path: length
 *   u16, bytes | mount point: the same
 *
 * An unknown version or kind is answered with LFS_ERR_UNSUPPORTED, a malformed request ends the connection.
 */
#ifndef LATCHFS_MOUNTCTL_H
#define LATCHFS_MOUNTCTL_H

#include "latchfs/format.h"
#include "latchfs/store.h"

#include <limits.h>
#include <stdbool.h>

#define MOUNTCTL_VERSION 1u
#define MOUNTCTL_REQUEST_BYTES 4u
#define MOUNTCTL_ANSWER_MAX 8704u

enum mountctl_kind { MOUNTCTL_STATUS = 1 };

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

/* ---- for the mount's side ---- */

/* The directory of this user's sockets, without a trailing slash. */
int mountctl_dir(char *path, size_t size);

/* Encodes the whole answer; returns its length or LFS_ERR_MISUSE. */
int mountctl_encode_status(const struct mount_status *st, uint8_t *out, size_t size);
int mountctl_decode_status(const uint8_t *in, size_t len, struct mount_status *out);

#endif
