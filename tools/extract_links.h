/* Which inodes of a volume were put where, so that their other names become hard links again. */
#ifndef TOOLS_EXTRACT_LINKS_H
#define TOOLS_EXTRACT_LINKS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

struct link_entry {
    uint64_t ino; /* node_ino */
    char *path;   /* where its first name is now */
    struct stat made;
};
struct link_table {
    struct link_entry *entry; /* open addressing by ino; path NULL: free */
    size_t cap, count;
};
void link_table_clear(struct link_table *t);
const struct link_entry *link_table_find(const struct link_table *t, uint64_t ino); /* or NULL */
int link_table_add(struct link_table *t, uint64_t ino, const char *path, const struct stat *made);

#endif
