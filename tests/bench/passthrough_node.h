/* The inodes that the kernel knows of a passthrough mount, by what they are below. */
#ifndef TESTS_BENCH_PASSTHROUGH_NODE_H
#define TESTS_BENCH_PASSTHROUGH_NODE_H

#include "passthrough_held.h"

#include <dirent.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

struct node {
    struct node *next; /* in its chain of the table, guarded by the table's lock, as refs */
    uint64_t refs;     /* lookups of the kernel, and of node_find */
    dev_t dev;
    ino_t ino;
    struct kept kept;

    pthread_mutex_t lock; /* guards the rest */
    DIR *dir;             /* while a listing is under way */
    long at;              /* the position of dir */
};

/* The node of what was found below, with one more reference: of an open descriptor, which it takes over, or
 * of a handle with fd -1. st: its attributes. NULL when memory is out. */
struct node *node_get(int fd, bool data, const struct handle *handle, const struct stat *st);

/* The node of these attributes, with one more reference; NULL if the kernel does not know it. */
struct node *node_find(const struct stat *st);

/* Takes references back; the last one frees. */
void node_forget(struct node *n, uint64_t refs);

#endif
