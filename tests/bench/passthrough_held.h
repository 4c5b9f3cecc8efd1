/* Descriptors of inodes, no more of them than the process may have. An inode is named by a handle where the
 * filesystem below has such (open_by_handle_at, root alone) and opened when something is to be done with it;
 * when there are too many, those that were not used for a while are closed. Without handles each inode keeps
 * the descriptor that it was found with. */
#ifndef TESTS_BENCH_PASSTHROUGH_HELD_H
#define TESTS_BENCH_PASSTHROUGH_HELD_H

#include "latchfs/buf.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>

#define HANDLE_BYTES 32

struct handle { /* as struct file_handle, of a bounded length; no bytes: there is none */
    unsigned bytes;
    int type;
    unsigned char value[HANDLE_BYTES];
};

/* A part of each node. All zero but fd: nothing is open. */
struct kept {
    pthread_mutex_t lock; /* guards all but slot */
    struct handle handle;
    int fd;         /* O_PATH, or for data; -1: closed. The number stays while there are users */
    unsigned users; /* now */
    unsigned slot;  /* 1 and up: its place among those that may be closed; guarded by their lock */
    bool data;      /* fd reads and writes */
    bool recent;    /* used since the last look */
    bool pinned;    /* stays open: its handle will not work once its name is gone */
};

/* Once, with the directory that is shown: learns whether handles work there. */
void held_begin(int root);

/* The handle of a name: 0, an errno of the name, or EOPNOTSUPP where it has none that works. */
int held_handle(int dir, const char *name, struct handle *out);

/* k: zeros; fd as found or -1. */
void held_init(struct kept *k, int fd, bool data, const struct handle *handle);
void held_close(struct kept *k); /* waits for its last user */

/* What hold gives: a descriptor until the end of the block, or -errno. */
struct held {
    struct kept *of;
    int fd;
};

/* data: for reading and, where that is allowed, writing. */
struct held hold(struct kept *k, bool data);
void held_end(struct held *h);
#define HELD CLEANUP(held_end) struct held

/* Before a name is taken away that may be its last one: keeps it open until it is forgotten. */
void held_pin(struct kept *k);

#endif
