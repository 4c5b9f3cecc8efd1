#include "fs/mount/lock.h"

#include "fs/mount/ops.h"
#include "latchfs/err.h"
#include "latchfs/log.h"

#include <errno.h>
#include <stdlib.h>

/* Programs that keep dirtying pages are cut off after so many rounds: their later writes fail. */
#define ROUNDS_MAX 20

struct ino_list {
    const struct daemon *d;
    fuse_ino_t *inos;
    size_t count, room;
    bool failed;
};

/* Node pointers serve as names for the kernel only; one that is freed meanwhile names nothing there. */
static void collect(struct node *n, void *arg)
{
    struct ino_list *l = arg;
    if (l->count == l->room) {
        size_t room = l->room ? l->room * 2 : 1024;
        fuse_ino_t *inos = realloc(l->inos, room * sizeof *inos);
        if (!inos) {
            l->failed = true;
            return;
        }
        l->inos = inos;
        l->room = room;
    }
    l->inos[l->count++] = ops_ino(l->d, n);
}

static int forget_round(struct daemon *d)
{
    struct ino_list l = {.d = d};
    volume_each_node(d->vol, collect, &l);
    /* Names first: they lead to inodes. Kernels without these notifications keep unused names until memory is
     * short; all that they lead to is refused here. */
    session_expire_names(d->session);
    for (size_t i = 0; i < l.count; i++)
        session_inval_inode(d->session, l.inos[i]);
    session_prune(d->session, l.inos, l.count);
    free(l.inos);
    return l.failed ? -ENOMEM : 0;
}

int lock_volume(struct daemon *d, unsigned *held)
{
    *held = 0;
    if (volume_is_locked(d->vol))
        return 0;
    int r = volume_lock_begin(d->vol);
    if (r)
        return r;
    uint64_t before;
    int round = 0, forgot;
    do {
        before = atomic_load(&d->writes);
        forgot = forget_round(d);
    } while (++round < ROUNDS_MAX && (forgot || round < 2 || atomic_load(&d->writes) != before));
    r = volume_lock_finish(d->vol);
    uint64_t open = atomic_load(&d->open_files);
    *held = open < UINT32_MAX ? (unsigned)open : UINT32_MAX;
    return r;
}
