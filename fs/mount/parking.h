/* Requests that change something, kept while the volume is frozen, so that no worker has to wait with them.
 */
#ifndef FS_MOUNT_PARKING_H
#define FS_MOUNT_PARKING_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct parked {
    struct parked *next;
    size_t len;
    _Alignas(16) char request[]; /* as the kernel sent it */
};

struct parking {
    pthread_mutex_t lock; /* guards the rest, but that count is read without it; a leaf */
    struct parked *first, **last;
    size_t bytes, most;
    _Atomic size_t count;
};

/* What may be kept that way on this machine. */
size_t parking_bytes_max(void);

void parking_init(struct parking *p);
void parking_clear(struct parking *p);

/* A copy of the request. False when there is no room for more. */
bool parking_put(struct parking *p, const void *request, size_t len);

/* The oldest, or NULL. */
struct parked *parking_take(struct parking *p);
void parked_free(struct parked *one); /* wipes it */

static inline bool parking_is_empty(const struct parking *p)
{
    return atomic_load(&p->count) == 0;
}

#endif
