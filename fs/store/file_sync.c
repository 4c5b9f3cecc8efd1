/* Durability of one file: marks, fsync, and what a rename over another file asks for. */
#include "fs/store/pd.h"
#include "fs/store/seal.h"

#include "latchfs/io.h"

#include <errno.h>
#include <string.h>

#define MARK_BYTES (1u + ID_BYTES + 8u)
#define MARKS_PER_ENTRY 1000u

void file_list_dirty(struct file *f)
{
    struct volume *v = f->n->vol;
    pthread_mutex_lock(&v->dirty_lock);
    bool fresh = !f->listed;
    if (fresh) {
        f->listed = true;
        f->dirty_next = v->dirty;
        v->dirty = f;
        if (v->dirty_count++ == 0)
            pthread_cond_signal(&v->flusher_wake);
    }
    pthread_mutex_unlock(&v->dirty_lock);
    if (fresh) { /* the caller is a user, so neither the file nor the node goes away before this */
        node_ref(f->n);
        pthread_mutex_lock(&f->n->file_lock);
        f->users++;
        pthread_mutex_unlock(&f->n->file_lock);
    }
}

bool file_is_pending(const struct file *f)
{
    return !overlay_is_empty(&f->ov) || f->first_seq || file_is_unsynced(f) || f->removed_from ||
           f->named[0].n || f->named[1].n || f->named[2].n;
}

static int mark_some(struct journal *j, const struct file_mark *marks, size_t count, uint64_t *seq)
{
    uint8_t items[MARKS_PER_ENTRY * MARK_BYTES];
    struct wcur c = wcur_over(items, sizeof items);
    uint64_t data_at, room = jentry_total((uint32_t)(count * MARK_BYTES), 0);
    for (size_t i = 0; i < count; i++)
        jitem_put_mark(&c, marks[i].f->hdr.file_id, marks[i].upto);
    int r = journal_reserve(j, room, true);
    if (r)
        return r == -EAGAIN ? -ENOSPC : r;
    struct jentry_new e = {.items = items, .item_bytes = (uint32_t)wcur_used(&c)};
    return journal_append(j, &e, room, seq, &data_at);
}

int file_mark(struct volume *v, const struct file_mark *marks, size_t count, uint64_t *seq)
{
    int r = 0;
    for (size_t i = 0; !r && i < count; i += MARKS_PER_ENTRY)
        r = mark_some(v->journal, marks + i, count - i < MARKS_PER_ENTRY ? count - i : MARKS_PER_ENTRY, seq);
    return r;
}

/* Marks the file (write lock held). */
static int mark_one(struct file *f, uint64_t upto, uint64_t *seq)
{
    const struct file_mark m = {f, upto};
    int r = file_mark(f->n->vol, &m, 1, seq);
    if (!r) {
        f->marked_seq = upto;
        f->mark_entry = *seq;
    }
    return r;
}

static int sync_placed(struct file *f, bool metadata)
{
    int fd, r = node_fd_get(f->n, false, &fd);
    if (r)
        return r;
    r = metadata ? io_fsync(fd) : io_fdatasync(fd);
    node_fd_put(f->n);
    if (r)
        volume_fail_readonly(f->n->vol, r, "syncing a file");
    return r;
}

int file_commit(struct file *f)
{
    struct volume *v = f->n->vol;
    uint64_t seq = f->last_seq > f->mark_entry ? f->last_seq : f->mark_entry;
    int r = 0;
    if (file_is_unsynced(f) || f->fresh_seq > f->marked_seq)
        r = sync_placed(f, false);
    if (r)
        return r;
    f->synced_gen = f->placed_gen;
    if (f->fresh_seq > f->marked_seq) {
        r = mark_one(f, f->fresh_seq, &seq);
    }
    if (!r && seq) {
        r = journal_sync(v->journal, seq);
        if (r)
            volume_fail_readonly(v, r, "syncing the journal");
    }
    return r;
}

int file_settle(struct node *n)
{
    struct file *f;
    int r = file_get(n, &f);
    if (r)
        return r;
    pthread_mutex_lock(&f->sync_lock); /* an fsync under way has cleared data_dirty and is not done */
    pthread_rwlock_wrlock(&f->lock);
    if (atomic_load(&n->data_dirty) && !file_is_unsynced(f))
        r = sync_placed(f, false);
    /* Neither asks for keys, which may have gone while entries stayed. */
    if (!r && !(r = file_commit(f)))
        r = file_apply(f);
    pthread_rwlock_unlock(&f->lock);
    pthread_mutex_unlock(&f->sync_lock);
    file_put(f);
    return r;
}

