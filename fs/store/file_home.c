#include "fs/store/file_home.h"
#include "fs/store/share.h"
#include "fs/store/tree.h"
#include "fs/store/txn.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define HOME_RESERVE UINT64_C(4096)
#define MOVED_MAX 4096u

static bool is_bound(const struct file_header *h)
{
    return !sodium_is_zero(h->home[0], ID_BYTES);
}

static bool names(const struct file_header *h, const uint8_t dir[static ID_BYTES])
{
    for (unsigned i = 0; i < HEADER_HOMES; i++)
        if (memcmp(h->home[i], dir, ID_BYTES) == 0)
            return true;
    return false;
}

/* The id of the directory of the known place; false if there is none, or only a grave, which is nobody's
 * home.
 */
static bool home_known(struct node *n, uint8_t id[static ID_BYTES])
{
    pthread_rwlock_rdlock(&n->vol->tree_lock);
    const struct node *parent = n->parent;
    bool known = parent && parent->dir_loaded && !tmp_is_name(n->stored) && share_place_holds(n);
    if (known)
        memcpy(id, parent->dir_id, ID_BYTES);
    pthread_rwlock_unlock(&n->vol->tree_lock);
    return known;
}

int home_check(struct node *n, const struct file_header *h)
{
    uint8_t id[ID_BYTES];
    return is_bound(h) && home_known(n, id) && !names(h, id) ? LFS_ERR_AUTH : 0;
}

/* ---- moves ---- */

/* A file that is not bound stays so, and one with more directories than there is room for is bound no longer.
 */
static void add_home(struct file_header *h, const uint8_t dir[static ID_BYTES])
{
    unsigned i = 0;
    if (!is_bound(h) || names(h, dir))
        return;
    while (i < HEADER_HOMES && !sodium_is_zero(h->home[i], ID_BYTES))
        i++;
    if (i < HEADER_HOMES)
        memcpy(h->home[i], dir, ID_BYTES);
    else
        memset(h->home, 0, sizeof h->home);
}

/* The header that names both, durable (write lock held, with *reserved bytes of the journal). What it names
 * already stays: renames before this one may not be on disk yet. */
static int name_home(struct file *f, const uint8_t *from, const uint8_t to[static ID_BYTES],
                     uint64_t *reserved)
{
    struct file_header h = f->hdr;
    struct txn t;
    int r;
    if (from)
        add_home(&h, from);
    add_home(&h, to);
    if (memcmp(h.home, f->hdr.home, sizeof h.home) == 0)
        return 0;
    txn_begin(&t, f);
    txn_header_as_is(&t, &h);
    r = file_commit_header(&t, &h, reserved);
    /* A replay must come as far as this entry. */
    if (!r && f->fresh_seq > f->marked_seq)
        return file_commit(f);
    if (!r && (r = journal_sync(f->n->vol->journal, t.seq)) != 0)
        volume_fail_readonly(f->n->vol, r, "syncing the journal");
    return r;
}

/* An empty file has no header to say it: one that is made while it moves is not bound. */
static int move_locked(struct home_move *m, struct file *f, const uint8_t *from,
                       const uint8_t to[static ID_BYTES], uint64_t *reserved)
{
    if (f->state != CONTENT_NONE)
        return name_home(f, from, to, reserved);
    atomic_fetch_add(&f->n->moving, 1);
    m->n = f->n;
    return 0;
}

static int move_file(struct home_move *m, struct node *n, const uint8_t *from,
                     const uint8_t to[static ID_BYTES])
{
    uint64_t reserved = HOME_RESERVE;
    struct file *f;
    int r = file_get(n, &f);
    if (r)
        return r;
    r = file_reserve(n->vol, reserved);
    reserved = r ? 0 : reserved;
    pthread_mutex_lock(&f->sync_lock);
    if (!r)
        r = file_lock_write(f);
    if (!r) {
        r = move_locked(m, f, from, to, &reserved);
        file_unlock(f);
    }
    pthread_mutex_unlock(&f->sync_lock);
    if (reserved)
        journal_unreserve(n->vol->journal, reserved);
    file_put(f);
    return r;
}

/* ---- afterwards ---- */

/* The node if it is in memory, with a reference. */
static struct node *home_node(struct volume *v, struct home_moved m)
{
    const struct stat st = {.st_dev = m.dev, .st_ino = m.ino, .st_mode = S_IFREG, .st_nlink = 1};
    return node_find(v, &st);
}

/* By number: a reference would keep what is removed meanwhile. Best effort: a file that is not remembered
 * keeps the directory it came from. */
void home_remember(struct node *n)
{
    struct volume *v = n->vol;
    pthread_mutex_lock(&v->moved_lock);
    if (!v->moved)
        v->moved = calloc(MOVED_MAX, sizeof *v->moved);
    if (v->moved && !n->moved && v->moved_count < MOVED_MAX) {
        v->moved[v->moved_count++] = (struct home_moved){n->dev, n->ino};
        n->moved = true;
    }
    pthread_mutex_unlock(&v->moved_lock);
}

