/* A ring of one thread for FUSE over io_uring, and the entries that requests come in. Knows the kernel's
 * interface, and nothing of what requests mean.
 *
 * All that the kernel writes into an entry it writes while the ring's own thread is in ring_enter. So between
 * two calls an entry that is with the kernel stands still, and may be wiped. */
#ifndef FS_MOUNT_RING_H
#define FS_MOUNT_RING_H

#include "fs/mount/fuse_ring.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#define RING_PAYLOAD_BYTES ((size_t)1 << 20) /* data of one request or answer */

struct ring;

/* Room for one request and its answer: headers, then a payload. */
struct ring_entry {
    struct ring_entry *next; /* the holder's, as is busy */
    bool ready;              /* has a request that nobody looked at */
    unsigned queue;          /* the kernel's: a number of a processor */
    struct ring_headers *headers;
    char *payload;       /* page-aligned; the bytes before it are free for the request's header */
    size_t front;        /* how many of them */
    uint64_t request;    /* unique of the last request */
    struct iovec iov[2]; /* both, for the kernel while they are given to it */
};

/* Memory is taken as it is used. */
int ring_entry_new(unsigned queue, struct ring_entry **out);

/* The kernel must not know it any more, or not have known it. Takes NULL. */
void ring_entry_free(struct ring_entry *e);

/* Makes the request one piece that ends with the payload, as it comes from the device; valid until the next
 * commit. NULL: its lengths contradict each other. */
void *ring_entry_request(struct ring_entry *e, size_t *len);

/* Gives all memory of an entry back to the system, or, of one with a request, what lies behind that. */
void ring_entry_wipe(struct ring_entry *e);
void ring_entry_wipe_behind(struct ring_entry *e);

/* The rest may be called from one thread only, which ring_enable makes the ring's. */

/* -EPERM or -ENOSYS where io_uring is forbidden. */
int ring_new(struct ring **out);
int ring_enable(struct ring *r);

/* What is under way is cancelled, but only once the connection is over: before, requests may be lost. Takes
 * NULL. */
void ring_free(struct ring *r);

/* Commands: each is made by the next ring_enter, or at once if there is no room. Errors come as events. */
void ring_watch(struct ring *r, int fd);                                  /* for POLLIN, once */
void ring_register(struct ring *r, int device, struct ring_entry *e);     /* gives it to the kernel */
void ring_commit(struct ring *r, int device, const struct ring_entry *e); /* its answer, and so it again */

/* Makes the commands, and sleeps until there is an event; 0 also when a signal ended that. -ETIME: there was
 * none for so many milliseconds, of which 0 is not to sleep (and 0 is returned), and RING_FOREVER no end. */
#define RING_FOREVER (-1)
int ring_enter(struct ring *r, int wait_ms);

/* Of an entry, or (NULL) of a watched descriptor. */
struct ring_event {
    struct ring_entry *entry; /* has a request */
    int fd;                   /* is readable; the watch is over */
    int result;               /* negative: the command failed */
};

bool ring_next(struct ring *r, struct ring_event *out);

#endif
