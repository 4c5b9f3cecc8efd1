/* What all rotations share: the pace, what moves meanwhile, and passes until one finds nothing to do. */
#include "fs/store/rotate.h"

#include "fs/store/pd.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#define MOVED_MAX 65536u
#define MISSES_MAX 3u /* passes for what can't be found again, or (scans) was not noted */
#define SHOW_NS UINT64_C(100000000)
#define NAP_NS UINT64_C(20000000)
#define CHECKPOINT_EACH 1024u /* files changed */
#define DIRTY_MAX 8192u       /* files that wait to be put in place */

/* What a running rotation shows to renames. */
struct rotation_moves {
    pthread_mutex_t lock;
    struct node **nodes; /* referenced */
    size_t count, cap;
    bool lost; /* there was no room: the pass must be repeated */
};

/* ---- what moves ---- */

void rotate_moved(struct node *n)
{
    struct rotation_moves *m = atomic_load(&n->vol->rotation);
    if (!m || (n->type != S_IFREG && n->type != S_IFDIR))
        return;
    pthread_mutex_lock(&m->lock);
    if (m->count == m->cap && m->cap < MOVED_MAX) {
        size_t cap = m->cap ? m->cap * 2 : 64;
        struct node **grown = realloc(m->nodes, cap * sizeof *grown);
        if (grown) {
            m->nodes = grown;
            m->cap = cap;
        }
    }
    if (m->count < m->cap) {
        node_ref(n);
        m->nodes[m->count++] = n;
    } else {
        m->lost = true;
    }
    pthread_mutex_unlock(&m->lock);
}

/* Takes what was noted so far. */
static struct node **take_moved(struct rotation_moves *m, size_t *count)
{
    pthread_mutex_lock(&m->lock);
    struct node **nodes = m->nodes;
    *count = m->count;
    m->nodes = NULL;
    m->count = m->cap = 0;
    pthread_mutex_unlock(&m->lock);
    return nodes;
}

static bool take_lost(struct rotation_moves *m)
{
    pthread_mutex_lock(&m->lock);
    bool lost = m->lost;
    m->lost = false;
    pthread_mutex_unlock(&m->lock);
    return lost;
}

/* Every call that was under way is over. */
static void wait_for_calls(struct volume *v)
{
    pthread_mutex_lock(&v->pd_lock);
    gate_wait(&v->gate);
    pthread_mutex_unlock(&v->pd_lock);
}

/* ---- pace and counts ---- */

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void show(struct rotation *r, bool always)
{
    uint64_t now = r->o->progress ? now_ns() : 0;
    if (!r->o->progress || (!always && now - r->shown_ns < SHOW_NS))
        return;
    r->shown_ns = now;
    r->o->progress(&r->p, r->o->arg);
}

static bool stopped(const struct rotation *r)
{
    return r->o->stop && atomic_load(r->o->stop);
}

int rotate_pace(struct rotation *r, uint64_t bytes)
{
    uint64_t rate = r->o->bytes_per_second;
    r->charged += rate ? bytes : 0;
    while (rate && !stopped(r)) {
        double due = (double)r->charged / (double)rate * 1e9, gone = (double)(now_ns() - r->began_ns);
        if (due <= gone)
            break;
        uint64_t nap = due - gone < (double)NAP_NS ? (uint64_t)(due - gone) : NAP_NS;
        nanosleep(&(struct timespec){.tv_nsec = (long)nap}, NULL);
        show(r, false);
    }
    show(r, false);
    return stopped(r) ? -EINTR : 0;
}

void rotate_found(struct rotation *r, uint32_t version)
{
    if (!r->p.least_found || version < r->p.least_found)
        r->p.least_found = version;
}

static bool is_damage(int err)
{
    return err == LFS_ERR_CORRUPT || err == LFS_ERR_AUTH || err == LFS_ERR_UNSUPPORTED ||
           err == LFS_ERR_ROLLBACK || err == -EIO || err == -EACCES || err == -EPERM || err == -EFBIG;
}

/* Gone meanwhile: not a file any more, or to be found under its new name by rotate_moved. */
static bool is_gone(int err)
{
    return err == -ENOENT || err == -ESTALE || err == -ENOTDIR || err == -ELOOP;
}

int rotate_count_damage(struct rotation *r, int err)
{
    if (is_damage(err)) {
        volume_note(r->v, err);
        r->damaged++;
        r->p.damaged = r->damaged > r->p.damaged ? r->damaged : r->p.damaged;
        return 0;
    }
    return is_gone(err) ? 0 : err;
}

int rotate_enter(struct rotation *r)
{
    struct volume *v = r->v;
    const struct pd *pd = pd_find(v, r->o->pd_id);
    freeze_enter(v);
    int e = volume_enter(v, false);
    if (e) {
        freeze_leave(v);
        return e;
    }
    const struct pd_keys *keys = pd_check(pd, false) ? NULL : pd_keys(pd);
    e = !keys ? LFS_ERR_NOKEY : r->kind->changes ? volume_check_writable(v) : 0;
    if (e)
        rotate_leave(r);
    else
        r->active = keys->set.active;
    return e;
}

