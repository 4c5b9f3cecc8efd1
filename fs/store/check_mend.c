/* Repairs of regular files, when all that can be known about one is known. */
#include "fs/store/check_int.h"
#include "fs/store/txn.h"
#include "latchfs/layout.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- changing a file that can't be loaded as usual ---- */

struct mending {
    struct check *c;
    struct check_item *item;
    struct hit *hit;
    size_t count;
};

int check_change_file(struct check *c, struct node *n, check_change_fn fn, const void *arg)
{
    struct volume *v = c->v;
    struct file *f;
    VOLUME_CHANGE(v);
    int r = volume_enter(v, true);
    if (r)
        return r;
    file_forget_idle(n);
    r = file_get(n, &f);
    if (!r) {
        uint64_t reserved = 0;
        r = file_reserve(v, FILE_RESERVE);
        reserved = r ? 0 : FILE_RESERVE;
        if (!r)
            r = file_lock_mend(f);
        if (!r) {
            r = fn(f, arg, &reserved);
            file_unlock(f);
        }
        thread_forget_key();
        if (reserved)
            journal_unreserve(v->journal, reserved);
        file_put(f);
    }
    volume_leave(v);
    return r;
}

static int cut(struct file *f, const void *size, uint64_t *reserved)
{
    return file_truncate_locked(f, *(const uint64_t *)size, reserved);
}

static int open_seal(struct file *f, const void *arg, uint64_t *reserved)
{
    struct file_header h = f->hdr;
    struct txn t;
    txn_begin(&t, f);
    txn_header(&t, &h);
    return file_commit_header(&t, &h, reserved);
}

static int nothing(struct file *f, const void *arg, uint64_t *reserved)
{
    return 0;
}

/* ---- the ways ---- */

#define MOVE_TEXT "move it to lost+found"

/* Locking it is enough: what was never committed goes then. */
static int mend_tail(struct mending *m, struct hit *h)
{
    return check_change_file(m->c, m->item->n, nothing, NULL);
}

static int mend_zero_page(struct mending *m, struct hit *h)
{
    return file_truncate(m->item->n, 0);
}

/* No key opens what has no header; an older copy of its first page may. */
static int mend_bury(struct mending *m, struct hit *h)
{
    struct check_item *item = m->item;
    return item->dir ? lost_bury(m->c, item->dir, item->stored, &h->moved_to) : -ESTALE;
}

/* What is there of the last chunk does not open. */
static uint64_t whole_chunks(const struct hit *h)
{
    return h->offset - h->offset % PAGE_BYTES;
}

static int mend_short(struct mending *m, struct hit *h)
{
    uint64_t size = whole_chunks(h);
    return check_change_file(m->c, m->item->n, cut, &size);
}

/* A hole, or a chunk that no key opens; where the system failed to read, a later try may succeed. */
static bool is_lost(int why)
{
    return why > 0 || why < -4096;
}

/* Nothing is cut on the strength of an earlier look alone: every chunk from there on is tried once more. */
static int cut_unreadable(struct file *f, const void *arg, uint64_t *reserved)
{
    uint64_t size = *(const uint64_t *)arg, chunks = layout_chunks(file_size(f)), next;
    int why[GROUP_RECORDS], fd, r = node_fd_get(f->n, false, &fd);
    if (r)
        return r;
    for (uint64_t chunk = size / PAGE_BYTES; !r && chunk < chunks; chunk = next) {
        next = layout_group_next(chunk) < chunks ? layout_group_next(chunk) : chunks;
        r = file_verify_chunks(f, fd, chunk, (uint32_t)(next - chunk), why);
        for (uint64_t i = 0; !r && i < next - chunk; i++)
            r = is_lost(why[i]) ? 0 : -EAGAIN;
    }
    node_fd_put(f->n);
    return r ? r : file_truncate_locked(f, size, reserved);
}

/* The first byte behind everything that can be read. */
static uint64_t good_end(const struct mending *m)
{
    return atomic_load(&m->item->last_good) * PAGE_BYTES;
}

static int mend_cut(struct mending *m, struct hit *h)
{
    uint64_t end = good_end(m);
    int r = check_change_file(m->c, m->item->n, cut_unreadable, &end);
    for (size_t i = 0; !r && i < m->count; i++)
        if (m->hit[i].kind == CHECK_BAD_CHUNK && m->hit[i].offset >= end)
            m->hit[i].repaired = true;
    return r;
}

static const char *last_name(const char *path)
{
    const char *slash = path ? strrchr(path, '/') : NULL;
    return slash ? slash + 1 : path;
}

static bool is_unreadable(enum check_kind kind)
{
    return kind == CHECK_BAD_HEADER || kind == CHECK_BAD_LENGTH || kind == CHECK_BAD_CHUNK ||
           kind == CHECK_WRONG_DIRECTORY || kind == CHECK_BAD_SEAL;
}

