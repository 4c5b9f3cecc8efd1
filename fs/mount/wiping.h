/* Orders to wipe, which every thread that serves a session follows once it has answered what it was at. */
#ifndef FS_MOUNT_WIPING_H
#define FS_MOUNT_WIPING_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* One thread's part. */
struct wiper {
    struct wiper *next;
    uint64_t
        wiped; /* the last order that it has followed; guarded by the lock, but its own thread reads it so */
};

struct wiping {
    _Atomic uint64_t order;
    pthread_mutex_t lock; /* guards the list; a leaf */
    pthread_cond_t followed;
    struct wiper *first;
};

void wiping_init(struct wiping *w);
void wiping_clear(struct wiping *w);

/* From here on orders wait for it, until wiping_leave. */
void wiping_join(struct wiping *w, struct wiper *one);

/* Once its thread has wiped for the last time; no order waits for it any more. */
void wiping_leave(struct wiping *w, struct wiper *one);

/* A new order; the threads have to be woken. */
uint64_t wiping_order(struct wiping *w);

/* Until all have followed. LFS_ERR_TIMEOUT when one does not for long. */
int wiping_wait(struct wiping *w, uint64_t order);

/* On the thread: there is an order to follow. */
bool wiping_is_due(const struct wiping *w, const struct wiper *one, uint64_t *order);

/* On the thread: it has wiped. */
void wiping_followed(struct wiping *w, struct wiper *one, uint64_t order);

#endif
