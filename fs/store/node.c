/* The node table: nodes by (device, inode number), in shards. A node is in its shard exactly as long as it
 * has references; the step to zero is made under the shard's lock, so a node found there is alive. */
#include "fs/store/share.h"
#include "fs/store/tree.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#define SHARDS 64u
#define FIRST_BUCKETS 16u

struct shard {
    pthread_mutex_t lock;
    struct node **bucket;
    size_t buckets; /* power of two */
    size_t count;
    struct node *stale; /* removed nodes whose inode number serves again; chained by hash_next */
};

struct node_table {
    struct shard shard[SHARDS];
    struct dir_locks *dirs;
    char life[LIFE_DIGITS + 1];
};

struct dir_locks *node_dir_locks(struct volume *v)
{
    return v->nodes->dirs;
}

const char *node_life(const struct volume *v)
{
    return v->nodes->life;
}

static uint64_t hash_of(dev_t dev, ino_t ino)
{
    uint64_t h = ((uint64_t)ino ^ ((uint64_t)dev << 40)) * UINT64_C(0x9e3779b97f4a7c15);
    return h ^ (h >> 32);
}

/* Symlinks change their number (node_rekey), so it is read and written as a whole. */
static ino_t ino_of(const struct node *n)
{
    return __atomic_load_n(&n->ino, __ATOMIC_RELAXED);
}

static struct shard *shard_of(struct volume *v, uint64_t hash)
{
    return &v->nodes->shard[hash % SHARDS];
}

static struct node **bucket_of(struct shard *s, uint64_t hash)
{
    return &s->bucket[(hash / SHARDS) & (s->buckets - 1)];
}

/* The shard of n, locked; n may be moving between shards. */
static struct shard *lock_shard(const struct node *n)
{
    for (;;) {
        struct shard *s = shard_of(n->vol, hash_of(n->dev, ino_of(n)));
        pthread_mutex_lock(&s->lock);
        if (s == shard_of(n->vol, hash_of(n->dev, ino_of(n))))
            return s;
        pthread_mutex_unlock(&s->lock);
    }
}

static bool chain_remove(struct node **at, const struct node *n)
{
    for (; *at; at = &(*at)->hash_next)
        if (*at == n) {
            *at = n->hash_next;
            return true;
        }
    return false;
}

static void shard_remove(struct shard *s, struct node *n)
{
    if (chain_remove(bucket_of(s, hash_of(n->dev, ino_of(n))), n))
        s->count--;
    else
        chain_remove(&s->stale, n);
}

/* A longer chain is all that a failure to grow costs. */
static void shard_grow(struct shard *s)
{
    size_t more = s->buckets * 2;
    struct node **old = s->bucket, **bucket = calloc(more, sizeof(struct node *));
    if (!bucket)
        return;
    size_t had = s->buckets;
    s->bucket = bucket;
    s->buckets = more;
    for (size_t i = 0; i < had; i++)
        for (struct node *n = old[i], *next; n; n = next) {
            next = n->hash_next;
            struct node **at = bucket_of(s, hash_of(n->dev, ino_of(n)));
            n->hash_next = *at;
            *at = n;
        }
    free(old);
}

static void shard_add(struct shard *s, struct node *n)
{
    if (s->count >= s->buckets)
        shard_grow(s);
    struct node **at = bucket_of(s, hash_of(n->dev, ino_of(n)));
    n->hash_next = *at;
    *at = n;
    s->count++;
}

static struct node *shard_find(struct shard *s, uint64_t hash, dev_t dev, ino_t ino)
{
    struct node *n = *bucket_of(s, hash);
    while (n && (n->ino != ino || n->dev != dev))
        n = n->hash_next;
    return n;
}

/* An inode that has lost its last name, or is of another type, is not the one that is seen now. */
static bool is_stale(const struct node *n, const struct stat *st, uint64_t birth)
{
    return n->removed || n->type != (st->st_mode & S_IFMT) || (birth && n->birth && n->birth != birth);
}

static struct node *find(struct volume *v, const struct stat *st, uint64_t birth)
{
    uint64_t hash = hash_of(st->st_dev, st->st_ino);
    struct shard *s = shard_of(v, hash);
    pthread_mutex_lock(&s->lock);
    struct node *n = shard_find(s, hash, st->st_dev, st->st_ino);
    if (n && is_stale(n, st, birth))
        n = NULL;
    if (n)
        n->refs++;
    pthread_mutex_unlock(&s->lock);
    return n;
}

