/* Between the files of the crew. */
#ifndef FS_MOUNT_CREW_INT_H
#define FS_MOUNT_CREW_INT_H

#include "fs/mount/crew.h"
#include "fs/mount/crew_plan.h"
#include "fs/mount/patience.h"
#include "fs/mount/ring.h"

#include <pthread.h>
#include <stdatomic.h>

/* Entries more for a thread, before changes may have to wait: crew_reserve. */
#define CREW_RESERVE 32u

/* A thread. All is its own, but for what crew.c sets before it starts. */
struct hand {
    struct crew *crew;
    unsigned number;
    pthread_t thread;
    int wake; /* eventfd */
    struct ring *ring;
    struct ring_entry *entries; /* with the kernel, or with a request that is not answered yet */
    unsigned owned, ready;      /* of them: all, and those with ready set */
    char *spare; /* RING_PAYLOAD_BYTES, for answers to requests that have a payload themselves */
    struct wiper wiper;
    struct patience patience;
    bool over;         /* the session ends */
    bool woken;        /* since it last looked at what waits and at orders */
    int refused;       /* by the kernel: an error of a command */
    bool at_home;      /* bound to its processor */
    unsigned flow;     /* how much data came lately, see hand.c */
    bool full;         /* its buffers have much memory */
    unsigned reserved; /* entries that crew_wait_reserve has made */
};

struct crew {
    struct workers_of of;
    struct crew_plan plan;
    struct wiping *wiping;
    struct spinning spinning;
    struct hand *hands;
    unsigned count, started;

    pthread_mutex_t lock; /* a leaf; guards the next six */
    pthread_cond_t reported;
    unsigned reports;  /* threads that serve, or have failed to */
    unsigned reserved; /* by all */
    int failed;
    struct ring_entry *first, **last; /* with changes that wait, oldest first */
    size_t bytes, most;               /* of them */

    _Atomic size_t waiting;   /* how many those are */
    _Atomic unsigned spread;  /* entries in all */
    _Atomic unsigned reserve; /* that each thread has to make for many that wait */
    _Atomic unsigned *free;   /* by queue: entries that hold no change that waits */
};

/* ---- crew.c ---- */

void hand_own(struct hand *h, struct ring_entry *e);
void hand_disown(struct hand *h, struct ring_entry *e);

/* The thread serves from now on, or ends with an error. */
void crew_report(struct crew *c, int err);

/* ---- hand.c ---- */

void *hand_run(void *hand);

/* Answers the request, and gives the entry to the kernel. once: the entry is not likely to be used again
 * soon.
 */
void hand_answer(struct hand *h, struct ring_entry *e, bool once);

/* Makes the commands, and notes what has come. */
void hand_settle(struct hand *h);

/* ---- crew_wait.c ---- */

void crew_wait_init(struct crew *c);

/* Puts a change aside in its entry. False: there is no room. */
bool crew_wait_put(struct hand *h, struct ring_entry *e);

/* Answers changes that waited, as far as they may go on now. */
void crew_wait_answer(struct hand *h);

/* Makes the entries that crew_reserve wants of the thread. */
void crew_wait_reserve(struct hand *h);

/* Of a connection that is over. */
void crew_wait_clear(struct crew *c);

#endif
