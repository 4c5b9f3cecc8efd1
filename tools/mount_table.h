/* The kernel's list of mounts, and who uses one. Nothing here touches the mounted file system itself, which
 * may be hung or dead. */
#ifndef TOOLS_MOUNT_TABLE_H
#define TOOLS_MOUNT_TABLE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct mount_entry {
    char device[24]; /* major:minor */
    char mountpoint[PATH_MAX];
    char type[64];
    char source[PATH_MAX];
};

/* The topmost mount exactly at path (absolute, no symbolic links). 0, -ENOENT, -errno. */
int mount_table_find(const char *path, struct mount_entry *out);

/* A mount somewhere below path, if there is one. */
int mount_table_below(const char *path, struct mount_entry *out);

/* A mount of the volume at path (absolute, no symbolic links), whoever made it. */
int mount_table_of_volume(const char *path, struct mount_entry *out);

/* path made absolute, symbolic links resolved in all but its last component (a dead mount can still be
 * named). -ENAMETOOLONG, -errno. */
int mount_point_path(const char *path, char out[static PATH_MAX]);

/* Lists who has a directory, program, descriptor or mapping under path, as far as /proc tells: "vim (pid 12)
 * has files open, bash (pid 9) is in it". Returns the number of processes; text is cut to fit. One that did
 * not let itself be looked at within four seconds counts, and the text says so. */
#define MOUNT_HOLDERS_MAX 2048u
unsigned mount_holders(const char *path, char *text, size_t len);

/* The process with a lock (flock) on a file, by /proc/locks; -1 if only locks of open files are seen, which
 * name nobody (shared mounts); 0 if none. */
pid_t file_lock_holder(const char *path);

#endif
