/* What the kernel's table of mounts says about views. */
#ifndef FS_VIEW_MOUNTS_H
#define FS_VIEW_MOUNTS_H

#include <stdbool.h>
#include <sys/types.h>

/* Whether a view is on top at the resolved path. */
bool mounts_view_at(const char *path);

/* Whether the file system with this device number is a view. */
bool mounts_view_dev(dev_t dev);

#endif
