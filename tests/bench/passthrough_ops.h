/* The operations of the passthrough: each does to the directory below what the kernel asks for. */
#ifndef TESTS_BENCH_PASSTHROUGH_OPS_H
#define TESTS_BENCH_PASSTHROUGH_OPS_H

#include "fs/mount/session.h"
#include "passthrough_node.h"

struct passthrough { /* what every operation gets */
    struct node *root;
    bool writeback;
    bool answer_open;  /* OPEN and OPENDIR are answered, not refused for good */
    bool setxattr_ext; /* negotiated */
};

struct fuse_lowlevel_ops passthrough_table(const struct passthrough *p);

/* ---- shared by its two files ---- */

struct node *pass_node(fuse_req_t req, fuse_ino_t ino);

/* 0 or a positive errno of a system call that returned r. */
int pass_errno(long r);

/* Looks name up in the directory of that descriptor: a node with a reference of its own, and what to answer.
 * 0 or an errno. */
int pass_lookup(int dir, const char *name, struct fuse_entry_param *e);

/* ---- passthrough_data.c ---- */
void pass_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void pass_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void pass_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void pass_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
                struct fuse_file_info *fi);
void pass_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void pass_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
                    struct fuse_file_info *fi);
void pass_copy_range(fuse_req_t req, fuse_ino_t in, off_t off_in, struct fuse_file_info *fi_in,
                     fuse_ino_t out, off_t off_out, struct fuse_file_info *fi_out, size_t len, int flags);
void pass_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi);
void pass_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void pass_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);

#endif
