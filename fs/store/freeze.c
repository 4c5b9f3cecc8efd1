/* Freezing and thawing a volume. */
#include "fs/store/file.h"
#include "fs/store/share.h"
#include "fs/store/tree.h"

#include "latchfs/log.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define RESTS_MAX 3

/* How deep this thread is inside of changes. */
static __thread unsigned depth;

void freeze_init(struct freeze *f)
{
    pthread_condattr_t monotonic;
    pthread_mutex_init(&f->turn, NULL);
    pthread_mutex_init(&f->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&f->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

void freeze_clear(struct freeze *f)
{
    pthread_mutex_destroy(&f->turn);
    pthread_mutex_destroy(&f->lock);
    pthread_cond_destroy(&f->changed);
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void tell(struct freeze *f)
{
    pthread_mutex_lock(&f->lock);
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

static void set_state(struct freeze *f, enum freeze_state state)
{
    atomic_store(&f->state, state);
    tell(f);
}

/* ---- who changes something ---- */

/* Counts first and looks then, as the freeze sets its state first and looks at the count then. */
static bool count_in(struct freeze *f, _Atomic uint64_t *count, enum freeze_state last)
{
    atomic_fetch_add(count, 1);
    if (atomic_load(&f->state) <= (int)last)
        return true;
    if (atomic_fetch_sub(count, 1) == 1)
        tell(f);
    return false;
}

static void count_out(struct freeze *f, _Atomic uint64_t *count)
{
    if (atomic_fetch_sub(count, 1) == 1 && atomic_load(&f->state) != FREEZE_NONE)
        tell(f);
}

static bool try_turn(struct volume *v)
{
    if (!depth && !count_in(&v->freeze, &v->freeze.changes, FREEZE_NONE))
        return false;
    depth++;
    return true;
}

bool freeze_try(struct volume *v)
{
    if (!share_try_change(v))
        return false;
    if (try_turn(v))
        return true;
    share_leave(v);
    return false;
}

void freeze_leave(struct volume *v)
{
    if (--depth == 0)
        count_out(&v->freeze, &v->freeze.changes);
    share_leave(v);
}

void freeze_leavep(struct volume **v)
{
    int saved = errno;
    freeze_leave(*v);
    errno = saved;
}

bool freeze_moment_begin(struct volume *v)
{
    return count_in(&v->freeze, &v->freeze.moments, depth ? FREEZE_FROZEN : FREEZE_CLOSING);
}

void freeze_moment_end(struct volume *v)
{
    count_out(&v->freeze, &v->freeze.moments);
}

static bool is_over(const struct freeze *f)
{
    return atomic_load(&f->state) == FREEZE_FROZEN && now_ms() >= atomic_load(&f->deadline);
}

static void end_if_over(struct volume *v);

/* Until it may be worth another try. */
static void wait_for_end(struct volume *v)
{
    struct freeze *f = &v->freeze;
    pthread_mutex_lock(&f->lock);
    while (atomic_load(&f->state) != FREEZE_NONE && !is_over(f)) {
        int64_t at = atomic_load(&f->deadline);
        const struct timespec until = {.tv_sec = at / 1000, .tv_nsec = (long)(at % 1000) * 1000000};
        if (atomic_load(&f->state) == FREEZE_FROZEN)
            pthread_cond_timedwait(&f->changed, &f->lock, &until);
        else
            pthread_cond_wait(&f->changed, &f->lock);
    }
    pthread_mutex_unlock(&f->lock);
    end_if_over(v);
}

void freeze_enter(struct volume *v)
{
    share_enter_change(v);
    while (!try_turn(v))
        wait_for_end(v);
}

bool volume_try_change(struct volume *v)
{
    share_enter_change(v);
    if (try_turn(v))
        return true;
    share_leave(v);
    return false;
}

void volume_end_change(struct volume *v)
{
    freeze_leave(v);
}

/* ---- files in memory ---- */

struct file_list {
    struct node **nodes; /* referenced */
    size_t count, room;
    bool failed;
};

static void collect(struct node *n, void *arg)
{
    struct file_list *l = arg;
    pthread_mutex_lock(&n->file_lock);
    bool wanted = n->file != NULL;
    pthread_mutex_unlock(&n->file_lock);
    if (wanted && l->count == l->room) {
        size_t room = l->room ? l->room * 2 : 256;
        struct node **grown = realloc(l->nodes, room * sizeof *grown);
        l->failed = l->failed || !grown;
        l->nodes = grown ? grown : l->nodes;
        l->room = grown ? room : l->room;
    }
    if (wanted && l->count < l->room) {
        node_ref(n);
        l->nodes[l->count++] = n;
    }
}

int freeze_each_file(struct volume *v, void (*fn)(struct file *f))
{
    struct file_list l = {0};
    volume_each_node(v, collect, &l);
    for (size_t i = 0; i < l.count; i++) {
        struct file *f = file_peek(l.nodes[i]);
        if (f) {
            pthread_rwlock_wrlock(&f->lock);
            fn(f);
            pthread_rwlock_unlock(&f->lock);
            file_put(f);
        }
        node_unref(l.nodes[i], 1);
    }
    free(l.nodes);
    return l.failed ? -ENOMEM : 0;
}

/* ---- ending ---- */

static int raise_noted(struct volume *v)
{
    uint64_t least = atomic_exchange(&v->freeze.raise, 0);
    return least ? journal_raise(v->journal, least) : 0;
}

/* turn is held. */
static int end_locked(struct volume *v)
{
    int r = journal_ring(v->journal) ? 0 : volume_reset_journal(v);
    if (r && !journal_error(v->journal))
        r = volume_reset_journal(v);
    if (r)
        volume_fail_readonly(v, r, "beginning the journal again after a freeze");
    set_state(&v->freeze, FREEZE_NONE);
    int e = raise_noted(v); /* last: who notes from here on finds that he need not wait */
    if (e && journal_error(v->journal))
        volume_fail_readonly(v, e, "raising the journal's generation");
    return r ? r : e;
}

int freeze_raise(struct volume *v, uint64_t generation)
{
    uint64_t known = atomic_load(&v->freeze.raise);
    while (known < generation && !atomic_compare_exchange_weak(&v->freeze.raise, &known, generation))
        ;
    if (!freeze_try(v))
        return 0;
    int r = raise_noted(v);
    freeze_leave(v);
    return r;
}

void freeze_end(struct volume *v)
{
    if (depth)
        return;
    pthread_mutex_lock(&v->freeze.turn);
    if (atomic_load(&v->freeze.state) == FREEZE_FROZEN)
        end_locked(v);
    pthread_mutex_unlock(&v->freeze.turn);
}

void freeze_overrule(struct volume *v)
{
    share_join(v);
    while (!try_turn(v))
        freeze_end(v);
}

static void end_if_over(struct volume *v)
{
    pthread_mutex_lock(&v->freeze.turn);
    if (is_over(&v->freeze))
        end_locked(v);
    pthread_mutex_unlock(&v->freeze.turn);
}

int volume_thaw(struct volume *v)
{
    pthread_mutex_lock(&v->freeze.turn);
    int r = volume_is_frozen(v) ? 0 : -EINVAL, e = 0;
    if (atomic_load(&v->freeze.state) == FREEZE_FROZEN)
        e = end_locked(v);
    pthread_mutex_unlock(&v->freeze.turn);
    return r ? r : e;
}

bool volume_is_frozen(const struct volume *v)
{
    return atomic_load(&v->freeze.state) == FREEZE_FROZEN && !is_over(&v->freeze);
}

/* ---- beginning ---- */

static void wait_for_none(struct freeze *f, const _Atomic uint64_t *count)
{
    pthread_mutex_lock(&f->lock);
    while (atomic_load(count))
        pthread_cond_wait(&f->changed, &f->lock);
    pthread_mutex_unlock(&f->lock);
}

/* Inside the gate, as every checkpoint, so that no key goes meanwhile; nobody is waited for there. */
static int put_in_place(struct volume *v)
{
    int r = volume_enter(v, true);
    if (r)
        return r;
    r = checkpoint_run(v, true);
    volume_leave(v);
    return r;
}

/* Nobody changes anything any more. */
static int put_to_rest(struct volume *v)
{
    int r = put_in_place(v);
    for (int i = 0; !r && journal_used(v->journal) && i < RESTS_MAX; i++)
        r = put_in_place(v); /* a file that was busy before */
    if (!r && journal_used(v->journal))
        r = atomic_load(&v->apply_error) ? atomic_load(&v->apply_error) : -EIO;
    if (!r)
        r = freeze_each_file(v, file_restore_mtime); /* open files too: else that waits for their closing */
    return r ? r : journal_rest(v->journal);
}

static int freeze_now(struct volume *v, unsigned seconds)
{
    struct freeze *f = &v->freeze;
    int r = put_in_place(v); /* most of the work, while nobody waits yet */
    if (r)
        return r;
    set_state(f, FREEZE_CLOSING);
    wait_for_none(f, &f->changes);
    r = put_to_rest(v);
    atomic_store(&f->deadline, now_ms() + (int64_t)seconds * 1000);
    set_state(f, FREEZE_FROZEN);
    wait_for_none(f, &f->moments);
    if (!r && syncfs(v->root_fd)) {
        r = -errno;
        volume_fail_readonly(v, r, "syncing the volume");
    }
    if (r)
        end_locked(v);
    return r;
}

int volume_freeze(struct volume *v, unsigned seconds)
{
    if (seconds < 1 || seconds > FREEZE_SECONDS_MAX || depth)
        return LFS_ERR_MISUSE;
    pthread_mutex_lock(&v->freeze.turn);
    if (is_over(&v->freeze))
        end_locked(v);
    int r = atomic_load(&v->freeze.state) == FREEZE_FROZEN ? LFS_ERR_BUSY : volume_check_writable(v);
    if (!r && volume_is_locked(v)) /* a lock that begins from here on waits for turn, and ends the freeze */
        r = LFS_ERR_NOKEY;
    if (!r) {
        depth++;
        r = freeze_now(v, seconds);
        depth--;
    }
    pthread_mutex_unlock(&v->freeze.turn);
    return r;
}
