#include "fs/view/vnode.h"

#include "latchfs/buf.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS_MIN 1024u

struct vtable {
    pthread_mutex_t lock; /* guards all below */
    struct vnode **buckets;
    size_t bucket_count;    /* a power of two */
    _Atomic uint64_t count; /* read without the lock, too */
    uint64_t peak;
    size_t hand; /* bucket where vtable_some goes on */
    struct vnode *root;
};

enum vkind vkind_of_mode(mode_t mode)
{
    return S_ISREG(mode) ? V_FILE : S_ISDIR(mode) ? V_DIR : S_ISLNK(mode) ? V_LINK : V_SPECIAL;
}

enum view_id vkind_id(enum vkind kind)
{
    static const enum view_id ids[] = {
        [V_DIR] = VIEW_ID_DIR,         [V_FILE] = VIEW_ID_FILE,         [V_LINK] = VIEW_ID_LINK,
        [V_SPECIAL] = VIEW_ID_SPECIAL, [V_DIRREC] = VIEW_ID_DIRREC,     [V_NAMECAR] = VIEW_ID_NAMECAR,
        [V_LINKCAR] = VIEW_ID_LINKCAR, [V_KEYSTORE] = VIEW_ID_KEYSTORE, [V_JOURNAL] = VIEW_ID_JOURNAL,
    };
    return ids[kind];
}

/* 0 and 1 have a meaning of their own to some programs. */
uint64_t vnode_ino(const struct vnode *n)
{
    struct rcur c = rcur_over(n->id, ID_BYTES);
    uint64_t ino = rcur_u64(&c);
    return ino > 1 ? ino : ino + 2;
}

/* ---- the table ---- */

/* FNV-1a. Names come from the owner of the tree, who could only slow his own view down. */
static size_t hash(const struct vnode *parent, enum vkind kind, const char *name)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325) ^ ((uintptr_t)parent >> 4) ^ (uint64_t)kind;
    h *= UINT64_C(0x100000001b3);
    for (const char *p = name; *p; p++)
        h = (h ^ (uint8_t)*p) * UINT64_C(0x100000001b3);
    return (size_t)(h ^ h >> 32);
}

static struct vnode **bucket(const struct vtable *t, const struct vnode *parent, enum vkind kind,
                             const char *name)
{
    return &t->buckets[hash(parent, kind, name) & (t->bucket_count - 1)];
}

static struct vnode *make(struct vnode *parent, enum vkind kind, const char *name)
{
    size_t len = strlen(name) + 1;
    struct vnode *n = calloc(1, sizeof *n + len);
    if (!n)
        return NULL;
    n->parent = parent;
    n->kind = (uint8_t)kind;
    memcpy(n->name, name, len);
    return n;
}

struct vtable *vtable_new(void)
{
    struct vtable *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    pthread_mutex_init(&t->lock, NULL);
    t->bucket_count = BUCKETS_MIN;
    t->buckets = calloc(t->bucket_count, sizeof(struct vnode *));
    t->root = make(NULL, V_DIR, "");
    if (t->buckets && t->root)
        return t;
    vtable_free(t);
    return NULL;
}

