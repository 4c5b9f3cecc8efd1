/* The mount of this user's that a path lies in, or that a volume has. */
#ifndef TOOLS_MOUNT_REF_H
#define TOOLS_MOUNT_REF_H

#include <limits.h>

struct mount_ref {
    char socket[PATH_MAX];
    char mountpoint[PATH_MAX], volume[PATH_MAX]; /* absolute, resolved */
};

/* path: absolute, without links but for its last component, as mount_point_path gives it. The innermost mount
 * that it lies in; *rel: the rest of the path below that, "" for its root. -ENOENT: in none that answers. */
int mount_ref_of_path(const char *path, struct mount_ref *out, const char **rel);

/* The mount whose volume path is in (*rel: below the volume). -ENOENT. */
int mount_ref_of_volume(const char *path, struct mount_ref *out, const char **rel);

/* The mount at a mount point; prints its own error and returns an exit code. */
int mount_ref_get(const char *mountpoint, struct mount_ref *out);

#endif
