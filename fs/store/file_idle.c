/* Users of struct file, and the loaded files that have none: kept, the last ones used, until others take
 * their room, their node goes, or somebody wants them read anew. */
#include "fs/store/file.h"
#include "fs/store/seal.h"

#include <errno.h>
#include <stdlib.h>

/* While this many bytes of tag page hashes are kept in all, only so many idle files are. */
#define KEPT_MANY (UINT64_C(4) << 20)
#define IDLE_FEW 16u

static void file_free(struct file *f)
{
    locked_free(f->keys);
    overlay_clear(&f->ov);
    rangeset_clear(&f->space);
    seal_pages_cut(f, 0);
    seal_later_drop(f);
    for (int i = 0; i < 3; i++)
        rangeset_clear(&f->named[i]);
    if (f->removed_from)
        node_unref(f->removed_from, 1);
    pthread_rwlock_destroy(&f->lock);
    pthread_mutex_destroy(&f->sync_lock);
    pthread_mutex_destroy(&f->key_lock);
    free(f);
}

/* ---- the list (idle.lock held) ---- */

static void unlist(struct volume *v, struct file *f)
{
    *(f->idle_prev ? &f->idle_prev->idle_next : &v->idle.newest) = f->idle_next;
    *(f->idle_next ? &f->idle_next->idle_prev : &v->idle.oldest) = f->idle_prev;
    f->idle_prev = f->idle_next = NULL;
    f->is_idle = false;
    v->idle.count--;
}

static void list_newest(struct volume *v, struct file *f)
{
    f->idle_next = v->idle.newest;
    *(v->idle.newest ? &v->idle.newest->idle_prev : &v->idle.oldest) = f;
    v->idle.newest = f;
    f->is_idle = true;
    v->idle.count++;
}

static bool is_over(const struct volume *v, unsigned most)
{
    bool many = v->idle.count > IDLE_FEW && atomic_load(&v->seal_kept) > KEPT_MANY;
    return v->idle.count > most || many;
}

/* The oldest that nobody is about to use, off the list and off its node. The node stays at least as long as
 * its file is on the list, and is not freed while its file_lock is held. */
static struct file *take_oldest(struct volume *v, unsigned most)
{
    struct file *f = NULL;
    pthread_mutex_lock(&v->idle.lock);
    if (is_over(v, most))
        for (f = v->idle.oldest; f && pthread_mutex_trylock(&f->n->file_lock); f = f->idle_prev)
            ;
    if (f)
        unlist(v, f);
    pthread_mutex_unlock(&v->idle.lock);
    if (f) {
        f->n->file = NULL;
        pthread_mutex_unlock(&f->n->file_lock);
    }
    return f;
}

static void trim_idle(struct volume *v, unsigned most)
{
    for (struct file *f; (f = take_oldest(v, most));)
        file_free(f);
}

/* ---- users (n->file_lock held) ---- */

static void begin_use(struct file *f)
{
    struct volume *v = f->n->vol;
    if (f->users++ == 0 && f->is_idle) {
        pthread_mutex_lock(&v->idle.lock);
        unlist(v, f);
        pthread_mutex_unlock(&v->idle.lock);
    }
}

/* False: it is not kept. */
static bool begin_idle(struct file *f)
{
    struct volume *v = f->n->vol;
    if (!v->idle.on || !f->loaded || f->transient)
        return false;
    pthread_mutex_lock(&v->idle.lock);
    list_newest(v, f);
    pthread_mutex_unlock(&v->idle.lock);
    return true;
}

static struct file *file_new(struct node *n)
{
    struct file *f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    f->n = n;
    pthread_rwlock_init(&f->lock, NULL);
    pthread_mutex_init(&f->sync_lock, NULL);
    pthread_mutex_init(&f->key_lock, NULL);
    return f;
}

int file_get(struct node *n, struct file **out)
{
    pthread_mutex_lock(&n->file_lock);
    struct file *f = n->file;
    if (!f)
        f = n->file = file_new(n);
    if (f)
        begin_use(f);
    pthread_mutex_unlock(&n->file_lock);
    *out = f;
    return f ? 0 : -ENOMEM;
}

struct file *file_peek(struct node *n)
{
    pthread_mutex_lock(&n->file_lock);
    struct file *f = n->file;
    if (f)
        begin_use(f);
    pthread_mutex_unlock(&n->file_lock);
    return f;
}

void file_put(struct file *f)
{
    struct node *n = f->n;
    struct volume *v = n->vol;
    bool kept = false;
    pthread_mutex_lock(&n->file_lock);
    bool last = --f->users == 0;
    if (last) {
        file_restore_mtime(f); /* before the next user of the node could read the place's */
        if (file_is_unsynced(f))
            atomic_store(&n->data_dirty, true); /* a later fsync must not take the file for clean */
        kept = begin_idle(f);
        if (!kept)
            n->file = NULL;
    }
    pthread_mutex_unlock(&n->file_lock);
    if (kept)
        trim_idle(v, FILE_IDLE_MAX);
    else if (last)
        file_free(f);
}

/* ---- dropping ---- */

/* The file state, if nobody uses it: no longer the node's. */
static struct file *take_unused(struct node *n)
{
    pthread_mutex_lock(&n->file_lock);
    struct file *f = n->file;
    if (f && f->users > 0)
        f = NULL;
    if (f) {
        begin_use(f);
        n->file = NULL;
    }
    pthread_mutex_unlock(&n->file_lock);
    return f;
}

void file_forget_idle(struct node *n)
{
    struct file *f = take_unused(n);
    if (f)
        file_free(f);
}

void files_forget_idle(struct volume *v)
{
    trim_idle(v, 0);
}

/* Also what still counts users when a volume is closed that could not put it in place. */
void file_drop(struct node *n)
{
    file_forget_idle(n);
    if (n->file)
        file_free(n->file);
    n->file = NULL;
}