/* An entry with nothing but a hint; without it a replay walks the volume. path NULL: removed. */
static void note(struct file *f, const char *path)
{
    struct journal *j = f->n->vol->journal;
    uint8_t items[JENTRY_PATH_MAX + 8];
    struct wcur c = wcur_over(items, sizeof items);
    uint64_t seq, data_at, room;
    if (path)
        jitem_put_path(&c, path, strlen(path));
    else
        jitem_put_removed(&c);
    room = jentry_total((uint32_t)wcur_used(&c), 0);
    struct jentry_new e = {
        .file_id = f->hdr.file_id, .ino = f->n->ino, .items = items, .item_bytes = (uint32_t)wcur_used(&c)};
    if (journal_reserve(j, room, false) == 0)
        journal_append(j, &e, room, &seq, &data_at);
}

void file_removed(struct node *n, struct node *dir)
{
    seal_forget(n);
    struct file *f = file_peek(n);
    if (!f)
        return;
    pthread_rwlock_wrlock(&f->lock);
    if (file_is_pending(f) && !f->removed_from) {
        node_ref(dir);
        f->removed_from = dir;
    }
    if (f->last_seq)
        note(f, NULL);
    pthread_rwlock_unlock(&f->lock);
    file_put(f);
}

void file_renamed(struct node *n)
{
    char path[JENTRY_PATH_MAX + 1];
    struct file *f = file_peek(n);
    if (!f)
        return;
    pthread_rwlock_wrlock(&f->lock);
    if (f->last_seq && file_is_pending(f) && node_path(n, path, sizeof path) == 0)
        note(f, path);
    pthread_rwlock_unlock(&f->lock);
    file_put(f);
}

/* What fsync waits for, taken under the file's lock: nothing that comes later is covered. */
struct sync_point {
    uint64_t last, fresh, gen;
    bool placed;
};

static struct sync_point take_point(struct file *f)
{
    pthread_rwlock_wrlock(&f->lock);
    struct sync_point p = {f->last_seq > f->mark_entry ? f->last_seq : f->mark_entry,
                           f->fresh_seq > f->marked_seq ? f->fresh_seq : 0, f->placed_gen,
                           file_is_unsynced(f)};
    f->never_synced = false;
    pthread_rwlock_unlock(&f->lock);
    return p;
}

/* The sync that began after p is done. */
static int mark_point(struct file *f, const struct sync_point *p, uint64_t *seq)
{
    int r = 0;
    pthread_rwlock_wrlock(&f->lock);
    if (p->gen > f->synced_gen)
        f->synced_gen = p->gen;
    if (p->fresh > f->marked_seq) {
        r = mark_one(f, p->fresh, seq);
    }
    pthread_rwlock_unlock(&f->lock);
    return r;
}

static int sync_file(struct file *f, bool datasync)
{
    struct volume *v = f->n->vol;
    struct sync_point p = take_point(f);
    bool metadata = !datasync && atomic_exchange(&f->n->meta_dirty, false);
    bool before = atomic_exchange(&f->n->data_dirty, false);
    uint64_t seq = p.last;
    int r = p.placed || p.fresh || before || metadata ? sync_placed(f, metadata) : 0;
    if (!r)
        r = mark_point(f, &p, &seq);
    if (!r && seq) {
        r = journal_sync(v->journal, seq);
        if (r)
            volume_fail_readonly(v, r, "syncing the journal");
    }
    return r ? r : node_sync_path(f->n);
}

int file_fsync(struct node *n, bool datasync)
{
    struct volume *v = n->vol;
    struct file *f;
    VOLUME_CHANGE(v);
    int r = node_enter(n, true);
    if (r)
        return r;
    r = volume_check_writable(v);
    if (!r)
        r = file_get(n, &f);
    if (!r) {
        pthread_mutex_lock(&f->sync_lock);
        r = sync_file(f, datasync);
        pthread_mutex_unlock(&f->sync_lock);
        file_put(f);
    }
    volume_leave(v);
    return r;
}

int dir_fsync(struct node *dir)
{
    VOLUME_CHANGE(dir->vol);
    int r = node_enter(dir, true);
    if (r)
        return r;
    r = volume_check_writable(dir->vol);
    if (!r)
        r = node_sync_path(dir);
    volume_leave(dir->vol);
    return r;
}
