/* What a PATH on the command line means: a volume directory, a mount point, or something in a mount; and
 * which protected directory it belongs to. */
#ifndef TOOLS_TARGET_H
#define TOOLS_TARGET_H

#include "volume_files.h"

#include "latchfs/mountctl.h"

#include <limits.h>

struct target {
    struct volume_files v; /* opened */
    char volume[PATH_MAX]; /* absolute */
    char path[PATH_MAX];   /* as given, absolute */
    bool mounted;          /* a mount of this user that answers */
    char socket[PATH_MAX]; /* if mounted: its control socket */
    char mountpoint[PATH_MAX];
    const char *rel; /* path below the mount point, "" for its root; NULL if path is the volume itself */
    uint8_t pd_id[ID_BYTES]; /* the protected directory of rel, else the root's */
    bool top;                /* rel is a topmost directory of it */
    bool locked;             /* the mount has no keys of it */
    uint32_t pid;
};

/* Finds out. Never opens anything in a mount, which may be locked or hung. Prints its own error and returns
 * an exit code; clear *t in any case. */
int target_find(const char *path, struct target *t);
void target_clear(struct target *t);
#define AUTO_TARGET CLEANUP(target_clear)

/* Chooses the protected directory by what --dir gave: its id in hex, or its name as latch-keyd knows it (the
 * volume must be unlocked there). Prints its own error and returns an exit code. */
int target_choose(struct target *t, const char *name_or_id);

/* Cuts path back to the topmost directory of its protected directory. */
void target_to_top(struct target *t);

/* How the mount has the chosen protected directory; false if it is not mounted, does not answer or knows
 * nothing of it. */
bool target_dir_in_mount(const struct target *t, struct pd_status *out);

/* True for the protected directory of the volume's root. */
bool target_is_root(const struct target *t);

/* The object of one protected directory in that of its volume (keyd_status_volume); absent if not there. */
struct json_value;
struct json_value target_status_dir(struct json_value volume, const uint8_t pd_id[static ID_BYTES]);

#endif
