#include "fs/store/newdirs.h"

#include "fs/store/tree.h"
#include "latchfs/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#define NEWDIRS_MAX 8192u
#define NEWDIRS_HURRY 2048u /* then the flusher does not wait for its time */

struct newdirs {
    struct node *dir[NEWDIRS_MAX];
    size_t count;
};

struct newdirs *newdirs_new(void)
{
    return calloc(1, sizeof(struct newdirs));
}

void newdirs_free(struct newdirs *l)
{
    for (size_t i = 0; l && i < l->count; i++)
        node_unref(l->dir[i], 1);
    free(l);
}

size_t newdirs_count(const struct newdirs *l)
{
    return l ? l->count : 0;
}

bool newdirs_have_room(struct volume *v)
{
    pthread_mutex_lock(&v->dirty_lock);
    bool room = v->newdirs && v->newdirs->count < NEWDIRS_MAX;
    pthread_mutex_unlock(&v->dirty_lock);
    return room;
}

void newdirs_add(struct node *dir, enum newdir_state state)
{
    struct volume *v = dir->vol;
    struct newdirs *l = v->newdirs;
    pthread_mutex_lock(&v->dirty_lock);
    if (l && l->count < NEWDIRS_MAX && dir->newdir == NEWDIR_NONE) {
        dir->newdir = (uint8_t)state;
        node_ref(dir);
        l->dir[l->count++] = dir;
        v->flusher_hurry = v->flusher_hurry || l->count == NEWDIRS_HURRY;
        if (l->count == 1 || l->count == NEWDIRS_HURRY)
            pthread_cond_signal(&v->flusher_wake);
    }
    pthread_mutex_unlock(&v->dirty_lock);
}

/* The youngest is the likeliest. */
bool newdirs_drop(struct node *dir)
{
    struct volume *v = dir->vol;
    struct newdirs *l = v->newdirs;
    bool found = false;
    if (!l || dir->newdir == NEWDIR_NONE)
        return false;
    pthread_mutex_lock(&v->dirty_lock);
    for (size_t i = l->count; i > 0 && !found; i--)
        if (l->dir[i - 1] == dir) {
            l->dir[i - 1] = l->dir[--l->count];
            dir->newdir = NEWDIR_NONE;
            found = true;
        }
    pthread_mutex_unlock(&v->dirty_lock);
    if (found)
        node_unref(dir, 1);
    return found;
}

/* ---- for a checkpoint ---- */

static void forget(struct newdirs_round *round, size_t i)
{
    node_unref(round->dir[i], 1);
    round->dir[i] = round->dir[--round->count];
}

/* What can't be mended keeps its copy. */
static void mend(struct newdirs_round *round, const uint8_t *state)
{
    for (size_t i = round->count; i > 0; i--)
        if (state[i - 1] == NEWDIR_FOUND && record_mend(round->dir[i - 1]))
            forget(round, i - 1);
}

void newdirs_begin(struct volume *v, struct newdirs_round *round)
{
    struct newdirs *l = v->newdirs;
    uint8_t state[NEWDIRS_MAX];
    *round = (struct newdirs_round){0};
    if (!l)
        return;
    pthread_mutex_lock(&v->dirty_lock);
    size_t n = l->count;
    round->dir = n ? malloc(n * sizeof *round->dir) : NULL;
    for (size_t i = 0; round->dir && i < n; i++) {
        round->dir[i] = l->dir[i];
        state[i] = l->dir[i]->newdir;
        l->dir[i]->newdir = NEWDIR_NONE;
    }
    if (round->dir) {
        round->count = n;
        l->count = 0;
    }
    pthread_mutex_unlock(&v->dirty_lock);
    if (round->dir)
        mend(round, state);
}

/* One that is gone needs nothing; 1: it can't be synced alone. */
static int sync_record(struct volume *v, struct node *dir)
{
    int fd, r = node_fd_get(dir, false, &fd);
    if (r)
        return 1;
    AUTO_CLOSE int record = fd_openat(v, fd, DIRREC_NAME, O_RDONLY | O_NONBLOCK, 0);
    r = record < 0 ? 1 : io_fdatasync(record);
    node_fd_put(dir);
    return r;
}

int newdirs_sync(struct volume *v, struct newdirs_round *round)
{
    int r = 0;
    for (size_t i = round->count; !r && i > 0; i--) {
        r = sync_record(v, round->dir[i - 1]);
        if (r > 0) {
            forget(round, i - 1);
            r = 0;
        }
    }
    return r;
}

void newdirs_end(struct volume *v, struct newdirs_round *round, bool done)
{
    for (size_t i = 0; i < round->count; i++) {
        struct node *dir = round->dir[i];
        int fd;
        if (done && !atomic_load(&dir->removed) && node_fd_get(dir, false, &fd) == 0) {
            copy_drop(v, fd);
            node_fd_put(dir);
        }
        node_unref(dir, 1);
    }
    free(round->dir);
    *round = (struct newdirs_round){0};
}
