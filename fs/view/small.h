/* The files of a view that are small: made whole when they are opened. */
#ifndef FS_VIEW_SMALL_H
#define FS_VIEW_SMALL_H

#include "fs/view/view.h"
#include "latchfs/aead.h"

/* The content of a node that is no plain file. *data is malloc'ed. */
int small_make(struct view *v, const struct view_keys *k, struct aead *a, const struct vnode *n, char **data,
               size_t *len);

/* The stored target of a link, NUL-terminated. 0 or an error. */
int small_link(struct view *v, const struct view_keys *k, struct aead *a, const struct vnode *n, char *stored,
               size_t size);

#endif