struct node *node_find(struct volume *v, const struct stat *st)
{
    return find(v, st, 0);
}

static struct node *node_new(struct volume *v, const struct stat *st)
{
    struct node *n = calloc(1, sizeof *n);
    if (!n)
        return NULL;
    n->vol = v;
    n->dev = st->st_dev;
    n->ino = st->st_ino;
    n->type = st->st_mode & S_IFMT;
    n->refs = 1;
    n->fd = -1;
    n->changes = 1; /* whether earlier changes ever reached the disk is not known */
    n->meta_dirty = n->data_dirty = true;
    pthread_mutex_init(&n->file_lock, NULL);
    return n;
}

/* Nobody else knows the node any more. Its parent is the caller's business. */
static void node_destroy(struct node *n)
{
    file_drop(n);
    fd_drop(n);
    if (n->stored && tmp_is_grave(n->vol, n->stored) && freeze_try(n->vol)) { /* else at the next mount */
        tmp_discard(n->vol, n->vol->root_fd, n->stored);
        freeze_leave(n->vol);
    }
    free(n->stored);
    pthread_mutex_destroy(&n->file_lock);
    free(n);
}

/* Adds fresh, or answers the node that another thread added meanwhile (referenced). */
static struct node *table_add(struct volume *v, struct node *fresh, const struct stat *st)
{
    uint64_t hash = hash_of(st->st_dev, st->st_ino);
    struct shard *s = shard_of(v, hash);
    pthread_mutex_lock(&s->lock);
    struct node *n = shard_find(s, hash, st->st_dev, st->st_ino);
    if (n && is_stale(n, st, fresh->birth)) {
        shard_remove(s, n);
        n->hash_next = s->stale;
        s->stale = n;
        n = NULL;
    }
    if (n)
        n->refs++;
    else
        shard_add(s, fresh);
    pthread_mutex_unlock(&s->lock);
    return n ? n : fresh;
}

/* A node made from nothing has its place before others can find it. */
static int obtain_new(struct node *dir, const struct stat *st, uint64_t birth, const char *stored,
                      struct node **out)
{
    struct place p;
    struct node *fresh = node_new(dir->vol, st);
    int r = fresh ? place_new(dir, stored, &p) : -ENOMEM;
    if (r) {
        free(fresh);
        return r;
    }
    node_set_home(fresh, dir);
    fresh->birth = birth;
    fresh->parent = p.parent;
    fresh->stored = p.stored;
    struct node *n = table_add(dir->vol, fresh, st);
    if (n != fresh) {
        node_destroy(fresh);
        node_unref(dir, 1);
        r = node_set_home(n, dir);
        if (!r)
            r = place_set(n, dir, stored);
        if (r) {
            node_unref(n, 1);
            return r;
        }
    }
    *out = n;
    return 0;
}

/* Birth of dir/stored where inodes may come and go by the hand of others, else 0. */
static int read_birth(struct node *dir, const char *stored, uint64_t *birth)
{
    int fd, r = dir->vol->share ? node_fd_get(dir, false, &fd) : 0;
    *birth = 0;
    if (r || !dir->vol->share)
        return r;
    *birth = share_birth(fd, stored);
    node_fd_put(dir);
    return 0;
}

static int obtain(struct node *dir, const struct stat *st, uint64_t birth, const char *stored,
                  struct node **out)
{
    struct node *n = find(dir->vol, st, birth);
    if (!n)
        return obtain_new(dir, st, birth, stored, out);
    int r = node_set_home(n, dir);
    if (!r)
        r = place_set(n, dir, stored);
    if (r)
        node_unref(n, 1);
    else
        *out = n;
    return r;
}

int node_obtain(struct node *dir, const struct stat *st, const char *stored, struct node **out)
{
    uint64_t birth;
    int r = read_birth(dir, stored, &birth);
    if (!r)
        r = obtain(dir, st, birth, stored, out);
    if (!r)
        share_seen(*out);
    return r;
}

void node_rekey(struct node *n, const struct stat *st)
{
    struct shard *from = lock_shard(n);
    shard_remove(from, n);
    pthread_mutex_unlock(&from->lock);
    /* Between the two locks the node can't be found; whoever looks for it holds no name of it, since the
     * directory is locked. */
    uint64_t hash = hash_of(st->st_dev, st->st_ino);
    struct shard *to = shard_of(n->vol, hash);
    pthread_mutex_lock(&to->lock);
    struct node *other = shard_find(to, hash, st->st_dev, st->st_ino);
    if (other) {
        shard_remove(to, other);
        other->hash_next = to->stale;
        to->stale = other;
    }
    __atomic_store_n(&n->ino, st->st_ino, __ATOMIC_RELAXED);
    n->birth = 0;
    shard_add(to, n);
    pthread_mutex_unlock(&to->lock);
}

