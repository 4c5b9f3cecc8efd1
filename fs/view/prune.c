#include "fs/view/prune.h"

#include "fs/view/entries.h"
#include "latchfs/buf.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#define BATCH 256u
#define STORED_MAX (NAME_CIPHER_MAX + sizeof LONG_NAME_SUFFIX)
#define REST_MS 200 /* between two rounds, while names that are in use keep it above the bound */

struct prune {
    struct view *v;
    struct fuse_session *se;
    uint64_t most;
    _Atomic bool stopping;
    pthread_t thread;
};

/* The name by which the kernel knows a node. False while the volume is locked. */
static bool stored_name(struct view *v, const struct vnode *n, char out[static STORED_MAX])
{
    static const char *const fixed[] = {
        [V_DIRREC] = DIRREC_NAME, [V_KEYSTORE] = KEYSTORE_NAME, [V_JOURNAL] = JOURNAL_NAME};
    struct cipher_name cn;
    if (n->kind == V_DIRREC || n->kind >= V_KEYSTORE) {
        strcpy(out, fixed[n->kind]);
        return true;
    }
    const struct view_keys *k = view_enter(v);
    if (!k)
        return false;
    bool ok = true;
    if (n->kind == V_LINKCAR)
        linkcar_name(k, n->parent->id, n->name, out);
    else if ((ok = name_encrypt(&k->names, n->parent->id, n->name, &cn) == 0))
        snprintf(out, STORED_MAX, "%s%s", cn.stored, n->kind == V_NAMECAR ? LONG_NAME_SUFFIX : "");
    view_leave(v);
    return ok;
}

static void drop_name(const struct prune *p, struct vnode *n)
{
    char name[STORED_MAX];
    if (stored_name(p->v, n, name))
        fuse_lowlevel_notify_inval_entry(p->se, ops_ino(p->v, n->parent), name, strlen(name));
}

static void round_of(const struct prune *p)
{
    struct vnode *some[BATCH];
    size_t n = vtable_some(p->v->nodes, some, BATCH);
    for (size_t i = 0; i < n; i++) {
        if (!atomic_load(&p->stopping))
            drop_name(p, some[i]);
        vnode_forget(p->v->nodes, some[i], 1);
    }
}

/* Down to three quarters, so that it is not at work for every lookup; names in use do not go. */
static void shrink(const struct prune *p)
{
    uint64_t rounds = vtable_count(p->v->nodes) / BATCH + 1;
    while (rounds-- > 0 && vtable_count(p->v->nodes) > p->most / 4 * 3 && !atomic_load(&p->stopping))
        round_of(p);
}

static void *run(void *arg)
{
    struct prune *p = arg;
    const struct timespec rest = {.tv_nsec = REST_MS * 1000000};
    eventfd_t woken;
    while (!atomic_load(&p->stopping)) {
        struct pollfd f = {.fd = p->v->crowded, .events = POLLIN};
        poll(&f, 1, -1);
        eventfd_read(p->v->crowded, &woken);
        shrink(p);
        nanosleep(&rest, NULL);
    }
    return NULL;
}

int prune_start(struct view *v, struct fuse_session *se, uint64_t most, struct prune **out)
{
    struct prune *p = calloc(1, sizeof *p);
    if (!p)
        return -ENOMEM;
    *p = (struct prune){.v = v, .se = se, .most = most};
    v->most_nodes = most;
    int err = pthread_create(&p->thread, NULL, run, p);
    if (err)
        free(p);
    else
        *out = p;
    return -err;
}

void prune_free(struct prune *p)
{
    if (!p)
        return;
    atomic_store(&p->stopping, true);
    eventfd_write(p->v->crowded, 1);
    pthread_join(p->thread, NULL);
    free(p);
}
