#include "passthrough_node.h"

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

static struct node *add(size_t chain, const struct stat *st)
{
    struct node *n = calloc(1, sizeof *n);
    if (!n)
        return NULL;
    *n = (struct node){.dev = st->st_dev, .ino = st->st_ino, .next = chains[chain]};
    pthread_mutex_init(&n->lock, NULL);
    chains[chain] = n;
    return n;
}

struct node *node_get(int fd, bool data, const struct handle *handle, const struct stat *st)
{
    size_t chain = chain_of(st->st_dev, st->st_ino);
    pthread_mutex_lock(&locks[chain % LOCKS]);
    struct node *known = find(chain, st), *n = known ? known : add(chain, st);
    if (n)
        n->refs++;
    if (n && !known)
        held_init(&n->kept, fd, data, handle);
    pthread_mutex_unlock(&locks[chain % LOCKS]);
    if (known && fd >= 0) /* else it is the new one's, or the caller's */
        close(fd);
    return n;
}

struct node *node_find(const struct stat *st)
{
    size_t chain = chain_of(st->st_dev, st->st_ino);
    pthread_mutex_lock(&locks[chain % LOCKS]);
    struct node *n = find(chain, st);
    if (n)
        n->refs++;
    pthread_mutex_unlock(&locks[chain % LOCKS]);
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
    held_close(&n->kept);
    pthread_mutex_destroy(&n->lock);
    free(n);
}
