#include "offline_walk.h"

#include "cli.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 2000u

/* ---- names of a directory ---- */

void name_list_clear(struct name_list *l)
{
    for (size_t i = 0; i < l->count; i++)
        free(l->name[i]);
    free(l->name);
    *l = (struct name_list){0};
}

static int by_bytes(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

static int add(struct name_list *l, size_t *cap, const char *name)
{
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return 0;
    if (l->count == *cap) {
        size_t more = *cap ? *cap * 2 : 64;
        char **grown = realloc(l->name, more * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        l->name = grown;
        *cap = more;
    }
    l->name[l->count] = strdup(name);
    return l->name[l->count] ? (l->count++, 0) : -ENOMEM;
}

static uint64_t failures(const struct offline *o)
{
    struct volume_stats st;
    volume_stats(o->volume, &st);
    return st.auth_failures;
}

int name_list_read(struct offline *o, struct node *dir, struct name_list *out)
{
    struct dir_stream *d;
    struct dir_entry e;
    struct name_list l = {0};
    size_t cap = 0;
    int r = dir_open(dir, &d);
    if (r)
        return r;
    uint64_t before = failures(o), cookie = 0;
    while ((r = dir_next(d, cookie, &e)) == 1 && (r = add(&l, &cap, e.name)) == 0)
        cookie = e.cookie;
    dir_close(d);
    if (r) {
        name_list_clear(&l);
        return r;
    }
    l.hidden = failures(o) - before;
    if (l.count)
        qsort(l.name, l.count, sizeof *l.name, by_bytes);
    *out = l;
    return 0;
}

int name_list_complain(const struct name_list *l, const char *plain)
{
    char quoted[PATH_MAX];
    if (!l->hidden)
        return LFS_EXIT_OK;
    return cli_fail(
        LFS_EXIT_CORRUPT, "%s: %" PRIu64 " entr%s left out, whose names do not decrypt; see 'latch fsck'",
        cli_quote(*plain ? plain : "/", quoted, sizeof quoted), l->hidden, l->hidden == 1 ? "y" : "ies");
}

/* ---- the walk ---- */

struct walk {
    struct offline *o;
    struct offline_walk *w;
    char *path; /* PATH_MAX, shared by all depths */
};

static int visit(struct walk *k, struct node *n, const struct stat *st, const char *name, unsigned depth);

static int visit_child(struct walk *k, struct node *dir, const char *name, unsigned depth)
{
    size_t len = strlen(k->path);
    struct node *n;
    struct stat st;
    if (len + strlen(name) + 2 > PATH_MAX)
        return cli_fail_err(-ENAMETOOLONG, k->path, NULL);
    int r = node_lookup(dir, name, &st, &n), code;
    if (len)
        k->path[len++] = '/';
    strcpy(k->path + len, name);
    if (!r) {
        code = visit(k, n, &st, name, depth);
        node_unref(n, 1);
    } else {
        code = offline_explain_name(k->o, k->path, r);
    }
    k->path[len ? len - 1 : 0] = '\0';
    return code;
}

static int visit_dir(struct walk *k, const struct walk_entry *e)
{
    AUTO_NAMES struct name_list names = {0};
    if (e->depth >= DEPTH_MAX)
        return cli_fail_err(-ELOOP, e->plain, NULL);
    int r = name_list_read(k->o, e->n, &names);
    if (r)
        return offline_explain(k->o, e->n, e->plain, r);
    int code = name_list_complain(&names, e->plain);
    for (size_t i = 0; i < names.count && !k->w->stop; i++)
        code = offline_worse(code, visit_child(k, e->n, names.name[i], e->depth + 1));
    return code;
}

static int visit(struct walk *k, struct node *n, const struct stat *st, const char *name, unsigned depth)
{
    struct walk_entry e = {.n = n, .plain = k->path, .name = name, .depth = depth, .st = *st};
    int code = k->w->enter(k->w->arg, &e);
    if (code != LFS_EXIT_OK || !S_ISDIR(st->st_mode) || k->w->stop)
        return code == WALK_SKIP ? LFS_EXIT_OK : code;
    code = visit_dir(k, &e);
    return k->w->leave ? offline_worse(code, k->w->leave(k->w->arg, &e)) : code;
}

int offline_walk_note(struct offline_walk *w, int code)
{
    w->noted = offline_worse(w->noted, code);
    return LFS_EXIT_OK;
}

void offline_tidy(const char *plain, char out[static PATH_MAX])
{
    size_t at = 0;
    for (const char *p = plain; *p && at + 1 < PATH_MAX; p++) {
        bool dot = p[0] == '.' && (p[1] == '/' || !p[1]) && (at == 0 || out[at - 1] == '/');
        if ((*p == '/' && (at == 0 || out[at - 1] == '/')) || dot)
            continue;
        out[at++] = *p;
    }
    while (at && out[at - 1] == '/')
        at--;
    out[at] = '\0';
}

int offline_walk(struct offline *o, const char *plain, struct offline_walk *w)
{
    AUTO_FREE char *path = malloc(PATH_MAX);
    struct walk k = {.o = o, .w = w, .path = path};
    struct node *n;
    struct stat st;
    if (!path)
        return cli_fail_err(-ENOMEM, plain, NULL);
    int code = offline_lookup(o, plain, &n);
    if (code != LFS_EXIT_OK)
        return code;
    offline_tidy(plain, path);
    int r = node_getattr(n, &st);
    const char *slash = strrchr(path, '/');
    char name[NAME_PLAIN_MAX + 1];
    strncpy(name, slash ? slash + 1 : path, sizeof name - 1);
    name[sizeof name - 1] = '\0';
    code = r ? offline_explain(o, n, path, r) : visit(&k, n, &st, name, 0);
    node_unref(n, 1);
    return offline_worse(code, w->noted);
}