void node_ref(struct node *n)
{
    n->refs++;
}

/* Gives references back; true when they were the last and n is out of the table. */
static bool release(struct node *n, uint64_t count)
{
    uint64_t have = n->refs;
    while (have > count)
        if (atomic_compare_exchange_weak(&n->refs, &have, have - count))
            return false;
    struct shard *s = lock_shard(n);
    bool last = atomic_fetch_sub(&n->refs, count) == count;
    if (last)
        shard_remove(s, n);
    pthread_mutex_unlock(&s->lock);
    return last;
}

void node_unref(struct node *n, uint64_t count)
{
    while (n && release(n, count)) {
        struct node *parent = n->parent;
        node_destroy(n);
        n = parent;
        count = 1;
    }
}

mode_t node_type(const struct node *n)
{
    return n->type;
}

uint64_t node_ino(const struct node *n)
{
    return ino_of(n);
}

struct node *volume_root(struct volume *v)
{
    return v->root;
}

void volume_each_node(struct volume *v, void (*fn)(struct node *n, void *arg), void *arg)
{
    for (unsigned i = 0; i < SHARDS; i++) {
        struct shard *s = &v->nodes->shard[i];
        pthread_mutex_lock(&s->lock);
        for (size_t b = 0; b < s->buckets; b++)
            for (struct node *n = s->bucket[b]; n; n = n->hash_next)
                fn(n, arg);
        for (struct node *n = s->stale; n; n = n->hash_next)
            fn(n, arg);
        pthread_mutex_unlock(&s->lock);
    }
}

void node_tables_stats(struct volume *v, struct volume_stats *out)
{
    out->nodes = 0;
    for (unsigned i = 0; i < SHARDS; i++) {
        struct shard *s = &v->nodes->shard[i];
        pthread_mutex_lock(&s->lock);
        out->nodes += s->count;
        pthread_mutex_unlock(&s->lock);
    }
    fd_cache_stats(v, out);
}

static int table_init(struct volume *v)
{
    v->nodes = calloc(1, sizeof *v->nodes);
    if (!v->nodes)
        return -ENOMEM;
    for (unsigned i = 0; i < SHARDS; i++) {
        struct shard *s = &v->nodes->shard[i];
        pthread_mutex_init(&s->lock, NULL);
        s->buckets = FIRST_BUCKETS;
        s->bucket = calloc(FIRST_BUCKETS, sizeof(struct node *));
        if (!s->bucket)
            return -ENOMEM;
    }
    snprintf(v->nodes->life, sizeof v->nodes->life, "%08x%08x", randombytes_random(), randombytes_random());
    v->nodes->dirs = dir_locks_new();
    return v->nodes->dirs ? 0 : -ENOMEM;
}

/* The root borrows the volume's descriptor for ever. */
static int root_init(struct volume *v)
{
    struct stat st;
    if (fstat(v->root_fd, &st))
        return -errno;
    v->root = node_new(v, &st);
    if (!v->root)
        return -ENOMEM;
    v->root->fd = v->root_fd;
    v->root->fd_pinned = true;
    atomic_store(&v->root->home, pd_root(v));
    table_add(v, v->root, &st);
    return 0;
}

int node_tables_init(struct volume *v)
{
    int r = table_init(v);
    if (!r)
        r = fd_cache_init(v);
    if (!r)
        r = root_init(v);
    if (r)
        node_tables_free(v);
    return r;
}

/* References that callers still hold count no more. */
static void chain_destroy(struct node *n)
{
    while (n) {
        struct node *next = n->hash_next;
        node_destroy(n);
        n = next;
    }
}

void node_tables_free(struct volume *v)
{
    for (unsigned i = 0; v->nodes && i < SHARDS; i++) {
        struct shard *s = &v->nodes->shard[i];
        for (size_t b = 0; s->bucket && b < s->buckets; b++)
            chain_destroy(s->bucket[b]);
        chain_destroy(s->stale);
        free(s->bucket);
        pthread_mutex_destroy(&s->lock);
    }
    if (v->nodes)
        dir_locks_free(v->nodes->dirs);
    free(v->nodes);
    fd_cache_free(v);
    v->nodes = NULL;
    v->root = NULL;
}
