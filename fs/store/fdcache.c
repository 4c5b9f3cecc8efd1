/* Descriptors of nodes: at most half of what the process may have, least recently used go first. Pinned ones
 * (nodes without a name) and ones in use stay. */
#include "fs/store/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define BUDGET_MIN 8u
#define BUDGET_MAX 16384u
#define EVICT_BATCH 64u

struct fd_cache {
    pthread_mutex_t lock;
    pthread_mutex_t grant;        /* see fd_grant_lock */
    struct node *newest, *oldest; /* unused and not pinned */
    unsigned open, pinned, charged;
    unsigned budget, pin_max, charge_max;
};

int fd_cache_init(struct volume *v)
{
    struct rlimit lim;
    struct fd_cache *c = calloc(1, sizeof *c);
    if (!c)
        return -ENOMEM;
    unsigned budget = BUDGET_MAX;
    if (!getrlimit(RLIMIT_NOFILE, &lim) && lim.rlim_cur / 2 < budget)
        budget = (unsigned)(lim.rlim_cur / 2);
    c->budget = budget > BUDGET_MIN ? budget : BUDGET_MIN;
    c->pin_max = c->budget / 2;
    c->charge_max = c->budget / 4;
    pthread_mutex_init(&c->lock, NULL);
    pthread_mutex_init(&c->grant, NULL);
    v->fds = c;
    return 0;
}

void fd_cache_free(struct volume *v)
{
    if (!v->fds)
        return;
    pthread_mutex_destroy(&v->fds->lock);
    pthread_mutex_destroy(&v->fds->grant);
    free(v->fds);
    v->fds = NULL;
}

void fd_cache_stats(struct volume *v, struct volume_stats *out)
{
    pthread_mutex_lock(&v->fds->lock);
    out->open_fds = v->fds->open + v->fds->charged;
    out->pinned_fds = v->fds->pinned;
    pthread_mutex_unlock(&v->fds->lock);
}

/* ---- the list of unused descriptors (lock held) ---- */

static void list_remove(struct fd_cache *c, struct node *n)
{
    *(n->lru_prev ? &n->lru_prev->lru_next : &c->newest) = n->lru_next;
    *(n->lru_next ? &n->lru_next->lru_prev : &c->oldest) = n->lru_prev;
    n->lru_prev = n->lru_next = NULL;
}

static void list_add(struct fd_cache *c, struct node *n)
{
    n->lru_prev = NULL;
    n->lru_next = c->newest;
    *(c->newest ? &c->newest->lru_prev : &c->oldest) = n;
    c->newest = n;
}

static bool is_listed(const struct node *n)
{
    return n->fd >= 0 && n->fd_users == 0 && !n->fd_pinned;
}

static int take_fd(struct fd_cache *c, struct node *n)
{
    int fd = n->fd;
    n->fd = -1;
    n->fd_writable = false;
    c->open--;
    return fd;
}

/* Closing may take long, so it is done without the lock. */
static void evict_to(struct fd_cache *c, unsigned most)
{
    int victims[EVICT_BATCH];
    unsigned count;
    do {
        count = 0;
        pthread_mutex_lock(&c->lock);
        while (c->oldest && c->open + c->charged > most && count < EVICT_BATCH) {
            struct node *n = c->oldest;
            list_remove(c, n);
            victims[count++] = take_fd(c, n);
        }
        pthread_mutex_unlock(&c->lock);
        for (unsigned i = 0; i < count; i++)
            close(victims[i]);
    } while (count == EVICT_BATCH);
}

void fd_evict_unused(struct volume *v)
{
    evict_to(v->fds, 0);
}

/* ---- use ---- */

static void use(struct fd_cache *c, struct node *n)
{
    if (is_listed(n))
        list_remove(c, n);
    n->fd_users++;
}

bool fd_try(struct node *n, bool write, int *fd)
{
    struct fd_cache *c = n->vol->fds;
    pthread_mutex_lock(&c->lock);
    bool serves = n->fd >= 0 && (!write || n->fd_writable || S_ISDIR(n->type));
    if (serves) {
        use(c, n);
        *fd = n->fd;
    }
    pthread_mutex_unlock(&c->lock);
    return serves;
}

