/* statedir/approvals: a file for each request that waits. */
#ifndef KEYD_APPROVAL_DIR_H
#define KEYD_APPROVAL_DIR_H

#include "approval_text.h"

/* Makes the directory if it is not there. LFS_ERR_DENIED: it is another user's or open to others. */
int approval_dir_open(int statedir, int *out);

/* Reads at most max requests. A file that is not as approval_dir_keep writes it, under its own name, is left
 * out with a warning. LFS_ERR_CORRUPT: there are too many files. */
int approval_dir_read(int dir, struct approval *out, unsigned max, unsigned *count);

/* Both durable before they return. */
int approval_dir_keep(int dir, const struct approval *p);
int approval_dir_remove(int dir, const char *id);

#endif
