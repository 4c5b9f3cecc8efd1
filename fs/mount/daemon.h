/* What the parts of one running latchfs share. Set up by main before any thread starts; the fields without
 * a note do not change afterwards. */
#ifndef FS_MOUNT_DAEMON_H
#define FS_MOUNT_DAEMON_H

#include "latchfs/store.h"

#include <limits.h>
#include <stdatomic.h>

struct checks;
struct dir_streams;
struct freezer;
struct jobs;
struct keys;
struct session;

struct daemon {
    char volume_path[PATH_MAX], mountpoint[PATH_MAX]; /* absolute, resolved */
    uint8_t volume_id[ID_BYTES];
    uint8_t pd_id[ID_BYTES]; /* protected directory of the root */
    struct volume *vol;
    struct session *session;
    struct keys *keys;
    struct jobs *jobs;
    struct checks *checks;
    struct freezer *freezer;
    struct dir_streams *streams;
    struct replay_report replay; /* of this mount's start */
    time_t since;
    unsigned connection; /* its number; set before the control socket is there */
    bool read_only;      /* mounted so */
    bool shared;         /* other mounts may change the volume: the kernel keeps nothing unasked */
    bool want_writeback;
    bool writeback;    /* negotiated with the kernel, as the next two; set before other requests come */
    bool kills_priv;   /* clearing suid, sgid and capabilities is ours (FUSE_HANDLE_KILLPRIV_V2) */
    bool setxattr_ext; /* SETXATTR requests have the longer header */

    _Atomic uint64_t writes; /* WRITE requests so far; the lock procedure waits for it to stand still */
    _Atomic int refusals;    /* damage or a forgery was seen since keys.c last looked */

    /* While one protected directory is being locked: WRITE requests for it (lock.c). */
    atomic_bool locking_dir;
    _Atomic uint64_t locking_id[2];
    _Atomic uint64_t locking_writes;
};

#endif
