#include "fs/mount/lock.h"

#include "fs/mount/control_check.h"
#include "fs/mount/control_jobs.h"
#include "fs/mount/freezer.h"
#include "fs/mount/open_files.h"
#include "fs/mount/ops.h"
#include "fs/mount/wipe.h"
#include "latchfs/buf.h"
#include "latchfs/err.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Programs that keep dirtying pages are cut off after so many rounds: their later writes fail. */
#define ROUNDS_MAX 20

/* What is being locked. */
struct scope {
    struct daemon *d;
    const uint8_t *pd_id; /* NULL: the whole volume */
};

static void each_node(const struct scope *s, void (*fn)(struct node *n, void *arg), void *arg)
{
    if (s->pd_id)
        volume_pd_each_node(s->d->vol, s->pd_id, fn, arg);
    else
        volume_each_node(s->d->vol, fn, arg);
}

/* ---- nodes of a scope ---- */

struct node_list {
    struct node **nodes; /* referenced */
    size_t count, room;
    bool failed;
};

static void collect(struct node *n, void *arg)
{
    struct node_list *l = arg;
    if (l->count == l->room) {
        size_t room = l->room ? l->room * 2 : 1024;
        struct node **nodes = realloc(l->nodes, room * sizeof *nodes);
        if (!nodes) {
            l->failed = true;
            return;
        }
        l->nodes = nodes;
        l->room = room;
    }
    node_ref(n);
    l->nodes[l->count++] = n;
}

static void list_clear(struct node_list *l)
{
    for (size_t i = 0; i < l->count; i++)
        node_unref(l->nodes[i], 1);
    free(l->nodes);
}

/* ---- what the kernel knows ---- */

/* The kernel drops what is cached below a topmost directory with its name. Names that programs have in use
 * stay, for them to go on after the unlock, and are looked up at their next use. */
static void forget_name(const struct daemon *d, struct node *n)
{
    char name[NAME_PLAIN_MAX + 1];
    uint8_t id[ID_BYTES];
    struct node *parent;
    bool top = false;
    if (node_known_name(n, &parent, name))
        return;
    if (S_ISDIR(node_type(n)) && node_pd_id(n, id, &top) == 0 && top)
        session_drop_name(d->session, ops_ino(d, parent), name);
    else
        session_expire_name(d->session, ops_ino(d, parent), name);
    node_unref(parent, 1);
}

/* Of the whole volume at once where the kernel can. */
static void forget_names(const struct scope *s, const struct node_list *l)
{
    if (!s->pd_id && session_expire_names(s->d->session) == 0)
        return;
    for (size_t i = 0; i < l->count; i++)
        forget_name(s->d, l->nodes[i]);
}

static int forget_round(const struct scope *s, bool names)
{
    struct daemon *d = s->d;
    CLEANUP(list_clear) struct node_list l = {0};
    each_node(s, collect, &l);
    AUTO_FREE fuse_ino_t *inos = calloc(l.count + 1, sizeof *inos);
    if (l.failed || !inos)
        return -ENOMEM;
    if (names)
        forget_names(s, &l); /* first: they lead to inodes */
    for (size_t i = 0; i < l.count; i++) {
        inos[i] = ops_ino(d, l.nodes[i]);
        session_inval_inode(d->session, inos[i]);
    }
    session_prune(d->session, inos, l.count);
    return 0;
}

static uint64_t writes_of(const struct scope *s)
{
    return atomic_load(s->pd_id ? &s->d->locking_writes : &s->d->writes);
}

/* Until a round brings no dirty page any more. */
static void forget(const struct scope *s, int rounds_min)
{
    uint64_t before;
    int round = 0, forgot;
    do {
        before = writes_of(s);
        forgot = forget_round(s, round == 0);
    } while (++round < ROUNDS_MAX && (forgot || round < rounds_min || writes_of(s) != before));
}

