/* The operations: requests of the kernel turned into calls of the store. One file per kind; each function
 * answers its request exactly once. */
#ifndef FS_MOUNT_OPS_H
#define FS_MOUNT_OPS_H

#include "fs/mount/daemon.h"
#include "fs/mount/session.h"

/* The table for a session. Under writeback there is no lseek: the daemon does not see dirty pages, and would
 * call data a hole. There is never a flush: close() need not ask. */
struct fuse_lowlevel_ops ops_table(const struct daemon *d);

/* ---- shared by the operations (ops.c) ---- */

/* How long the kernel may believe names and attributes. */
double ops_cache_seconds(const struct daemon *d);

struct daemon *ops_daemon(fuse_req_t req);
struct node *ops_node(fuse_req_t req, fuse_ino_t ino);
fuse_ino_t ops_ino(const struct daemon *d, const struct node *n);

/* Answers err, an error of the store (0: success without data), and logs damage. n: the file, or NULL. */
void ops_reply_err(fuse_req_t req, const struct node *n, int err);

/* Answers an entry; takes over the caller's reference on n. */
void ops_reply_entry(fuse_req_t req, struct node *n, const struct stat *st);
struct fuse_entry_param ops_entry(fuse_req_t req, const struct node *n, const struct stat *st);

/* Makes this thread create files as the caller. 0 or an error, which is answered already. */
int ops_as_caller(fuse_req_t req);

/* Clears suid, sgid and file capabilities, for the requests by which the kernel asks it. st: its attributes,
 * updated when the mode changes. */
int ops_kill_priv(struct node *n, struct stat *st);

/* ---- ops_name.c ---- */
void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup);
void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi);
void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name);
void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname,
               unsigned flags);
void op_readlink(fuse_req_t req, fuse_ino_t ino);

/* ---- ops_attr.c ---- */
void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *want, int valid, struct fuse_file_info *fi);
void op_statfs(fuse_req_t req, fuse_ino_t ino);
void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags);
void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);

/* ---- ops_file.c ---- */
void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi); /* only of a shared mount */
void op_open_unasked(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
/* How the file may be used by whoever opens it. */
void ops_set_caching(const struct daemon *d, struct node *n, struct fuse_file_info *fi);
void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi); /* only of a shared mount */
void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
              struct fuse_file_info *fi);
void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi);
void op_copy_range(fuse_req_t req, fuse_ino_t in, off_t off_in, struct fuse_file_info *fi_in, fuse_ino_t out,
                   off_t off_out, struct fuse_file_info *fi_out, size_t len, int flags);
void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi);

/* ---- ops_dir.c ---- */
void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi); /* only of a shared mount */
void op_opendir_unasked(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);

#endif
