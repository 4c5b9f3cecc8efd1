/* The header of one archive member, made of a node. */
#ifndef TOOLS_TAR_ENTRY_H
#define TOOLS_TAR_ENTRY_H

#include "latchfs/store.h"

#include <archive_entry.h>

/* Type, mode, owner, times and size of st, under the path. */
void tar_entry_stat(struct archive_entry *e, const struct stat *st, const char *path);

/* Extended attributes, and ACLs in the archive's own form. An error says that not all could be read. */
int tar_entry_attributes(struct archive_entry *e, struct volume *v, struct node *n);

/* Where a file has holes, the map of what is not. */
void tar_entry_map(struct archive_entry *e, struct node *n, uint64_t size);

#endif
