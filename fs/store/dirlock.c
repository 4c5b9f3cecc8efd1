/* Locks of directories: stripes by inode, so that they cost no memory per directory. */
#include "fs/store/tree.h"

#include <stdlib.h>

#define STRIPES 256u

struct dir_locks {
    pthread_rwlock_t stripe[STRIPES];
};

struct dir_locks *dir_locks_new(void)
{
    struct dir_locks *l = malloc(sizeof *l);
    for (unsigned i = 0; l && i < STRIPES; i++)
        pthread_rwlock_init(&l->stripe[i], NULL);
    return l;
}

void dir_locks_free(struct dir_locks *l)
{
    for (unsigned i = 0; l && i < STRIPES; i++)
        pthread_rwlock_destroy(&l->stripe[i]);
    free(l);
}

static pthread_rwlock_t *lock_of(struct volume *v, dev_t dev, ino_t ino)
{
    uint64_t h = ((uint64_t)ino ^ ((uint64_t)dev << 32)) * UINT64_C(0x9e3779b97f4a7c15);
    return &node_dir_locks(v)->stripe[(h >> 40) % STRIPES];
}

void dir_rdlock(struct node *dir)
{
    pthread_rwlock_rdlock(lock_of(dir->vol, dir->dev, dir->ino));
}

void dir_wrlock(struct node *dir)
{
    pthread_rwlock_wrlock(lock_of(dir->vol, dir->dev, dir->ino));
}

void dir_unlock(struct node *dir)
{
    pthread_rwlock_unlock(lock_of(dir->vol, dir->dev, dir->ino));
}

/* Kept sorted by address, which is the order of locking, each once. */
void dir_set_add(struct dir_set *s, struct volume *v, dev_t dev, ino_t ino)
{
    pthread_rwlock_t *l = lock_of(v, dev, ino);
    unsigned i = 0;
    while (i < s->count && s->lock[i] < l)
        i++;
    if (i < s->count && s->lock[i] == l)
        return;
    for (unsigned j = s->count++; j > i; j--)
        s->lock[j] = s->lock[j - 1];
    s->lock[i] = l;
}

void dir_set_lock(struct dir_set *s)
{
    for (unsigned i = 0; i < s->count; i++)
        pthread_rwlock_wrlock(s->lock[i]);
}

void dir_set_unlock(struct dir_set *s)
{
    while (s->count > 0)
        pthread_rwlock_unlock(s->lock[--s->count]);
}
