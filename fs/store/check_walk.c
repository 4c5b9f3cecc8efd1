/* The walk of a check: directories and their entries, in the order that makes a place in it a path. */
#include "fs/store/check_int.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "latchfs/layout.h"

#define DEPTH_MAX 2000 /* of directories; PATH_MAX allows no more */

/* What a run is asked to look at, and where it begins: paths taken apart. */
struct route {
    char *only, *from; /* what is left of them; NULL: nothing more */
    uint64_t chunk;    /* of the file that from ends in */
    bool begun;        /* from is passed */
};

/* ---- paths ---- */

/* The first name of a path, which ends there; *rest is what follows, or NULL. */
static char *first_name(char *path, char **rest)
{
    char *slash = path ? strchr(path, '/') : NULL;
    *rest = slash && slash[1] ? slash + 1 : NULL;
    if (slash)
        *slash = '\0';
    return path && *path ? path : NULL;
}

static char *dup_or_null(const char *s)
{
    return s && *s ? strdup(s) : NULL;
}

/* A place within a file is its path, two slashes and a chunk. */
static uint64_t cut_chunk(char *place)
{
    char *at = place ? strstr(place, "//") : NULL;
    if (!at)
        return 0;
    *at = '\0';
    return strtoull(at + 2, NULL, 10);
}

static const char *plain_of(const struct check *c, const struct frame *f)
{
    return f->plain_known ? c->plain.s : NULL;
}

/* ---- directories ---- */

static int walk_dir(struct check *c, struct frame *f, struct route *to, int depth);

static void frame_clear(struct check *c, struct frame *f)
{
    window_clear(c, f);
    id_set_clear(&f->links);
    node_unref(f->n, 1);
    free(f);
}

static struct frame *frame_new(struct check *c, struct frame *up, const struct look *l)
{
    struct frame *f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    f->up = up;
    f->n = l->n;
    node_ref(f->n);
    f->w.more = true;
    f->cipher_len = c->cipher.len;
    f->plain_len = c->plain.len;
    f->plain_known = (!up || up->plain_known) && l->plain_known;
    f->lost =
        l->lost ||
        (up && (up->lost || (frame_top(up) == up && l->plain_known && strcmp(l->plain, LOST_NAME) == 0)));
    f->keyed = l->dir_keyed;
    f->id_known = l->dir_id_known;
    f->pd_known = l->dir_pd_known;
    memcpy(f->id, l->dir_id, ID_BYTES);
    memcpy(f->pd_id, l->dir_pd, ID_BYTES);
    return f;
}

static void report_alone(struct check *c, const struct frame *f, enum check_kind kind, int err)
{
    struct hits h = {0};
    hits_add(&h, kind, err);
    check_tell(c, h.hit, h.count, c->cipher.s, plain_of(c, f));
}

static int enter_dir(struct check *c, const struct look *l, struct route *to, int depth)
{
    struct frame *f = frame_new(c, l->f, l);
    if (!f)
        return -ENOMEM;
    int r = 0;
    if (depth > DEPTH_MAX)
        report_alone(c, f, CHECK_IO, -ENAMETOOLONG);
    else
        r = walk_dir(c, f, to, depth);
    frame_clear(c, f);
    return r;
}

static void count_entry(struct check *c, const struct look *l)
{
    struct check_progress p = {
        .entries = 1,
        .directories = S_ISDIR(l->st.st_mode),
        .files = S_ISREG(l->st.st_mode) && l->n,
    };
    check_count(c, &p);
}

/* Sets the paths to those of the entry, under the name that it was found by or has now. */
static int name_entry(struct check *c, const struct look *l, const char *stored)
{
    int r = text_cut(&c->cipher, l->f->cipher_len);
    if (!r)
        r = text_add_name(&c->cipher, stored);
    if (!r)
        r = text_cut(&c->plain, l->f->plain_len);
    return !r && l->plain_known ? text_add_name(&c->plain, l->plain) : r;
}