/* All that is left goes with it. A file in lost+found can be read as far as it can be: no seal is asked. */
static int settle_moved(struct mending *m, const char *used)
{
    char *to = NULL;
    bool seal = false;
    const char *top = m->item->top_plain ? m->item->top_plain : "";
    if (asprintf(&to, "%s%s" LOST_NAME "/%s", top, *top ? "/" : "", used) < 0)
        return -ENOMEM;
    for (size_t i = 0; i < m->count; i++) {
        struct hit *h = &m->hit[i];
        if (h->repaired || !is_unreadable(h->kind))
            continue;
        h->repaired = true;
        h->repair = MOVE_TEXT;
        h->moved_to = strdup(to);
        seal = seal || h->kind == CHECK_BAD_SEAL;
    }
    free(to);
    return seal ? check_change_file(m->c, m->item->n, open_seal, NULL) : 0;
}

static int mend_move(struct mending *m, struct hit *h)
{
    struct check_item *item = m->item;
    struct check *c = m->c;
    char used[NAME_PLAIN_MAX + 1], now[NAME_CIPHER_MAX + 1];
    struct node *lost;
    int r = item->top && item->dir ? lost_dir(item->top, &lost) : LFS_ERR_NOKEY;
    if (r)
        return r;
    r = lost_rename(c, item->dir, item->stored, lost, item->plain ? last_name(item->plain) : item->stored,
                    used, now);
    node_unref(lost, 1);
    if (r)
        return r;
    pthread_mutex_lock(&c->lock);
    inode_set_add(&c->moved, item->n->ino);
    pthread_mutex_unlock(&c->lock);
    return settle_moved(m, used);
}

/* ---- the table ---- */

static bool can_cut_short(const struct mending *m, const struct hit *h)
{
    return h->length && whole_chunks(h);
}

/* From the last chunk that can be read to the end nothing can. */
static bool can_cut(const struct mending *m, const struct hit *h)
{
    for (size_t i = 0; i < m->count; i++)
        if (m->hit[i].kind == CHECK_IO)
            return false;
    return !m->item->resumed && !m->item->bad_more && good_end(m) && h->offset >= good_end(m);
}

/* Under another name it would still stand where it is. */
static bool can_move(const struct mending *m, const struct hit *h)
{
    return !m->item->lost && m->item->links == 1;
}

static bool is_empty(const struct mending *m, const struct hit *h)
{
    return h->severity != CHECK_DAMAGE;
}

static bool has_more(const struct mending *m, const struct hit *h)
{
    return h->severity == CHECK_DAMAGE && can_move(m, h);
}

static bool always(const struct mending *m, const struct hit *h)
{
    return true;
}

static const struct fix {
    enum check_kind kind;
    unsigned flags; /* of the options, beside CHECK_REPAIR */
    const char *what;
    bool (*can)(const struct mending *m, const struct hit *h);
    int (*run)(struct mending *m, struct hit *h);
} fixes[] = {
    {CHECK_TAIL, 0, "cut what was never committed", always, mend_tail},
    {CHECK_ZERO_PAGE, 0, "make it an empty file", is_empty, mend_zero_page},
    {CHECK_BAD_LENGTH, CHECK_CUT_TAILS, "cut it where it ends", can_cut_short, mend_short},
    {CHECK_BAD_CHUNK, CHECK_CUT_TAILS, "cut it before what can't be read", can_cut, mend_cut},
    {CHECK_ZERO_PAGE, CHECK_LOST_FOUND, "move it away", has_more, mend_bury},
    {CHECK_BAD_HEADER, CHECK_LOST_FOUND, MOVE_TEXT, can_move, mend_move},
    {CHECK_BAD_LENGTH, CHECK_LOST_FOUND, MOVE_TEXT, can_move, mend_move},
    {CHECK_BAD_CHUNK, CHECK_LOST_FOUND, MOVE_TEXT, can_move, mend_move},
    {CHECK_WRONG_DIRECTORY, CHECK_LOST_FOUND, MOVE_TEXT, can_move, mend_move},
    {CHECK_BAD_SEAL, CHECK_LOST_FOUND, "move it to lost+found and open its seal", can_move, mend_move},
};
#define FIXES (sizeof fixes / sizeof fixes[0])

static void mend(struct mending *m, const struct fix *x, struct hit *h)
{
    const struct check *c = m->c;
    if (h->repaired || x->kind != h->kind || !x->can(m, h))
        return;
    h->repair = h->repair ? h->repair : x->what;
    if (!c->repairs || !m->item->keyed || atomic_load(&m->item->partial) ||
        (c->o->flags & x->flags) != x->flags || x->run(m, h))
        return;
    h->repair = x->what;
    h->repaired = true;
}

/* In lost+found damage is known: it is told, but no longer alarms. */
void check_mend_file(struct check *c, struct check_item *item, struct hit *hit, size_t count)
{
    struct mending m = {c, item, hit, count};
    for (size_t x = 0; x < FIXES; x++)
        for (size_t i = 0; i < count; i++)
            mend(&m, &fixes[x], &hit[i]);
    for (size_t i = 0; item->lost && i < count; i++)
        if (hit[i].severity == CHECK_DAMAGE && !hit[i].repaired)
            hit[i].severity = CHECK_WARNING;
}