/* The node may be another than the one that moved. */
static bool is_remembered(struct node *n)
{
    struct volume *v = n->vol;
    pthread_mutex_lock(&v->moved_lock);
    bool found = n->moved || v->moved_count == MOVED_MAX;
    for (size_t i = 0; !found && i < v->moved_count; i++)
        found = v->moved[i].ino == n->ino && v->moved[i].dev == n->dev;
    pthread_mutex_unlock(&v->moved_lock);
    return found;
}

bool home_moved_many(struct volume *v)
{
    pthread_mutex_lock(&v->moved_lock);
    bool many = v->moved_count >= MOVED_MAX / 4;
    pthread_mutex_unlock(&v->moved_lock);
    return many;
}

struct node **home_take_moved(struct volume *v, size_t *count)
{
    *count = 0;
    pthread_mutex_lock(&v->move_lock); /* what is on its way is there before the sync that is to cover it */
    pthread_mutex_lock(&v->moved_lock);
    struct node **list = calloc(v->moved_count + 1, sizeof *list);
    for (size_t i = 0; list && i < v->moved_count; i++)
        if ((list[*count] = home_node(v, v->moved[i])) != NULL)
            list[(*count)++]->moved = false;
    v->moved_count = list ? 0 : v->moved_count;
    pthread_mutex_unlock(&v->moved_lock);
    pthread_mutex_unlock(&v->move_lock);
    return list;
}

/* The header names the one directory that the file is in (write lock held). */
static int settle_locked(struct file *f, uint64_t *reserved)
{
    struct file_header h = f->hdr;
    struct txn t;
    struct stat st;
    uint8_t here[ID_BYTES];
    int fd, r = 1;
    if (f->state != CONTENT_NONE && home_known(f->n, here))
        r = node_fd_get(f->n, false, &fd);
    if (r)
        return r;
    r = fstat(fd, &st) ? -errno : st.st_nlink != 1;
    node_fd_put(f->n);
    if (r)
        return r;
    memset(h.home, 0, sizeof h.home);
    memcpy(h.home[0], here, ID_BYTES);
    if (memcmp(h.home, f->hdr.home, sizeof h.home) == 0)
        return 1;
    txn_begin(&t, f);
    txn_header_as_is(&t, &h);
    return file_commit_header(&t, &h, reserved);
}

static bool settle(struct node *n)
{
    uint64_t reserved = HOME_RESERVE;
    struct file *f;
    if (atomic_load(&n->moving) || is_remembered(n) || atomic_load(&n->removed) || file_get(n, &f))
        return false;
    int r = file_reserve(n->vol, reserved);
    reserved = r ? 0 : reserved;
    if (!r && !(r = file_lock_write(f))) {
        r = settle_locked(f, &reserved);
        file_unlock(f);
    }
    if (reserved)
        journal_unreserve(n->vol->journal, reserved);
    file_put(f);
    return r == 0;
}

bool home_settle_moved(struct volume *v, struct node **list, size_t count, bool durable)
{
    bool changed = false;
    for (size_t i = 0; i < count; i++) {
        pthread_mutex_lock(&v->move_lock);
        if (durable)
            changed = settle(list[i]) || changed;
        else
            home_remember(list[i]);
        pthread_mutex_unlock(&v->move_lock);
        node_unref(list[i], 1);
    }
    free(list);
    return changed;
}

/* ---- public ---- */

/* What moved lately may be found at its old place after a power cut. */
void home_of_birth(struct file *f, int fd, struct file_header *h)
{
    struct stat st;
    uint8_t id[ID_BYTES];
    if (!atomic_load(&f->n->moving) && !is_remembered(f->n) && fstat(fd, &st) == 0 && st.st_nlink == 1 &&
        home_known(f->n, id))
        memcpy(h->home[0], id, ID_BYTES);
}

int home_move_begin(struct home_move *m, struct node *n, const uint8_t *from,
                    const uint8_t to[static ID_BYTES])
{
    *m = (struct home_move){NULL};
    if (!S_ISREG(n->type))
        return 0;
    home_remember(n);
    int r = move_file(m, n, from, to);
    /* What can't be read for what it is keeps its damage, wherever it goes. */
    return r == LFS_ERR_CORRUPT || r == LFS_ERR_AUTH || r == LFS_ERR_ROLLBACK || r == LFS_ERR_UNSUPPORTED ? 0
                                                                                                          : r;
}

void home_unlink_begin(struct node *n)
{
    atomic_fetch_add(&n->moving, 1);
    home_remember(n);
}

/* Again: a checkpoint may have taken the list between the two, too early for the name that went. */
void home_unlink_end(struct node *n)
{
    home_remember(n);
    atomic_fetch_sub(&n->moving, 1);
}

void home_move_end(struct home_move *m)
{
    if (m->n)
        atomic_fetch_sub(&m->n->moving, 1);
    m->n = NULL;
}
