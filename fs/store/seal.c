/* Making, opening and checking seals. */
#include "fs/store/seal.h"
#include "fs/store/pd.h"
#include "fs/store/share.h"
#include "fs/store/txn.h"

#include "latchfs/io.h"
#include "latchfs/layout.h"
#include "latchfs/log.h"

#include <errno.h>
#include <limits.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define SEAL_RESERVE UINT64_C(4096)
#define ROOT_BYTES 32u
#define LOCK_FILES 1024u               /* sealed before keys go, at most */
#define LOCK_PAGES UINT64_C(4096)      /* read for that */
#define ALL_PAGES (UINT64_C(64) << 10) /* read by volume_seal_all: 32 GiB of files */
#define NOT_NOW 1000                   /* the file changed, or is not to be sealed any more */

/* ---- sealing one file ---- */

struct sealing {
    struct seal_waiter *w;
    struct seal_turn *t;
    struct file *f;
    struct seal_run *run;
    uint64_t gen; /* f->placed_gen when the run began */
    bool hashed, done;
    bool misfit; /* what it had was not what its last seal spoke of: a seal that says so */
};

/* Everything of the file is in place, as it was when the run began. */
static bool is_still(const struct sealing *s)
{
    const struct file *f = s->f;
    return seal_is_wanted(f) && overlay_is_empty(&f->ov) && !f->first_seq && f->placed_gen == s->gen;
}

/* It is not known whether everything is on disk. What comes later changes placed_gen. */
static int sync_found(struct sealing *s)
{
    int fd, r = node_fd_get(s->f->n, false, &fd);
    if (r)
        return r;
    r = io_fdatasync(fd);
    node_fd_put(s->f->n);
    if (r)
        volume_fail_readonly(s->f->n->vol, r, "syncing a file");
    return r;
}

static int begin(struct sealing *s)
{
    int r = file_get(s->w->n, &s->f);
    if (!r)
        r = file_lock_read(s->f);
    if (r)
        return r;
    s->gen = s->f->placed_gen;
    bool synced = s->w->synced && !file_is_unsynced(s->f);
    s->run = is_still(s) ? seal_run_new(s->f) : NULL;
    uint64_t reads = s->run ? seal_run_reads(s->run, s->f) : 0;
    r = s->run && reads <= s->t->pages ? 0 : NOT_NOW;
    s->t->pages -= r ? 0 : reads;
    file_unlock(s->f);
    return r || synced ? r : sync_found(s);
}

/* What was sealed before is asked first. */
static int hash(struct sealing *s)
{
    int fd, r = file_lock_read(s->f);
    if (r)
        return r;
    r = is_still(s) ? node_fd_get(s->f->n, false, &fd) : NOT_NOW;
    if (!r) {
        r = seal_later_some(s->f, fd);
        s->misfit = r == LFS_ERR_AUTH;
        if (r == 0)
            r = seal_run_some(s->run, s->f, fd, true);
        s->hashed = r == 0 || s->misfit;
        r = r < 0 && !s->misfit ? r : 0;
        node_fd_put(s->f->n);
    }
    file_unlock(s->f);
    return r;
}

/* The header goes in place later: better to know now whether it can. */
static int commit_locked(struct sealing *s, uint64_t *reserved)
{
    struct file *f = s->f;
    struct file_header h = f->hdr;
    struct txn t;
    int fd, r = is_still(s) ? node_fd_get(f->n, true, &fd) : NOT_NOW;
    if (r)
        return r;
    node_fd_put(f->n);
    if (s->misfit)
        memset(h.seal_root, 0, sizeof h.seal_root);
    else
        seal_run_root(s->run, h.seal_root);
    h.seal_state = SEAL_SEALED;
    h.seal_generation++;
    txn_begin(&t, f);
    txn_header_as_is(&t, &h);
    r = file_commit_header(&t, &h, reserved);
    if (r)
        return r;
    f->seal_misfit = false;
    f->seal_asked = false;
    s->t->sealed++;
    atomic_fetch_add(&f->n->vol->seals, 1);
    return 0;
}

static int commit(struct sealing *s)
{
    struct volume *v = s->f->n->vol;
    uint64_t reserved = SEAL_RESERVE;
    int r = file_reserve(v, reserved);
    if (r)
        return r;
    r = file_lock_write(s->f);
    if (!r) {
        r = commit_locked(s, &reserved);
        file_unlock(s->f);
    }
    if (reserved)
        journal_unreserve(v->journal, reserved);
    s->done = true;
    return r;
}

