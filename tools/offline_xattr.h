/* The extended attributes of a node, one after the other. */
#ifndef TOOLS_OFFLINE_XATTR_H
#define TOOLS_OFFLINE_XATTR_H

#include "latchfs/store.h"

/* Calls fn for each; an error of fn ends it. trusted: those that only root sees, too. One that can't be read
 * does not keep the others back; its error is returned at the end, LFS_ERR_AUTH for a name that does not
 * decrypt. */
int offline_xattrs(struct volume *v, struct node *n, bool trusted,
                   int (*fn)(void *arg, const char *name, const void *value, size_t len), void *arg);

#endif