void rotate_leave(struct rotation *r)
{
    volume_leave(r->v);
    freeze_leave(r->v);
}

static int checkpoint(struct rotation *r, bool full)
{
    int e = rotate_enter(r);
    if (e)
        return e;
    e = checkpoint_run(r->v, full);
    rotate_leave(r);
    return e;
}

int rotate_settle(struct rotation *r)
{
    return checkpoint(r, true);
}

int rotate_checkpoint(struct rotation *r)
{
    struct volume *v = r->v;
    if (++r->since_checkpoint % CHECKPOINT_EACH)
        return 0;
    pthread_mutex_lock(&v->dirty_lock);
    size_t dirty = v->dirty_count;
    pthread_mutex_unlock(&v->dirty_lock);
    if (v->flusher_runs && dirty < DIRTY_MAX) {
        checkpoint_wake(v);
        return 0;
    }
    return checkpoint(r, false);
}

/* ---- passes ---- */

/* Visits what was noted. A directory that was walked needs no second visit wherever it is now: what came into
 * it later was noted itself. Only a walk makes it necessary to look again, since entries may move before it
 * comes to them; so this ends. */
static int visit_moved(struct rotation *r, struct rotation_moves *m)
{
    bool again = true;
    int e = 0;
    while (!e && again) {
        size_t count;
        again = false;
        wait_for_calls(r->v);
        struct node **nodes = take_moved(m, &count);
        for (size_t i = 0; i < count; i++) {
            bool dir = nodes[i]->type == S_IFDIR, walked = dir && inode_set_has(&r->walked, nodes[i]->ino);
            again = again || (dir && !walked);
            if (!e && !walked)
                e = dir ? rotate_walk(r, nodes[i], 0) : rotate_visit(r, nodes[i]);
            node_unref(nodes[i], 1);
        }
        free(nodes);
    }
    return e;
}

static int one_pass(struct rotation *r, struct rotation_moves *m, bool *lost)
{
    r->files = r->changed = r->damaged = 0;
    r->missed = false;
    r->p.least_found = 0;
    r->p.changed = r->kind->changes ? r->p.changed : 0;
    int e = rotate_walk(r, r->v->root, 0);
    if (!e)
        e = visit_moved(r, m);
    if (!e && r->kind->finish)
        e = r->kind->finish(r);
    *lost = take_lost(m);
    inode_set_clear(&r->seen);
    inode_set_clear(&r->walked);
    return e;
}

/* How much there will be to do, by lengths alone. */
static int estimate(struct rotation *r)
{
    r->counting = true;
    int e = rotate_walk(r, r->v->root, 0);
    r->counting = false;
    r->p.damaged = 0;
    inode_set_clear(&r->seen);
    inode_set_clear(&r->walked);
    return e;
}

/* Files may have escaped the pass. One that changes something goes on until it has seen them all; a scan of a
 * volume where too much moves says so. */
static bool must_repeat(const struct rotation *r, bool lost, unsigned *misses)
{
    if (r->kind->changes && (r->changed || lost))
        return true;
    return (r->missed || lost) && (*misses)++ < MISSES_MAX;
}

/* Passes until one has found nothing to do. What a run before this one left in memory is made durable too,
 * and what a scan has seen. */
static int all_passes(struct rotation *r, struct rotation_moves *m)
{
    bool lost = false;
    unsigned misses = 0;
    int e = r->kind->changes && r->o->progress ? estimate(r) : 0;
    while (!e) {
        e = one_pass(r, m, &lost);
        if (e || !must_repeat(r, lost, &misses))
            break;
    }
    if (!e && (r->missed || lost))
        e = r->kind->changes ? -ESTALE : LFS_ERR_BUSY;
    if (!e && r->settles)
        e = rotate_settle(r);
    r->p.damaged = e ? r->p.damaged : r->damaged;
    return e ? e : r->damaged ? LFS_ERR_CORRUPT : 0;
}

static void drop_moved(struct rotation_moves *m)
{
    size_t count;
    struct node **nodes = take_moved(m, &count);
    for (size_t i = 0; i < count; i++)
        node_unref(nodes[i], 1);
    free(nodes);
    pthread_mutex_destroy(&m->lock);
}

int rotate_run(struct volume *v, const struct rotate_options *o, const struct rotation_kind *kind,
               struct rotation *r, struct rotate_progress *out)
{
    struct rotation_moves m = {0}, *none = NULL;
    *r = (struct rotation){.v = v, .o = o, .kind = kind, .began_ns = now_ns(), .batch = r->batch};
    if (kind->changes && volume_check_writable(v))
        return -EROFS;
    r->settles = kind->changes || volume_check_writable(v) == 0;
    pthread_mutex_init(&m.lock, NULL);
    int e = atomic_compare_exchange_strong(&v->rotation, &none, &m) ? 0 : LFS_ERR_BUSY;
    if (!e) {
        wait_for_calls(v); /* a rename that has not seen m leaves no note */
        e = all_passes(r, &m);
        atomic_store(&v->rotation, NULL);
        wait_for_calls(v); /* a rename may have m at hand */
        show(r, true);
        *out = r->p;
    }
    drop_moved(&m);
    return e;
}
