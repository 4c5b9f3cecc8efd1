/* Which files of the mount programs have open or mapped. The kernel does not tell the daemon of opens and
 * closes, so /proc is asked: descriptors and mappings of every process that this one may look at. As root
 * that is every process of its pid namespace, else the user's own ones. What the kernel itself holds (a loop
 * device, a file on its way through a socket) is not seen. Nothing here touches the mount. */
#ifndef FS_MOUNT_OPEN_FILES_H
#define FS_MOUNT_OPEN_FILES_H

#include "fs/mount/daemon.h"

struct open_files;

/* Looks now; takes some microseconds for each descriptor of each process. NULL: no memory, no /proc, or
 * somebody's process did not let itself be looked at in time. */
struct open_files *open_files_look(const struct daemon *d);
void open_files_free(struct open_files *o); /* takes NULL */
void open_files_freep(struct open_files **o);

/* How many regular files of the volume, or of one protected directory (pd_id not NULL), are among them. o may
 * be NULL: none. */
uint64_t open_files_count(const struct open_files *o, const struct daemon *d, const uint8_t *pd_id);

/* Both in one. */
uint64_t open_files_now(const struct daemon *d, const uint8_t *pd_id);

#endif
