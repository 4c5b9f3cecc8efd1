/* What the parts of one running latchfs-view share. Set up by main before any thread starts; what has no note
 * does not change afterwards. */
#ifndef FS_VIEW_VIEW_H
#define FS_VIEW_VIEW_H

#include "fs/view/derive.h"
#include "fs/view/exclude.h"
#include "fs/view/groups.h"
#include "fs/view/longnames.h"
#include "fs/view/vnode.h"

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define VIEW_HIDDEN 3

struct view {
    char plain[PATH_MAX], mountpoint[PATH_MAX], config[PATH_MAX]; /* absolute, resolved */
    char hidden[VIEW_HIDDEN][PATH_MAX]; /* from the top of plain, never shown: mount point, key store, .bak */
    int root_fd;                        /* of plain */
    dev_t root_dev;
    bool one_file_system;
    struct exclude *exclude;
    time_t created; /* of the key store: the time of files that follow from path and keys alone */
    uint8_t volume_id[ID_BYTES];
    struct vtable *nodes;
    struct groups *groups;
    struct longnames *longnames;
    int crowded;                 /* eventfd: there are more nodes than most_nodes */
    _Atomic uint64_t most_nodes; /* 0: not known yet */
    _Atomic uint64_t open_files;
    _Atomic int64_t used_at; /* last use of the keys, milliseconds of view_now */

    pthread_rwlock_t gate;  /* guards keys */
    struct view_keys *keys; /* locked memory; NULL while the volume is locked */
};

/* The keys, for as long as the caller needs; NULL: locked, and nothing to leave. */
const struct view_keys *view_enter(struct view *v);
void view_leave(struct view *v);

/* Overwrites what calls that used keys have left on this thread's stack. view_leave does it, too. */
void view_wipe_stack(void);

/* Milliseconds of a clock that counts while the machine sleeps. */
int64_t view_now(void);

/* New keys, or NULL to lock: waits for all who have entered, and wipes the old ones. Takes keys over. */
void view_set_keys(struct view *v, struct view_keys *keys);

#endif
