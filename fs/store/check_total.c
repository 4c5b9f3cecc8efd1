/* How much there is to look at: a light walk beside the check, so that its progress can be shown as a part of
 * the whole. An estimate: what it can't see, it leaves out. */
#include "fs/store/check_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LEVELS_MAX 64 /* a descriptor each */

struct check_total {
    struct check *c;
    pthread_t thread;
    atomic_bool stop;
    uint64_t entries, bytes;
};

/* The first name of a path, and what follows it. */
static size_t first_name(const char *path, const char **rest)
{
    size_t n = path ? strcspn(path, "/") : 0;
    *rest = path && path[n] ? path + n + 1 : NULL;
    return n;
}

/* How a name compares with the first one of a path: < 0 before it. */
static int against(const char *name, const char *path, size_t n)
{
    int r = strncmp(name, path, n);
    return r ? r : name[n] != '\0';
}

static void walk(struct check_total *t, int dirfd, const char *name, const char *only, const char *from,
                 int level);

static void weigh(struct check_total *t, int fd, const char *name, const char *only, const char *from,
                  int level)
{
    struct stat st;
    if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW))
        return;
    if (!only && !from)
        t->entries++;
    if (S_ISDIR(st.st_mode)) {
        walk(t, fd, name, only, from, level + 1);
    } else if (S_ISREG(st.st_mode) && !only && !from) {
        enum stored_kind kind = name_stored_kind(name);
        uint64_t length = (uint64_t)st.st_size, head = length < PAGE_BYTES ? length : PAGE_BYTES;
        if (kind == STORED_NAME || kind == STORED_LONG)
            t->bytes += t->c->contents ? length : head;
    }
}

/* only, from: what is left of the subtree's and of the position's path; NULL: all. */
static void walk(struct check_total *t, int dirfd, const char *name, const char *only, const char *from,
                 int level)
{
    const char *only_rest, *from_rest;
    size_t only_n = first_name(only, &only_rest), from_n = first_name(from, &from_rest);
    int fd = level < LEVELS_MAX ? fd_openat(t->c->v, dirfd, name, O_RDONLY | O_DIRECTORY, 0) : -1;
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        if (fd >= 0)
            close(fd);
        return;
    }
    for (struct dirent *e; !atomic_load(&t->stop) && (e = readdir(d));) {
        bool dots = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
        int where = from_n ? against(e->d_name, from, from_n) : 1;
        if (dots || where < 0 || (only_n && against(e->d_name, only, only_n) != 0))
            continue;
        weigh(t, fd, e->d_name, only_rest, where == 0 ? (from_rest ? from_rest : "") : NULL, level);
    }
    closedir(d);
}

static void *run(void *arg)
{
    struct check_total *t = arg;
    walk(t, t->c->v->root_fd, ".", t->c->o->subtree, t->c->o->resume, 0);
    if (!atomic_load(&t->stop)) {
        pthread_mutex_lock(&t->c->lock);
        t->c->p.entries_total = t->entries;
        t->c->p.bytes_total = t->bytes;
        pthread_mutex_unlock(&t->c->lock);
    }
    return NULL;
}

struct check_total *total_start(struct check *c)
{
    struct check_total *t = c->o->progress ? calloc(1, sizeof *t) : NULL;
    if (!t)
        return NULL;
    t->c = c;
    if (pthread_create(&t->thread, NULL, run, t)) {
        free(t);
        return NULL;
    }
    return t;
}

void total_stop(struct check_total *t)
{
    if (!t)
        return;
    atomic_store(&t->stop, true);
    pthread_join(t->thread, NULL);
    free(t);
}