static int tell_entry(struct check *c, struct look *l, const char *stored)
{
    bool named = l->f->plain_known && l->plain_known;
    int r = name_entry(c, l, stored);
    if (r)
        return r;
    check_tell(c, l->hits.hit, l->hits.count, c->cipher.s, named ? c->plain.s : NULL);
    check_strays(l);
    count_entry(c, l);
    return 0;
}

static bool is_file(const struct look *l)
{
    return l->n && S_ISREG(l->st.st_mode);
}

/* Where the walk goes on. quiet: the entry was told before, in the part of the walk that is passed by, or is
 * not in the part that is asked for. */
static int follow(struct check *c, struct look *l, struct route *to, bool quiet, int depth)
{
    int r = name_entry(c, l, l->name);
    bool again = is_file(l) && l->st.st_nlink > 1 && !inode_set_add(&c->seen, l->st.st_ino);
    if (r)
        return r;
    if (is_file(l) && !l->gone && (!quiet || to->chunk))
        return check_push_file(c, l, quiet ? to->chunk : 0, again);
    if (!quiet)
        queue_passed(c, c->cipher.s);
    return l->n && S_ISDIR(l->st.st_mode) && !l->gone && !l->moved ? enter_dir(c, l, to, depth + 1) : 0;
}

/* What a repair has moved is told, wherever the walk meets it again. */
static bool is_told(struct check *c, const struct look *l)
{
    pthread_mutex_lock(&c->lock);
    bool moved = inode_set_has(&c->moved, l->st.st_ino);
    pthread_mutex_unlock(&c->lock);
    return moved && (l->st.st_nlink == 1 || S_ISDIR(l->st.st_mode));
}

static bool is_passing(int err)
{
    return err == -ENOENT || err == -ESTALE || err == -ENOTDIR || err == -ELOOP;
}

static int visit(struct check *c, struct frame *f, const char *name, struct route *to, bool quiet, int depth)
{
    AUTO_FREE struct look *l = calloc(1, sizeof *l); /* not on the stack of a deep walk */
    if (!l)
        return -ENOMEM;
    l->c = c;
    l->f = f;
    l->name = name;
    int r = check_entry(l);
    if (!r && is_told(c, l))
        r = -ENOENT;
    if (!r && !quiet)
        r = check_repair_entry(l);
    if (!r && !quiet)
        r = tell_entry(c, l, name);
    if (!r)
        r = follow(c, l, to, quiet, depth);
    else if (is_passing(r))
        r = 0;
    if (l->n)
        node_unref(l->n, 1);
    free(l->moved_plain);
    hits_clear(&l->hits);
    return r;
}

/* The next name of the directory, malloc'ed; NULL at its end or after an error. */
static char *next_name(struct check *c, struct frame *f, int *err)
{
    if (f->w.at == f->w.count && f->w.more)
        *err = window_fill(c, f);
    if (*err || f->w.at == f->w.count)
        return NULL;
    char *name = f->w.name[f->w.at++];
    snprintf(f->last, sizeof f->last, "%s", name);
    return name;
}

static int cannot_list(struct check *c, struct frame *f, int err)
{
    if (is_passing(err))
        return 0;
    if (err == -ENOMEM || err == LFS_ERR_NOKEY)
        return err;
    text_cut(&c->cipher, f->cipher_len);
    text_cut(&c->plain, f->plain_len);
    report_alone(c, f, CHECK_IO, err);
    return 0;
}

/* The entries of f. Its part of the route is taken off first, and holds for one entry only. */
static int walk_dir(struct check *c, struct frame *f, struct route *to, int depth)
{
    char *only_rest = NULL, *from_rest = NULL;
    f->only = first_name(to->only, &only_rest);
    f->from = to->begun ? NULL : first_name(to->from, &from_rest);
    bool found = false;
    int r = 0, err = 0;
    while (!r) {
        AUTO_FREE char *name = next_name(c, f, &err);
        if (!name)
            break;
        bool is_from = f->from && strcmp(name, f->from) == 0;
        struct route on = {.only = only_rest, .begun = !is_from, .from = is_from ? from_rest : NULL};
        on.chunk = is_from ? to->chunk : 0;
        found = true;
        r = visit(c, f, name, &on, is_from || only_rest, depth);
        if (!r)
            r = check_stopped(c);
    }
    if (!r && f->only && !found && !err)
        return -ENOENT;
    return err && !r ? cannot_list(c, f, err) : r;
}

