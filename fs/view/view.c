#include "fs/view/view.h"

#include "latchfs/secret.h"

#include <sodium.h>

/* More than the deepest call below an operation takes. */
#define STACK_BYTES (48u * 1024)

int64_t view_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

const struct view_keys *view_enter(struct view *v)
{
    pthread_rwlock_rdlock(&v->gate);
    const struct view_keys *k = v->keys;
    if (k)
        atomic_store(&v->used_at, view_now());
    else
        pthread_rwlock_unlock(&v->gate);
    return k;
}

void view_wipe_stack(void)
{
    sodium_stackzero(STACK_BYTES);
}

void view_leave(struct view *v)
{
    view_wipe_stack();
    pthread_rwlock_unlock(&v->gate);
}

void view_set_keys(struct view *v, struct view_keys *keys)
{
    pthread_rwlock_wrlock(&v->gate);
    struct view_keys *old = v->keys;
    v->keys = keys;
    pthread_rwlock_unlock(&v->gate);
    locked_free(old);
    siv_forget();
}
