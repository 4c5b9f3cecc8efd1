/* Patterns of what a view leaves out. A pattern with a slash before its end is held against the path from the
 * top of the plain directory, another one against the name anywhere; one that ends in a slash fits
 * directories only. Wildcards are those of fnmatch(3); none fits a slash. */
#ifndef FS_VIEW_EXCLUDE_H
#define FS_VIEW_EXCLUDE_H

#include <stdbool.h>
#include <stddef.h>

struct exclude; /* NULL: no patterns */

/* LFS_ERR_MISUSE for a pattern that would not do what it looks like: empty, with "!" in front, with "**", "."
 * or ".." as a component. -ENOMEM. */
int exclude_add(struct exclude **list, const char *pattern);

/* A pattern from each line of a file; empty lines and those that begin with "#" are skipped. *line: where an
 * error is, else 0. */
int exclude_add_file(struct exclude **list, const char *path, unsigned *line);

/* path: from the top, without a slash at its begin; its last component is the name. */
bool exclude_fits(const struct exclude *list, const char *path, bool is_dir);

/* Takes NULL. */
void exclude_free(struct exclude *list);

#endif
