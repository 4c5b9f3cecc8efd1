/* The table of a mount's leases: which protected directories it has keys of, and until when. No I/O and no
 * clock of its own; it belongs to the thread of keys.c. Times are milliseconds of one clock that counts while
 * the machine sleeps, INT64_MAX for never. */
#ifndef FS_MOUNT_LEASES_H
#define FS_MOUNT_LEASES_H

#include "latchfs/format.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lease {
    uint8_t pd_id[ID_BYTES];
    bool held;          /* its keys are in the volume */
    bool barred;        /* locked by idleness: not leased again until somebody unlocks it */
    int64_t length_ms;  /* of the lease; 0: no end */
    int64_t renewed_at; /* last lease or renewal */
    int64_t renew_at;   /* next attempt */
    int64_t idle_ms;    /* policy's idle time; 0: none */
    int64_t idle_at;    /* when to look whether it is idle */
    int64_t used_at;    /* when it was last seen in use, at least since it is held */
    int64_t watch_at;   /* when its next use is to be heard of again */
};

struct leases {
    struct lease *items; /* the first is the root's */
    size_t count;
};

/* Takes NULL fields (a zeroed table). */
void leases_clear(struct leases *t);

/* The entry of a protected directory, or NULL. */
struct lease *leases_find(const struct leases *t, const uint8_t pd_id[static ID_BYTES]);

/* The entry, made when there is none; NULL when memory is out. Pointers of other calls do not hold after it.
 */
struct lease *leases_add(struct leases *t, const uint8_t pd_id[static ID_BYTES]);

/* It was leased now, for so many seconds (0: no end). */
void lease_begin(struct lease *l, unsigned seconds, unsigned idle_seconds, int64_t now);

/* It was renewed for the same time. */
void lease_extend(struct lease *l, int64_t now);

/* The renewal was refused: it runs out. */
void lease_refuse(struct lease *l);

/* Its keys are gone. */
void lease_end(struct lease *l, bool barred);

bool lease_is_over(const struct lease *l, int64_t now);
bool lease_wants_renewal(const struct lease *l, int64_t now);

/* Uses that the kernel answers by itself are not heard of, only the first one after a watch began; so watches
 * begin several times within an idle time. */
bool lease_wants_watch(const struct lease *l, int64_t now);
void lease_watched(struct lease *l, int64_t now); /* a watch begins */

/* How long ago the last use may have been, when the last one that was heard of was so long ago. */
int64_t lease_used_ago(const struct lease *l, int64_t heard_ago_ms);

/* To be called at idle_at. used_ago_ms: how long ago its last use was, in_use: files are open there. True:
 * idle for long enough; else idle_at is the next time to ask. */
bool lease_is_idle(struct lease *l, int64_t used_ago_ms, bool in_use, int64_t now);

/* When the next of these has something to do; renewals count only while connected. */
int64_t leases_next(const struct leases *t, bool connected);

#endif
