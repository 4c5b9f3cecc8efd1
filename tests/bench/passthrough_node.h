/* The inodes that the kernel knows of a passthrough mount. Each keeps one descriptor until it is forgotten.
 */
#ifndef TESTS_BENCH_PASSTHROUGH_NODE_H
#define TESTS_BENCH_PASSTHROUGH_NODE_H

#include <dirent.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

struct node {
    struct node *next; /* in its chain of the table, guarded by the table's lock, as refs */
    uint64_t refs;     /* lookups of the kernel */
    dev_t dev;
    ino_t ino;
    int fd; /* O_PATH at first; the number stays the same when it becomes a descriptor for data */

    pthread_mutex_t lock; /* guards the rest */
    bool data;
    DIR *dir; /* while a listing is under way */
    long at;  /* the position of dir */
};

/* The node of an open descriptor, which it takes over, with one more reference. st: its attributes. NULL when
 * memory is out. */
struct node *node_get(int fd, bool data, const struct stat *st);

/* Takes references back; the last one frees. */
void node_forget(struct node *n, uint64_t refs);

/* A descriptor for reading and, where that is allowed, writing. Belongs to the node. Or -errno. */
int node_data(struct node *n);

#endif