/* ---- the whole ---- */

int check_root_entry(struct look *l)
{
    struct check *c = l->c;
    int fd, r = volume_enter(c->v, false);
    if (r)
        return r;
    l->n = c->v->root;
    node_ref(l->n);
    l->plain_known = true;
    r = node_fd_get(l->n, false, &fd);
    if (!r) {
        check_record(l, l->n, NULL, NULL);
        node_fd_put(l->n);
        check_dir_attributes(l);
    }
    volume_leave(c->v);
    return r;
}

static void tell_own_files(struct check *c)
{
    struct hits ini = {0}, bak = {0}, journal = {0};
    check_keystore(c, &ini, &bak);
    check_journal(c, &journal);
    check_tell(c, ini.hit, ini.count, KEYSTORE_NAME, NULL);
    check_tell(c, bak.hit, bak.count, KEYSTORE_BAK_NAME, NULL);
    check_tell(c, journal.hit, journal.count, JOURNAL_NAME, NULL);
}

static int walk_route(struct check *c, struct route *to)
{
    struct look l = {.c = c};
    int r = text_cut(&c->cipher, 0);
    if (!r)
        r = text_cut(&c->plain, 0);
    bool quiet = to->from || to->only;
    if (!r && !quiet)
        tell_own_files(c);
    else if (!r && !c->keyed)
        check_journal(c, &(struct hits){0}); /* which files it speaks of */
    if (!r)
        r = check_root_entry(&l);
    if (!r && !quiet)
        r = check_repair_entry(&l);
    if (!r && !quiet)
        check_tell(c, l.hits.hit, l.hits.count, "", "");
    if (!r)
        check_strays(&l);
    if (!r)
        r = enter_dir(c, &l, to, 0);
    if (l.n)
        node_unref(l.n, 1);
    hits_clear(&l.hits);
    return r;
}

/* What is in a directory that was moved; by now its record says where it is. */
static int walk_moved(struct check *c, const struct moved_dir *m)
{
    char path[PATH_MAX];
    struct route to = {.begun = true};
    struct look l = {.c = c, .n = m->n, .plain_known = true, .lost = true};
    int r = node_path(m->n, path, sizeof path);
    if (!r)
        r = volume_enter(c->v, false);
    if (r)
        return is_passing(r) ? 0 : r;
    check_record(&l, m->n, NULL, "");
    volume_leave(c->v);
    hits_clear(&l.hits);
    r = text_cut(&c->cipher, 0);
    if (!r)
        r = text_add_name(&c->cipher, path);
    if (!r)
        r = text_cut(&c->plain, 0);
    if (!r)
        r = text_add_name(&c->plain, m->plain);
    return r ? r : enter_dir(c, &l, &to, 0);
}

static void drop_moved(struct check *c)
{
    for (size_t i = 0; i < c->later_count; i++) {
        node_unref(c->later[i].n, 1);
        free(c->later[i].plain);
    }
    free(c->later);
}

int check_walk(struct check *c)
{
    AUTO_FREE char *only = dup_or_null(c->o->subtree), *from = dup_or_null(c->o->resume);
    if ((c->o->subtree && *c->o->subtree && !only) || (c->o->resume && *c->o->resume && !from))
        return -ENOMEM;
    struct route to = {.only = only, .from = from, .chunk = cut_chunk(from), .begun = !from};
    check_count_for(&c->walked);
    int r = walk_route(c, &to);
    for (size_t i = 0; !r && i < c->later_count; i++)
        r = walk_moved(c, &c->later[i]);
    check_count_for(NULL);
    drop_moved(c);
    check_drop_strays(c);
    text_clear(&c->cipher);
    text_clear(&c->plain);
    return r;
}
