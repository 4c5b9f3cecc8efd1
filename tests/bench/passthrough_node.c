#include "passthrough_node.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CHAINS (1u << 17)
#define LOCKS 64u

static struct node *chains[CHAINS];
static pthread_mutex_t locks[LOCKS] = {[0 ... LOCKS - 1] = PTHREAD_MUTEX_INITIALIZER};

static size_t chain_of(dev_t dev, ino_t ino)
{
    return (size_t)((ino ^ dev << 20) * 0x9e3779b97f4a7c15u >> 40) % CHAINS;
}

static struct node *find(size_t chain, const struct stat *st)
{
    struct node *n = chains[chain];
    while (n && (n->ino != st->st_ino || n->dev != st->st_dev))
        n = n->next;
    return n;
}

static struct node *add(size_t chain, int fd, bool data, const struct stat *st)
{
    struct node *n = calloc(1, sizeof *n);
    if (!n)
        return NULL;
    *n = (struct node){.dev = st->st_dev, .ino = st->st_ino, .fd = fd, .data = data, .next = chains[chain]};
    pthread_mutex_init(&n->lock, NULL);
    chains[chain] = n;
    return n;
}

struct node *node_get(int fd, bool data, const struct stat *st)
{
    size_t chain = chain_of(st->st_dev, st->st_ino);
    pthread_mutex_lock(&locks[chain % LOCKS]);
    struct node *known = find(chain, st), *n = known ? known : add(chain, fd, data, st);
    if (n)
        n->refs++;
    pthread_mutex_unlock(&locks[chain % LOCKS]);
    if (n != known || !n) /* it is the new one's, or the caller's */
        return n;
    close(fd);
    return n;
}

void node_forget(struct node *n, uint64_t refs)
{
    size_t chain = chain_of(n->dev, n->ino);
    pthread_mutex_lock(&locks[chain % LOCKS]);
    n->refs -= refs;
    bool last = n->refs == 0;
    if (last) {
        struct node **at = &chains[chain];
        while (*at != n)
            at = &(*at)->next;
        *at = n->next;
    }
    pthread_mutex_unlock(&locks[chain % LOCKS]);
    if (!last)
        return;
    if (n->dir)
        closedir(n->dir);
    close(n->fd);
    pthread_mutex_destroy(&n->lock);
    free(n);
}

static int open_for_data(const struct node *n)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", n->fd);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 && errno != EMFILE)
        fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int node_data(struct node *n)
{
    int r = 0;
    if (__atomic_load_n(&n->data, __ATOMIC_ACQUIRE))
        return n->fd;
    pthread_mutex_lock(&n->lock);
    if (!n->data) {
        int fd = open_for_data(n);
        r = fd < 0 ? fd : dup3(fd, n->fd, O_CLOEXEC) < 0 ? -errno : 0;
        if (fd >= 0)
            close(fd);
        if (!r)
            __atomic_store_n(&n->data, true, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&n->lock);
    return r ? r : n->fd;
}
