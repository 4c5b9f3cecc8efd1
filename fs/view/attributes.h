/* Extended attributes of the view: those of the plain file, encrypted as in any volume; ACLs as they are. */
#ifndef FS_VIEW_ATTRIBUTES_H
#define FS_VIEW_ATTRIBUTES_H

#include "fs/view/view.h"
#include "latchfs/aead.h"

#include <sys/types.h>

/* As getxattr and listxattr: size 0 asks for the length. Or an error. */
ssize_t attributes_get(struct view *v, const struct view_keys *k, struct aead *a, const struct vnode *n,
                       const char *stored, void *value, size_t size);
ssize_t attributes_list(struct view *v, const struct view_keys *k, const struct vnode *n, char *list,
                        size_t size);

#endif
