#include "fs/mount/parking.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Of this machine's memory. The kernel's own limit for data that waits to be written is a fifth of it. */
#define SHARE 8u

size_t parking_bytes_max(void)
{
    return (size_t)sysconf(_SC_PHYS_PAGES) / SHARE * (size_t)sysconf(_SC_PAGESIZE);
}

void parking_init(struct parking *p)
{
    pthread_mutex_init(&p->lock, NULL);
    p->first = NULL;
    p->last = &p->first;
    p->bytes = 0;
    p->most = parking_bytes_max();
    atomic_init(&p->count, 0);
}

void parking_clear(struct parking *p)
{
    for (struct parked *one; (one = parking_take(p));)
        parked_free(one);
    pthread_mutex_destroy(&p->lock);
}

static bool append(struct parking *p, struct parked *one)
{
    pthread_mutex_lock(&p->lock);
    bool room = sizeof *one + one->len <= p->most - p->bytes;
    if (room) {
        *p->last = one;
        p->last = &one->next;
        p->bytes += sizeof *one + one->len;
        atomic_fetch_add(&p->count, 1);
    }
    pthread_mutex_unlock(&p->lock);
    return room;
}

bool parking_put(struct parking *p, const void *request, size_t len)
{
    struct parked *one = malloc(sizeof *one + len);
    if (!one)
        return false;
    one->next = NULL;
    one->len = len;
    memcpy(one->request, request, len);
    if (append(p, one))
        return true;
    parked_free(one);
    return false;
}

struct parked *parking_take(struct parking *p)
{
    pthread_mutex_lock(&p->lock);
    struct parked *one = p->first;
    if (one) {
        p->first = one->next;
        if (!p->first)
            p->last = &p->first;
        p->bytes -= sizeof *one + one->len;
        atomic_fetch_sub(&p->count, 1);
    }
    pthread_mutex_unlock(&p->lock);
    return one;
}

void parked_free(struct parked *one)
{
    sodium_memzero(one->request, one->len);
    free(one);
}
