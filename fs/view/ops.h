/* The operations: requests of the kernel answered from the plain directory. Nothing changes anything. */
#ifndef FS_VIEW_OPS_H
#define FS_VIEW_OPS_H

#include "fs/view/view.h"
#include "fs/view/worker.h"

/* The plain directory changes without our doing: what the kernel knows holds for this long. */
#define CACHE_SECONDS 1.0

/* The table for a session whose user data is a struct view. */
struct fuse_lowlevel_ops ops_table(void);

struct vnode *ops_node(fuse_req_t req, fuse_ino_t ino);
fuse_ino_t ops_ino(const struct view *v, const struct vnode *n);

/* ---- for more than one file ---- */

/* Attributes of files are asked for each time: with a size of a second ago the kernel would show another file
 * than the one that is open. */
double ops_attr_seconds(const struct stat *st);

struct view *ops_view(fuse_req_t req);
void ops_reply_err(fuse_req_t req, int err); /* of the store's two ranges; 0: success without data */

/* The keys and this thread's memory. False: the error is answered. Else ops_leave. */
bool ops_enter(fuse_req_t req, const struct view_keys **k, struct scratch **s);
void ops_leave(fuse_req_t req);

/* ---- ops_dir.c ---- */
void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);

/* ---- ops_file.c ---- */
void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi);

#endif
