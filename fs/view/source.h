/* The plain directory, read without ever following a symbolic link: what stands at a path is opened below the
 * top and nowhere else, even while somebody exchanges directories for links. */
#ifndef FS_VIEW_SOURCE_H
#define FS_VIEW_SOURCE_H

#include "fs/view/view.h"

/* Opens the plain object of a node with flags (O_PATH for a link itself). A descriptor or -errno. */
int source_open(const struct view *v, const struct vnode *n, int flags);

/* Attributes of name in the directory dirfd (O_PATH). -ENOENT for a file that is mounted there from another
 * file system, if only one is wanted. */
int source_stat(const struct view *v, int dirfd, const char *name, struct stat *st);

/* True if the view does not show dir/name. -ENOMEM counts as hidden. */
bool source_hides(const struct view *v, const struct vnode *dir, const char *name, bool is_dir);

/* True for a directory that is shown as empty: of another file system if only one is wanted, or of a view. */
bool source_is_foreign(const struct view *v, int dirfd);

#endif