static int step(struct sealing *s)
{
    struct volume *v = s->w->n->vol;
    int r = node_enter(s->w->n, true);
    if (r)
        return r;
    r = volume_check_writable(v);
    if (!r)
        r = !s->f ? begin(s) : !s->hashed ? hash(s) : commit(s);
    volume_leave(v);
    return r;
}

static int seal_one(struct seal_waiter *w, struct seal_turn *t)
{
    struct sealing s = {.w = w, .t = t};
    int r = 0;
    while (!r && !s.done) {
        r = step(&s);
        if (!r && !s.done && t->go_on && !t->go_on(w->n->vol))
            r = -EINTR;
    }
    seal_run_free(s.run);
    if (s.f)
        file_put(s.f);
    return r;
}

/* ---- turns ---- */

/* Errors of one file, which others do not have. */
static bool is_of_file(int r)
{
    return r == NOT_NOW || r < -4095 || r == -ESTALE || r == -ENOENT || r == -EACCES || r == -EPERM ||
           r == -EIO || r == -EMFILE || r == -ENFILE;
}

static void drop(struct seal_waiter *list)
{
    for (struct seal_waiter *next; list; list = next) {
        next = list->next;
        seal_waiter_free(list);
    }
}

/* A journal that was put back from before must not undo what is sealed now: see docs/FORMAT.md, "Seal". Files
 * that were idle have had nothing in the journal for some seconds. */
static int new_generation(struct volume *v, const struct seal_turn *t)
{
    int64_t now = seal_now();
    if (t->before < v->seal_raised && v->seal_raised <= now)
        return 0;
    int r = volume_enter(v, true);
    if (r)
        return r;
    r = volume_check_writable(v);
    if (!r)
        r = journal_raise(v->journal, journal_generation(v->journal));
    if (r && journal_error(v->journal))
        volume_fail_readonly(v, r, "syncing the journal");
    v->seal_raised = r ? v->seal_raised : now;
    volume_leave(v);
    return r;
}

int seal_run_turn(struct volume *v, struct seal_turn *t)
{
    VOLUME_CHANGE(v);
    int r = 0;
    pthread_mutex_lock(&v->seal_lock);
    struct seal_waiter *list = seal_take(v, t);
    if (list)
        r = new_generation(v, t);
    while (!r && list) {
        struct seal_waiter *w = list;
        r = seal_one(w, t);
        if (is_of_file(r))
            r = 0;
        if (r)
            break;
        list = w->next;
        seal_waiter_free(w);
    }
    if (r == -EINTR)
        seal_put_back(v, list);
    else
        drop(list);
    pthread_mutex_unlock(&v->seal_lock);
    return r;
}

/* The flusher, if it is at it, gives way. */
static int turn_now(struct volume *v, struct seal_turn *t)
{
    if (volume_check_writable(v) || !seal_is_on(v))
        return 0;
    atomic_fetch_add(&v->seal_asked, 1);
    int r = seal_run_turn(v, t);
    atomic_fetch_sub(&v->seal_asked, 1);
    checkpoint_look(v);
    return r;
}

int volume_seal_all(struct volume *v)
{
    struct seal_turn t = {.before = INT64_MAX, .files = SIZE_MAX, .pages = ALL_PAGES};
    return turn_now(v, &t);
}

void seal_before_lock(struct volume *v, const struct pd *only)
{
    struct seal_turn t = {.only = only, .before = INT64_MAX, .files = LOCK_FILES, .pages = LOCK_PAGES};
    if (share_join(v))
        turn_now(v, &t); /* what is not sealed now will be another time */
    share_leave(v);
}

/* ---- opening ---- */

int seal_lets_fresh(struct file *f, uint32_t n, bool *fresh)
{
    if (f->hdr.seal_state == SEAL_SEALED || (f->opened_seq && n < FRESH_RUN)) {
        *fresh = false;
        return 0;
    }
    int r = f->opened_seq ? journal_sync(f->n->vol->journal, f->opened_seq) : 0;
    if (r)
        volume_fail_readonly(f->n->vol, r, "syncing the journal");
    else
        f->opened_seq = 0;
    return r;
}

/* ---- checking ---- */

static int say_broken(struct file *f)
{
    char path[JENTRY_PATH_MAX + 1];
    if (!atomic_exchange(&f->n->seal_broken, true))
        log_error("the seal of %s is broken: its records are not the last ones",
                  node_path(f->n, path, sizeof path) ? "a file" : path);
    return LFS_ERR_AUTH;
}

int seal_compare(struct file *f, struct seal_run *run, const uint8_t root[static 32])
{
    uint8_t found[ROOT_BYTES];
    seal_run_root(run, found);
    return sodium_memcmp(found, root, ROOT_BYTES) == 0 ? 0 : say_broken(f);
}

