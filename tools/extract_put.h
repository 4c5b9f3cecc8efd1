/* Putting things into a directory of this machine without ever leaving it: every name is made under a
 * temporary one beside it, below a directory that is held open, and renamed. */
#ifndef TOOLS_EXTRACT_PUT_H
#define TOOLS_EXTRACT_PUT_H

#include "latchfs/store.h"

#define PUT_TMP_MAX 40u

/* A fresh temporary name. */
void put_tmp(char out[static PUT_TMP_MAX]);

/* tmp becomes name, in the same directory. Without force what is there stays: -EEXIST. tmp is gone in any
 * case. */
int put_place(int dirfd, const char *tmp, const char *name, bool force);

/* Opens the directory name, made if need be (*made), never through a symbolic link. What is there and no
 * directory: -ENOTDIR; with force it is replaced. Returns a descriptor. */
int put_dir(int dirfd, const char *name, bool force, bool *made);

/* A hard link tmp beside the later name, to what top/path is (never through a symbolic link), if that still
 * is the inode seen. -EXDEV, -EPERM, ...: make a copy. */
int put_link(int top, const char *path, const struct stat *seen, int dirfd, const char *tmp);

/* Gives an object owner (as root), attributes, mode and times. fd: its descriptor, or -1 for a symbolic link
 * or special file, which is dirfd/name and was made with its mode (a chmod by name would follow a link).
 * *unset counts attributes that this filesystem does not take. */
int put_attributes(struct volume *v, struct node *n, const struct stat *st, int fd, int dirfd,
                   const char *name, unsigned *unset);

#endif
