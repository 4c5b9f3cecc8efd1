/* Repairs of entries: what can be done about each kind of finding, and doing it. After each repair the entry
 * is looked at again, since one kind of damage hides another. */
#include "fs/store/check_int.h"
#include "latchfs/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROUNDS_MAX 6u

/* ---- lost and found ---- */

struct frame *frame_top(struct frame *f)
{
    while (f->up && f->up->pd_known && memcmp(f->up->pd_id, f->pd_id, ID_BYTES) == 0)
        f = f->up;
    return f;
}

static int bury(struct look *l, struct hit *h)
{
    int r = lost_bury(l->c, l->f->n, l->name, &h->moved_to);
    l->gone = !r;
    return r;
}

static int remember_dir(struct look *l, const char *plain)
{
    struct check *c = l->c;
    struct moved_dir *grown = realloc(c->later, (c->later_count + 1) * sizeof *grown);
    if (!grown)
        return -ENOMEM;
    c->later = grown;
    grown[c->later_count].plain = strdup(plain);
    grown[c->later_count].n = l->n;
    if (!grown[c->later_count].plain)
        return -ENOMEM;
    node_ref(l->n);
    c->later_count++;
    return 0;
}

/* Names that do not decrypt are no names: the stored one serves. */
static int move_to_lost(struct look *l, struct hit *h)
{
    struct frame *top = frame_top(l->f);
    char used[NAME_PLAIN_MAX + 1], now[NAME_CIPHER_MAX + 1];
    struct node *lost;
    int r = top->keyed && top->plain_known ? lost_dir(top->n, &lost) : LFS_ERR_NOKEY;
    if (r)
        return r;
    r = lost_rename(l->c, l->f->n, l->name, lost, l->plain_known ? l->plain : l->name, used, now);
    node_unref(lost, 1);
    if (!r)
        r = look_path_in(l, top, LOST_NAME "/", used, h);
    if (r)
        return r;
    l->moved = true;
    l->moved_plain = strdup(h->moved_to);
    look_renamed(l, now);
    look_moved(l);
    return S_ISDIR(l->st.st_mode) ? remember_dir(l, h->moved_to) : 0;
}

/* Into lost+found what a key opens there, out of the tree what none does. */
static int put_away(struct look *l, struct hit *h)
{
    enum stored_kind kind = name_stored_kind(l->name);
    bool named = kind == STORED_NAME || kind == STORED_LONG;
    if (l->f->lost)
        return -EEXIST;
    if (!named || (S_ISDIR(l->st.st_mode) && !l->dir_keyed))
        return bury(l, h);
    int r = move_to_lost(l, h);
    return r && S_ISLNK(l->st.st_mode) ? bury(l, h) : r;
}

/* ---- the table ---- */

static int do_remove(struct look *l, struct hit *h)
{
    return fix_remove(l);
}

static int do_drop_orphan(struct look *l, struct hit *h)
{
    return fix_orphan(l);
}

static int do_name(struct look *l, struct hit *h)
{
    return fix_name(l, h);
}

static int do_record(struct look *l, struct hit *h)
{
    return record_rebuild(l);
}

static int do_settle(struct look *l, struct hit *h)
{
    return record_settle(l);
}

static const struct fix {
    enum check_kind kind;
    unsigned flags; /* of the options, beside CHECK_REPAIR */
    const char *what;
    int (*run)(struct look *l, struct hit *h);
} fixes[] = {
    {CHECK_LEFTOVER, 0, "remove it", do_remove},
    {CHECK_UNSETTLED_RECORD, 0, "write the record anew if need be, and remove the copy", do_settle},
    {CHECK_ORPHAN_SIDECAR, 0, "remove it", do_drop_orphan},
    {CHECK_MISSING_SIDECAR, 0, "find its name, or give it another", do_name},
    {CHECK_BAD_SIDECAR, 0, "find its name, or give it another", do_name},
    {CHECK_MISSING_RECORD, 0, "make a new record, if its id can be known", do_record},
    {CHECK_BAD_RECORD, 0, "make a new record, if its id can be known", do_record},
    {CHECK_UNDECRYPTABLE_NAME, CHECK_LOST_FOUND, "move it to lost+found", put_away},
    {CHECK_MISSING_RECORD, CHECK_LOST_FOUND, "move it away", put_away},
    {CHECK_BAD_RECORD, CHECK_LOST_FOUND, "move it to lost+found", put_away},
    {CHECK_BAD_LINK, CHECK_LOST_FOUND, "move it away", put_away},
    {CHECK_MISSING_SIDECAR, CHECK_LOST_FOUND, "move it away", put_away},
    {CHECK_BAD_SIDECAR, CHECK_LOST_FOUND, "move it away", put_away},
    {CHECK_FOREIGN_TYPE, CHECK_LOST_FOUND, "move it away", put_away},
};
#define FIXES (sizeof fixes / sizeof fixes[0])

