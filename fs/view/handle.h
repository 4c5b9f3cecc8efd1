/* Open files of the view. What one open file gives out fits together: a chunk that changed after its record
 * was given out is an error, not bytes that nobody can authenticate. */
#ifndef FS_VIEW_HANDLE_H
#define FS_VIEW_HANDLE_H

#include "fs/view/view.h"
#include "fs/view/worker.h"

struct handle;

/* n: a file, or one of the kinds that have no plain file. */
int handle_open(struct view *v, const struct view_keys *k, struct scratch *s, struct vnode *n,
                struct handle **out);
void handle_close(struct handle *h);

/* Up to len bytes at offset; fewer only at the end. -EIO when the plain file has changed so that what was
 * given out before no longer fits, or has become shorter. */
ssize_t handle_read(struct handle *h, const struct view_keys *k, struct scratch *s, uint64_t offset,
                    size_t len, uint8_t *out);

/* As content_seek. */
int64_t handle_seek(const struct handle *h, uint64_t offset, bool hole);

#endif