/* A better descriptor takes the number of the one that others may be using: what they began goes on with the
 * old open file, what they do next meets the new one. */
void fd_publish(struct node *n, int fd, bool writable, int *out)
{
    struct fd_cache *c = n->vol->fds;
    int spare = -1;
    pthread_mutex_lock(&c->lock);
    use(c, n);
    if (n->fd < 0) {
        n->fd = fd;
        n->fd_writable = writable;
        c->open++;
    } else {
        if (writable && !n->fd_writable && dup3(fd, n->fd, O_CLOEXEC) >= 0)
            n->fd_writable = true;
        spare = fd;
    }
    *out = n->fd;
    bool over = c->open + c->charged > c->budget;
    pthread_mutex_unlock(&c->lock);
    if (spare >= 0)
        close(spare);
    if (over)
        evict_to(c, c->budget);
}

void node_fd_put(struct node *n)
{
    struct fd_cache *c = n->vol->fds;
    pthread_mutex_lock(&c->lock);
    n->fd_users--;
    if (is_listed(n))
        list_add(c, n);
    bool over = c->open + c->charged > c->budget && c->oldest;
    pthread_mutex_unlock(&c->lock);
    if (over)
        evict_to(c, c->budget);
}

int node_fd_get(struct node *n, bool write, int *fd)
{
    if (fd_try(n, write, fd))
        return 0;
    pthread_rwlock_rdlock(&n->vol->tree_lock);
    int r = fd_get_locked(n, write, fd);
    pthread_rwlock_unlock(&n->vol->tree_lock);
    return r;
}

/* ---- pins ---- */

static bool reserve_pin(struct fd_cache *c, struct node *n, bool *had)
{
    pthread_mutex_lock(&c->lock);
    *had = n->fd_pinned;
    bool ok = *had || c->pinned < c->pin_max;
    if (ok && !*had)
        c->pinned++;
    pthread_mutex_unlock(&c->lock);
    return ok;
}

bool fd_pin(struct node *n)
{
    struct fd_cache *c = n->vol->fds;
    bool had;
    int fd;
    if (!reserve_pin(c, n, &had))
        return false;
    if (had)
        return true;
    int r = node_fd_get(n, true, &fd);
    if (r)
        r = node_fd_get(n, false, &fd);
    pthread_mutex_lock(&c->lock);
    if (r || n->fd_pinned)
        c->pinned--;
    if (!r)
        n->fd_pinned = true;
    pthread_mutex_unlock(&c->lock);
    if (!r)
        node_fd_put(n);
    return !r;
}

void fd_unpin(struct node *n)
{
    struct fd_cache *c = n->vol->fds;
    if (n == n->vol->root)
        return;
    pthread_mutex_lock(&c->lock);
    if (n->fd_pinned) {
        n->fd_pinned = false;
        c->pinned--;
        if (is_listed(n))
            list_add(c, n);
    }
    pthread_mutex_unlock(&c->lock);
}

void fd_drop(struct node *n)
{
    struct fd_cache *c = n->vol->fds;
    int fd = -1;
    if (n == n->vol->root)
        return;
    pthread_mutex_lock(&c->lock);
    if (n->fd >= 0 && n->fd_users == 0) {
        if (is_listed(n))
            list_remove(c, n);
        if (n->fd_pinned)
            c->pinned--;
        n->fd_pinned = false;
        fd = take_fd(c, n);
    }
    pthread_mutex_unlock(&c->lock);
    if (fd >= 0)
        close(fd);
}

/* ---- descriptors outside the cache ---- */

bool fd_charge(struct volume *v)
{
    struct fd_cache *c = v->fds;
    pthread_mutex_lock(&c->lock);
    bool ok = c->charged < c->charge_max;
    if (ok)
        c->charged++;
    pthread_mutex_unlock(&c->lock);
    if (ok)
        evict_to(c, c->budget);
    return ok;
}

void fd_uncharge(struct volume *v)
{
    pthread_mutex_lock(&v->fds->lock);
    v->fds->charged--;
    pthread_mutex_unlock(&v->fds->lock);
}

void fd_grant_lock(struct volume *v)
{
    pthread_mutex_lock(&v->fds->grant);
}

void fd_grant_unlock(struct volume *v)
{
    pthread_mutex_unlock(&v->fds->grant);
}