/* After finish no call makes plaintext any more. Once every worker is through with its request, what such a
 * late answer has put into the kernel's caches goes, too. */
static int clean_up(const struct scope *s)
{
    jobs_end(s->d->jobs, s->pd_id);
    checks_end(s->d->checks);
    int r = session_wipe(s->d->session);
    forget(s, 1);
    wipe_thread();
    return r;
}

static unsigned clamp(uint64_t n)
{
    return n < UINT32_MAX ? (unsigned)n : UINT32_MAX;
}

static int lock_all(struct daemon *d, lock_ask_fn *ask, void *arg, unsigned *held)
{
    const struct scope s = {.d = d};
    *held = 0;
    if (volume_is_locked(d->vol))
        return 0;
    jobs_end(d->jobs, NULL);
    checks_end(d->checks);
    int r = volume_lock_begin(d->vol);
    if (r)
        return r;
    forget(&s, 2);
    if (ask && !ask(arg))
        return -ECANCELED;
    r = volume_lock_finish(d->vol);
    int wiped = clean_up(&s);
    *held = clamp(open_files_now(d, NULL));
    return r ? r : wiped;
}

/* What a freeze keeps waiting must reach the disk before the keys go. */
int lock_volume(struct daemon *d, lock_ask_fn *ask, void *arg, unsigned *held)
{
    freezer_hold(d->freezer, "a lock");
    int r = lock_all(d, ask, arg, held);
    freezer_release(d->freezer);
    return r;
}

/* ---- one protected directory ---- */

static void id_words(const uint8_t id[static ID_BYTES], uint64_t words[static 2])
{
    memcpy(words, id, ID_BYTES);
}

void lock_note_write(struct daemon *d, struct node *n)
{
    uint8_t id[ID_BYTES];
    uint64_t words[2];
    if (!atomic_load(&d->locking_dir) || node_pd_id(n, id, NULL))
        return;
    id_words(id, words);
    if (words[0] == atomic_load(&d->locking_id[0]) && words[1] == atomic_load(&d->locking_id[1]))
        atomic_fetch_add(&d->locking_writes, 1);
}

static void watch_writes(struct daemon *d, const uint8_t pd_id[static ID_BYTES])
{
    uint64_t words[2];
    id_words(pd_id, words);
    atomic_store(&d->locking_id[0], words[0]);
    atomic_store(&d->locking_id[1], words[1]);
    atomic_store(&d->locking_dir, true);
}

static int lock_one(struct daemon *d, const uint8_t pd_id[static ID_BYTES], lock_ask_fn *ask, void *arg,
                    unsigned *held)
{
    const struct scope s = {.d = d, .pd_id = pd_id};
    *held = 0;
    jobs_end(d->jobs, pd_id);
    checks_end(d->checks);
    int r = volume_pd_lock_begin(d->vol, pd_id);
    if (r)
        return r;
    watch_writes(d, pd_id);
    forget(&s, 2);
    if (ask && !ask(arg)) {
        atomic_store(&d->locking_dir, false);
        return -ECANCELED;
    }
    r = volume_pd_lock_finish(d->vol, pd_id);
    int wiped = clean_up(&s);
    atomic_store(&d->locking_dir, false);
    *held = clamp(open_files_now(d, pd_id));
    return r ? r : wiped;
}

void lock_watch_use(struct daemon *d)
{
    const struct scope s = {.d = d};
    CLEANUP(list_clear) struct node_list l = {0};
    if (session_expire_names(d->session) == 0)
        return;
    each_node(&s, collect, &l);
    forget_names(&s, &l);
}

int lock_directory(struct daemon *d, const uint8_t pd_id[static ID_BYTES], lock_ask_fn *ask, void *arg,
                   unsigned *held)
{
    freezer_hold(d->freezer, "a lock");
    int r = lock_one(d, pd_id, ask, arg, held);
    freezer_release(d->freezer);
    return r;
}
