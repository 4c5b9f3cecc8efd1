/* Whose files a worker creates. A root daemon gives new files to the caller by taking on the caller's
 * filesystem uid and gid (and, always, umask) for its thread, while its capabilities stay: the kernel has
 * checked permissions on the plaintext side already. All of it is cached per thread, so that only a change of
 * caller costs system calls. */
#ifndef FS_MOUNT_IDENTITY_H
#define FS_MOUNT_IDENTITY_H

#include <sys/types.h>

/* Once, before any thread: gives up CAP_SYS_RESOURCE, which would ignore quotas and reserved blocks. */
int identity_init(void);

/* Once in every thread that creates files: gives it a umask of its own. */
int identity_thread(void);

/* From here on the thread creates files as uid:gid with umask. Without root only umask counts. -EOVERFLOW
 * when the id does not exist here. */
int identity_assume(uid_t uid, gid_t gid, mode_t mask);

#endif