void vtable_free(struct vtable *t)
{
    if (!t)
        return;
    for (size_t i = 0; t->buckets && i < t->bucket_count; i++)
        while (t->buckets[i]) {
            struct vnode *next = t->buckets[i]->next;
            free(t->buckets[i]);
            t->buckets[i] = next;
        }
    free(t->buckets);
    free(t->root);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

struct vnode *vtable_root(struct vtable *t)
{
    return t->root;
}

/* Without memory for it the chains just grow longer. */
static void grow(struct vtable *t)
{
    struct vtable bigger = {.bucket_count = t->bucket_count * 2};
    bigger.buckets = calloc(bigger.bucket_count, sizeof(struct vnode *));
    if (!bigger.buckets)
        return;
    for (size_t i = 0; i < t->bucket_count; i++)
        while (t->buckets[i]) {
            struct vnode *n = t->buckets[i];
            struct vnode **to = bucket(&bigger, n->parent, n->kind, n->name);
            t->buckets[i] = n->next;
            n->next = *to;
            *to = n;
        }
    free(t->buckets);
    t->buckets = bigger.buckets;
    t->bucket_count = bigger.bucket_count;
}

static struct vnode *add(struct vtable *t, struct vnode *parent, enum vkind kind, const char *name,
                         const uint8_t *id)
{
    struct vnode *n = make(parent, kind, name);
    if (!n)
        return NULL;
    memcpy(n->id, id, ID_BYTES);
    if (t->count >= t->bucket_count)
        grow(t);
    struct vnode **at = bucket(t, parent, kind, name);
    n->next = *at;
    *at = n;
    t->count++;
    t->peak = t->count > t->peak ? t->count : t->peak;
    parent->children++;
    return n;
}

struct vnode *vnode_get(struct vtable *t, struct vnode *parent, enum vkind kind, const char *name,
                        const uint8_t id[static ID_BYTES])
{
    pthread_mutex_lock(&t->lock);
    struct vnode *n = *bucket(t, parent, kind, name);
    while (n && (n->parent != parent || n->kind != kind || strcmp(n->name, name) != 0))
        n = n->next;
    if (!n)
        n = add(t, parent, kind, name, id);
    if (n)
        n->lookups++;
    pthread_mutex_unlock(&t->lock);
    return n;
}

void vnode_hold(struct vtable *t, struct vnode *n)
{
    pthread_mutex_lock(&t->lock);
    n->lookups++;
    pthread_mutex_unlock(&t->lock);
}

static void drop(struct vtable *t, struct vnode *n)
{
    struct vnode **at = bucket(t, n->parent, n->kind, n->name);
    while (*at != n)
        at = &(*at)->next;
    *at = n->next;
    t->count--;
    free(n);
}

/* A parent outlives its children, whatever order the kernel forgets them in. */
void vnode_forget(struct vtable *t, struct vnode *n, uint64_t lookups)
{
    pthread_mutex_lock(&t->lock);
    n->lookups -= lookups < n->lookups ? lookups : n->lookups;
    while (n != t->root && n->lookups == 0 && n->children == 0) {
        struct vnode *parent = n->parent;
        drop(t, n);
        parent->children--;
        n = parent;
    }
    pthread_mutex_unlock(&t->lock);
}

uint64_t vtable_count(struct vtable *t)
{
    return atomic_load(&t->count);
}

uint64_t vtable_peak(struct vtable *t)
{
    pthread_mutex_lock(&t->lock);
    uint64_t peak = t->peak;
    pthread_mutex_unlock(&t->lock);
    return peak;
}

size_t vtable_some(struct vtable *t, struct vnode **out, size_t max)
{
    size_t found = 0;
    pthread_mutex_lock(&t->lock);
    for (size_t left = t->bucket_count; left > 0 && found < max; left--) {
        t->hand = (t->hand + 1) & (t->bucket_count - 1);
        for (struct vnode *n = t->buckets[t->hand]; n && found < max; n = n->next)
            if (n->children == 0) {
                n->lookups++;
                out[found++] = n;
            }
    }
    pthread_mutex_unlock(&t->lock);
    return found;
}

/* ---- sizes ---- */

static pthread_mutex_t pin_lock = PTHREAD_MUTEX_INITIALIZER;

uint64_t vnode_size(struct vnode *n, uint64_t size)
{
    pthread_mutex_lock(&pin_lock);
    size = n->pins ? n->open_size : size;
    pthread_mutex_unlock(&pin_lock);
    return size;
}

void vnode_pin(struct vnode *n, uint64_t size)
{
    pthread_mutex_lock(&pin_lock);
    n->pins++;
    n->open_size = size;
    pthread_mutex_unlock(&pin_lock);
}

void vnode_unpin(struct vnode *n)
{
    pthread_mutex_lock(&pin_lock);
    n->pins--;
    pthread_mutex_unlock(&pin_lock);
}

/* ---- paths ---- */

static char *prepend(char *at, const char *part)
{
    size_t len = strlen(part);
    if (*at)
        *--at = '/';
    return memcpy(at - len, part, len);
}

char *vnode_path(const struct vnode *n, const char *name)
{
    size_t room = name ? strlen(name) + 1 : 0; /* with each component a slash, or at the end the NUL */
    for (const struct vnode *p = n; p->parent; p = p->parent)
        room += strlen(p->name) + 1;
    char *path = calloc(1, room ? room : 1);
    if (!path || !room)
        return path;
    char *at = path + room - 1;
    if (name)
        at = prepend(at, name);
    for (; n->parent; n = n->parent)
        at = prepend(at, n->name);
    return path;
}
