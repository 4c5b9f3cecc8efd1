/* Who is inside the store: calls hold the gate while they run, and whoever has taken something away waits
 * until the calls that may have seen it are over, without stopping new ones. */
#ifndef LATCHFS_STORE_GATE_H
#define LATCHFS_STORE_GATE_H

#include <pthread.h>
#include <stdatomic.h>

struct gate {
    pthread_rwlock_t side[2];
    _Atomic unsigned open; /* the side that calls enter by */
};

void gate_init(struct gate *g);
void gate_clear(struct gate *g);

/* Nests up to 32 deep in a thread, also with other gates; leave undoes the last enter. */
void gate_enter(struct gate *g);
void gate_leave(struct gate *g);

/* Returns when every call that was inside has left. One thread at a time, and not from inside. */
void gate_wait(struct gate *g);

#endif
