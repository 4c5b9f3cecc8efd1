/* The entries of a directory in the order of their names, a part at a time: however many there are, only so
 * many are in memory, and the directory is read again for the next part. */
#include "fs/store/check_int.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WINDOW_NAMES 16384u
#define NAMES_MAX (8u * WINDOW_NAMES) /* of all directories on the way */
#define LIST_BYTES 32768u

static void drop(char **name, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(name[i]);
}

void window_clear(struct check *c, struct frame *f)
{
    struct window *w = &f->w;
    if (w->name)
        drop(w->name + w->at, w->count - w->at);
    c->names -= w->count;
    free(w->name);
    *w = (struct window){.more = true};
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted, and no more than a window. */
static void settle(struct window *w)
{
    if (w->count)
        qsort(w->name, w->count, sizeof *w->name, compare);
    if (w->count > WINDOW_NAMES) {
        drop(w->name + WINDOW_NAMES, w->count - WINDOW_NAMES);
        w->count = WINDOW_NAMES;
        w->more = true;
    }
}

static int add(struct frame *f, const char *name)
{
    struct window *w = &f->w;
    bool dots = strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
    if (dots || (f->only && strcmp(name, f->only) != 0) || strcmp(name, f->last) <= 0 ||
        (f->from && strcmp(name, f->from) < 0))
        return 0;
    if (w->more && w->count >= WINDOW_NAMES && strcmp(name, w->name[WINDOW_NAMES - 1]) > 0)
        return 0;
    char *copy = strdup(name);
    if (!copy)
        return -ENOMEM;
    w->name[w->count++] = copy;
    if (w->count == 2 * (size_t)WINDOW_NAMES)
        settle(w);
    return 0;
}

static int add_batch(struct frame *f, const char *buf, size_t len)
{
    int r = 0;
    for (size_t at = 0; !r && at < len;) {
        const struct dirent64 *d = (const void *)(buf + at);
        at += d->d_reclen;
        r = strlen(d->d_name) <= NAME_CIPHER_MAX ? add(f, d->d_name) : 0;
    }
    return r;
}

static int list(struct check *c, struct frame *f)
{
    int own = -1;
    pthread_rwlock_rdlock(&c->v->tree_lock);
    int r = fd_open_fresh(f->n, false, &own);
    pthread_rwlock_unlock(&c->v->tree_lock);
    AUTO_CLOSE int fd = r ? -1 : own;
    AUTO_FREE char *buf = r ? NULL : malloc(LIST_BYTES);
    if (!r && !buf)
        r = -ENOMEM;
    ssize_t n = 0;
    while (!r && (n = getdents64(fd, buf, LIST_BYTES)) > 0)
        r = add_batch(f, buf, (size_t)n);
    return r ? r : n < 0 ? (errno == EBADF ? -EACCES : -errno) : 0; /* EBADF: only a path */
}

int window_fill(struct check *c, struct frame *f)
{
    struct window *w = &f->w;
    window_clear(c, f);
    /* Deep and wide at once: those above list again when the walk comes back to them. */
    for (struct frame *up = f->up; up && c->names > NAMES_MAX; up = up->up)
        window_clear(c, up);
    w->more = false;
    w->name = malloc(2 * WINDOW_NAMES * sizeof *w->name);
    int r = w->name ? volume_enter(c->v, false) : -ENOMEM;
    if (!r) {
        r = list(c, f);
        volume_leave(c->v);
    }
    settle(w);
    c->names += w->count;
    if (r) {
        window_clear(c, f);
        w->more = false;
        return r;
    }
    char **fit = realloc(w->name, (w->count + 1) * sizeof *w->name);
    w->name = fit ? fit : w->name;
    return 0;
}
