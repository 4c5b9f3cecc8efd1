/* A set of inode numbers that stops growing at INODE_SET_MAX: what it can't hold counts as not in it. */
#ifndef LATCHFS_STORE_INODE_SET_H
#define LATCHFS_STORE_INODE_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INODE_SET_MAX (1u << 20)

struct inode_set {
    uint64_t *slot; /* open addressing, power of two; 0: free */
    size_t cap, count;
};

/* True if ino was not there. */
bool inode_set_add(struct inode_set *s, uint64_t ino);
bool inode_set_has(const struct inode_set *s, uint64_t ino);
void inode_set_clear(struct inode_set *s);

#endif
