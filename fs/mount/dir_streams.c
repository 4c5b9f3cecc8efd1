#include "fs/mount/dir_streams.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Half-read directories. Who reads one to its end needs none any more. */
#define KEPT_MAX 64u

struct kept {
    const struct node *dir; /* the stream holds it */
    uint64_t cookie;
    struct dir_stream *stream;
};

struct dir_streams {
    pthread_mutex_t lock;       /* guards all that follows; a leaf */
    atomic_uint count;          /* changed under the lock */
    struct kept kept[KEPT_MAX]; /* the one used least lately first */
};

struct dir_streams *dir_streams_new(void)
{
    struct dir_streams *t = calloc(1, sizeof *t);
    if (t)
        pthread_mutex_init(&t->lock, NULL);
    return t;
}

void dir_streams_free(struct dir_streams *t)
{
    if (!t)
        return;
    for (unsigned i = 0; i < t->count; i++)
        dir_close(t->kept[i].stream);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

/* Lock held. */
static struct dir_stream *remove_at(struct dir_streams *t, unsigned at)
{
    struct dir_stream *s = t->kept[at].stream;
    unsigned rest = --t->count - at;
    memmove(&t->kept[at], &t->kept[at + 1], rest * sizeof t->kept[0]);
    return s;
}

/* The stream that stands at the cookie, else any of the directory: it has to go there first (lock held). */
static struct dir_stream *find(struct dir_streams *t, const struct node *dir, uint64_t cookie)
{
    unsigned best = KEPT_MAX;
    for (unsigned i = 0; i < t->count; i++)
        if (t->kept[i].dir == dir && (best == KEPT_MAX || t->kept[i].cookie == cookie))
            best = i;
    return best == KEPT_MAX ? NULL : remove_at(t, best);
}

int dir_streams_take(struct dir_streams *t, struct node *dir, uint64_t cookie, struct dir_stream **out)
{
    struct dir_stream *s = NULL;
    if (atomic_load(&t->count)) {
        pthread_mutex_lock(&t->lock);
        s = find(t, dir, cookie);
        pthread_mutex_unlock(&t->lock);
    }
    if (!s)
        return dir_open(dir, out);
    *out = s;
    return 0;
}

void dir_streams_put(struct dir_streams *t, struct node *dir, uint64_t cookie, struct dir_stream *s)
{
    struct dir_stream *oldest = NULL;
    pthread_mutex_lock(&t->lock);
    if (t->count == KEPT_MAX)
        oldest = remove_at(t, 0);
    t->kept[t->count++] = (struct kept){dir, cookie, s};
    pthread_mutex_unlock(&t->lock);
    dir_close(oldest);
}

void dir_streams_drop(struct dir_streams *t, const struct node *dir)
{
    struct dir_stream *s = NULL;
    do {
        dir_close(s);
        s = NULL;
        if (!atomic_load(&t->count))
            return;
        pthread_mutex_lock(&t->lock);
        s = find(t, dir, 0);
        pthread_mutex_unlock(&t->lock);
    } while (s);
}