/* What could be done, by the first way there is. The root is an entry of no directory. */
static bool is_for(const struct fix *x, const struct look *l, const struct hit *h)
{
    if (x->kind != h->kind || !l->f)
        return x->kind == h->kind && x->run == do_record;
    if (x->run == put_away)
        return !l->f->lost;
    if (x->run == do_name)
        return name_stored_kind(l->name) == STORED_LONG && !l->plain_known && l->f->keyed;
    return x->run != do_record || l->f->keyed;
}

static void say_what(const struct look *l, struct hits *hits)
{
    for (unsigned i = 0; i < hits->count; i++)
        for (size_t x = 0; x < FIXES && !hits->hit[i].repair; x++)
            if (is_for(&fixes[x], l, &hits->hit[i]))
                hits->hit[i].repair = fixes[x].what;
}

/* The next repair to try, each once. */
static const struct fix *next_fix(struct look *l, bool tried[static FIXES], struct hit **hit)
{
    for (size_t x = 0; x < FIXES; x++)
        for (unsigned i = 0; i < l->hits.count; i++) {
            if (tried[x] || (l->c->o->flags & fixes[x].flags) != fixes[x].flags ||
                !is_for(&fixes[x], l, &l->hits.hit[i]))
                continue;
            tried[x] = true;
            *hit = &l->hits.hit[i];
            return &fixes[x];
        }
    return NULL;
}

/* A hit that was dealt with, from those of the last look to those that are done. */
static void take_hit(struct look *l, struct hit *h, const struct fix *x, struct hits *done)
{
    h->repair = x->what;
    h->repaired = true;
    if (done->count < HITS_MAX)
        done->hit[done->count++] = *h;
    else
        free(h->moved_to);
    *h = l->hits.hit[--l->hits.count];
}

/* What is not where it was has no other trouble there. */
static void take_rest(struct look *l, const struct fix *x, struct hits *done)
{
    const char *to = done->count ? done->hit[done->count - 1].moved_to : NULL;
    while (l->hits.count) {
        l->hits.hit[0].moved_to = to ? strdup(to) : NULL;
        take_hit(l, &l->hits.hit[0], x, done);
    }
}

static int look_again(struct look *l)
{
    if (l->n)
        node_unref(l->n, 1);
    l->n = NULL;
    l->plain_known = l->dir_keyed = l->dir_id_known = l->dir_pd_known = l->stray = false;
    hits_clear(&l->hits);
    return l->f ? check_entry(l) : check_root_entry(l);
}

static int repair(struct look *l, struct hits *done)
{
    bool tried[FIXES] = {false};
    const struct fix *x;
    struct hit *h;
    int r = 0;
    for (unsigned round = 0; !r && round < ROUNDS_MAX && (x = next_fix(l, tried, &h));) {
        if (x->run(l, h))
            continue;
        take_hit(l, h, x, done);
        if (l->moved || l->gone) {
            take_rest(l, x, done);
            break;
        }
        round++;
        r = look_again(l);
    }
    return r;
}

int check_repair_entry(struct look *l)
{
    struct hits done = {0};
    int r = 0;
    if (!l->hits.count)
        return 0;
    if (l->c->repairs)
        r = repair(l, &done);
    say_what(l, &l->hits);
    for (unsigned i = 0; i < l->hits.count && done.count < HITS_MAX; i++) {
        struct hit *h = &done.hit[done.count++];
        *h = l->hits.hit[i];
        /* What was moved there is known: it is told, but alarms no longer. */
        if (l->f && l->f->lost && h->severity == CHECK_DAMAGE)
            h->severity = CHECK_WARNING;
    }
    l->hits = done;
    return r;
}
