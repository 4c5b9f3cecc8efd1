/* struct share, for share.c and share_node.c. */
#ifndef LATCHFS_STORE_SHARE_INT_H
#define LATCHFS_STORE_SHARE_INT_H

#include "fs/store/share.h"

enum share_state {
    SHARE_AWAY,
    SHARE_TAKING, /* by one thread; it is not inside */
    SHARE_HELD,
    SHARE_GIVING, /* nobody enters; who is inside leaves */
    SHARE_BROKEN, /* it was let go of with something not in place: for whoever has it next */
};

struct share {
    _Atomic uint64_t epoch; /* counts the times that others may have changed something */

    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t changed;
    enum share_state state;
    unsigned users; /* threads inside */
    bool doubt;     /* others may have changed something that is not forgotten yet; of who takes the token */
    bool writable;  /* the journal has a ring: something may be changed */
    bool barred;    /* the volume is locked */
    int64_t taken_at; /* milliseconds of CLOCK_MONOTONIC */
    int64_t used_at;
    int64_t retry_at; /* giving failed: not before this time again */
    bool started, stop;
    pthread_t keeper; /* the thread that gives the token back */
};

#endif
