#include "fs/store/gate.h"

/* The side by which this thread entered, a bit for each level. */
static __thread unsigned sides;

void gate_init(struct gate *g)
{
    pthread_rwlock_init(&g->side[0], NULL);
    pthread_rwlock_init(&g->side[1], NULL);
    atomic_init(&g->open, 0);
}

void gate_clear(struct gate *g)
{
    pthread_rwlock_destroy(&g->side[0]);
    pthread_rwlock_destroy(&g->side[1]);
}

void gate_enter(struct gate *g)
{
    unsigned side = atomic_load(&g->open);
    pthread_rwlock_rdlock(&g->side[side]);
    sides = sides << 1 | side;
}

void gate_leave(struct gate *g)
{
    unsigned side = sides & 1;
    sides >>= 1;
    pthread_rwlock_unlock(&g->side[side]);
}

/* New calls go to the other side meanwhile, so that this one falls empty. Both sides are waited for: a call
 * may have read which side is open long before it takes it. */
void gate_wait(struct gate *g)
{
    for (unsigned i = 0; i < 2; i++) {
        unsigned side = atomic_load(&g->open);
        atomic_store(&g->open, 1 - side);
        pthread_rwlock_wrlock(&g->side[side]);
        pthread_rwlock_unlock(&g->side[side]);
    }
}