int seal_check_loaded(struct file *f, int fd, const uint8_t *page)
{
    struct volume *v = f->n->vol;
    f->seal_unfit = false;
    if (f->hdr.seal_state != SEAL_SEALED || f->state != CONTENT_PAGED || v->opt.salvage)
        return 0;
    struct seal_run *run = seal_run_new(f);
    int r = run ? 0 : -ENOMEM;
    f->seal_asked = false;
    if (!r && page)
        seal_run_first_page(run, page);
    if (!r && seal_run_reads(run, f) <= SEAL_OPEN_PAGES) {
        while ((r = seal_run_some(run, f, fd, false)) > 0)
            ;
        r = r ? r : seal_compare(f, run, f->hdr.seal_root);
        f->seal_asked = r == 0;
    }
    seal_run_free(run);
    f->seal_unfit = r == LFS_ERR_AUTH && v->journal_lost;
    return f->seal_unfit ? 0 : r;
}

/* Best effort: nothing may be waited for while a file is loaded. */
void seal_give_up(struct file *f)
{
    struct volume *v = f->n->vol;
    struct file_header h = f->hdr;
    uint64_t reserved = SEAL_RESERVE;
    struct txn t;
    f->seal_unfit = false;
    if (volume_check_writable(v) || !freeze_try(v))
        return;
    if (journal_reserve(v->journal, reserved, false) == 0) {
        txn_begin(&t, f);
        txn_header(&t, &h);
        file_commit_header(&t, &h, &reserved); /* else the next one who loads the file tries again */
    }
    freeze_leave(v);
}

int seal_check_change(struct file *f)
{
    struct volume *v = f->n->vol;
    int fd;
    if (f->hdr.seal_state != SEAL_SEALED || f->seal_asked || f->state != CONTENT_PAGED || v->journal_lost ||
        v->opt.salvage)
        return 0;
    if (sodium_is_zero(f->hdr.seal_root, ROOT_BYTES)) /* found out by seal_later.c */
        return say_broken(f);
    struct seal_run *run = seal_run_new(f);
    /* On a shared volume what was put off would be forgotten with the turn. */
    bool later = run && seal_is_on(v) && !v->share && seal_run_reads(run, f) > SEAL_NOW_PAGES &&
                 seal_later_begin(f) == 0;
    int r = !run ? -ENOMEM : later ? 0 : node_fd_get(f->n, false, &fd);
    f->seal_asked = f->seal_asked || later;
    if (!r && !later) {
        while ((r = seal_run_some(run, f, fd, true)) > 0)
            ;
        r = r ? r : seal_compare(f, run, f->hdr.seal_root);
        f->seal_asked = r == 0;
        node_fd_put(f->n);
    }
    seal_run_free(run);
    return r;
}

struct verifying {
    struct file *f;
    struct seal_run *run;
    uint64_t generation; /* of the seal that the run is about */
    bool sealed;
};

/* A seal that was opened and made anew meanwhile is another one. 1: there is more. */
static int verify_locked(struct verifying *y, int fd)
{
    struct file *f = y->f;
    y->sealed = f->state == CONTENT_PAGED && f->hdr.seal_state == SEAL_SEALED;
    if (!y->sealed)
        return 0;
    if (y->run && y->generation != f->hdr.seal_generation) {
        seal_run_free(y->run);
        y->run = NULL;
    }
    if (!y->run && !(y->run = seal_run_new(f)))
        return -ENOMEM;
    y->generation = f->hdr.seal_generation;
    int r = seal_run_some(y->run, f, fd, false);
    return r ? r : seal_compare(f, y->run, f->hdr.seal_root);
}

static int verify_some(struct verifying *y)
{
    int fd, r = file_lock_read(y->f);
    if (r)
        return r;
    r = node_fd_get(y->f->n, false, &fd);
    if (!r) {
        r = verify_locked(y, fd);
        node_fd_put(y->f->n);
    }
    file_unlock(y->f);
    return r;
}

int file_verify_seal(struct node *n, bool *sealed)
{
    struct verifying y = {0};
    int r;
    do {
        r = node_enter(n, false);
        if (r)
            break;
        r = y.f ? 0 : file_get(n, &y.f);
        if (!r)
            r = verify_some(&y);
        volume_leave(n->vol);
    } while (r > 0);
    seal_run_free(y.run);
    if (y.f)
        file_put(y.f);
    if (!r)
        *sealed = y.sealed;
    else
        *sealed = atomic_load(&n->seal_broken);
    return volume_note(n->vol, r);
}
