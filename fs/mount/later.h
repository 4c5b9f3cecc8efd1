/* Requests that a worker has put off: it answers them, oldest first, when no other waits. One worker's own.
 */
#ifndef FS_MOUNT_LATER_H
#define FS_MOUNT_LATER_H

#include <stdbool.h>
#include <stddef.h>

#define LATER_MAX 32u             /* requests */
#define LATER_BYTES ((size_t)128) /* of each at most: a READ has 80 */

struct later {
    unsigned first, count;
    struct {
        size_t len;
        _Alignas(16) char request[LATER_BYTES];
    } each[LATER_MAX];
};

/* A copy of the request. False: it is too long, or there are too many. */
bool later_put(struct later *l, const void *request, size_t len);

/* The oldest; *request stays valid until the next later_put. False: there is none. */
bool later_take(struct later *l, void **request, size_t *len);

#endif
