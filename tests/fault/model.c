#include "model.h"

#include "latchfs/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct model *model;

void fail(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (model->failures < 16)
        vsnprintf(model->report[model->failures], sizeof model->report[0], fmt, ap);
    va_end(ap);
    model->failures++;
}

bool model_is_crowded(void)
{
    bool full = 2 * model->shapes > TREES_MAX;
    for (int i = 0; i < model->objects && !full; i++) {
        full = 2 * model->object[i].versions > VERSIONS_MAX;
        for (int k = 0; k < ATTRS_MAX; k++)
            full = full || model->object[i].attr[k].count == VALUES_MAX;
    }
    return full;
}

/* ---- the tree ---- */

static struct entry_of_tree *entry_in(struct shape *s, const char *path)
{
    for (int i = 0; i < s->count; i++)
        if (!strcmp(s->e[i].path, path))
            return &s->e[i];
    return NULL;
}

struct object *model_find(const char *path)
{
    for (int i = 0; i < model->shapes; i++) {
        struct entry_of_tree *e = entry_in(&model->shape[i], path);
        if (e)
            return &model->object[e->object];
    }
    return NULL;
}

/* For an operation on names: the shapes that it is to be done to. One that failed may not have happened. */
static struct shape *shapes_to_change(int r, int *count)
{
    int n = model->shapes;
    *count = n;
    if (!r)
        return model->shape;
    if (2 * n > TREES_MAX) {
        fail("the model has no room for another failure");
        *count = 0;
        return model->shape;
    }
    memcpy(model->shape + n, model->shape, (size_t)n * sizeof *model->shape);
    model->shapes = 2 * n;
    return model->shape + n;
}

static void put(struct shape *s, const char *path, int object)
{
    struct entry_of_tree *e = entry_in(s, path);
    if (!e && s->count < ENTRIES_MAX)
        e = &s->e[s->count++];
    if (!e) {
        fail("the model has no room for %s", path);
        return;
    }
    if (e->path != path)
        snprintf(e->path, sizeof e->path, "%s", path);
    e->object = object;
}

static void drop(struct shape *s, const char *path)
{
    struct entry_of_tree *e = entry_in(s, path);
    if (e)
        *e = s->e[--s->count];
}

void model_add(const char *path, char kind, const char *target, int r)
{
    int n;
    struct shape *s = shapes_to_change(r, &n);
    if (model->objects == OBJECTS_MAX) {
        fail("the model has no room for %s", path);
        return;
    }
    struct object *o = &model->object[model->objects];
    o->kind = kind;
    o->versions = 1;
    snprintf(o->target, sizeof o->target, "%s", target);
    for (int i = 0; i < n; i++)
        put(&s[i], path, model->objects);
    model->objects++;
}

void model_drop(const char *path, int r)
{
    int n;
    struct shape *s = shapes_to_change(r, &n);
    for (int i = 0; i < n; i++)
        drop(&s[i], path);
}

void model_link(const char *from, const char *to, int r)
{
    int n;
    struct shape *s = shapes_to_change(r, &n);
    for (int i = 0; i < n; i++) {
        struct entry_of_tree *e = entry_in(&s[i], from);
        if (e)
            put(&s[i], to, e->object);
    }
}

/* The paths of a directory's entries begin with its own. */
static void rename_all(struct shape *s, const char *from, const char *to)
{
    size_t len = strlen(from);
    char path[2 * PATH_MAX_HERE];
    for (int i = 0; i < s->count; i++) {
        if (strncmp(s->e[i].path, from, len) || (s->e[i].path[len] && s->e[i].path[len] != '/'))
            continue;
        snprintf(path, sizeof path, "%s%s", to, s->e[i].path + len);
        snprintf(s->e[i].path, sizeof s->e[i].path, "%.*s", PATH_MAX_HERE - 1, path);
    }
}

void model_move(const char *from, const char *to, bool exchange, int r)
{
    int n;
    struct shape *s = shapes_to_change(r, &n);
    for (int i = 0; i < n; i++) {
        if (!entry_in(&s[i], from))
            continue;
        if (exchange)
            rename_all(&s[i], to, "\x01");
        else
            drop(&s[i], to);
        rename_all(&s[i], from, to);
        rename_all(&s[i], "\x01", from);
    }
}

/* ---- contents ---- */

static struct version *versions_to_change(struct object *o, int r, int *count)
{
    int n = o->versions;
    *count = n;
    if (!r)
        return o->version;
    if (2 * n > VERSIONS_MAX) {
        fail("the model has no room for another failure");
        *count = 0;
        return o->version;
    }
    memcpy(o->version + n, o->version, (size_t)n * sizeof *o->version);
    o->versions = 2 * n;
    return o->version + n;
}

void model_bytes(struct object *o, uint64_t off, const uint8_t *data, size_t len, int r)
{
    int n;
    struct version *v = versions_to_change(o, r, &n);
    for (int i = 0; i < n; i++) {
        if (data)
            memcpy(v[i].data + off, data, len);
        else
            memset(v[i].data + off, 0, len);
        if (data && off + len > v[i].size)
            v[i].size = off + len;
    }
}

void model_size(struct object *o, uint64_t size, int r)
{
    int n;
    struct version *v = versions_to_change(o, r, &n);
    for (int i = 0; i < n; i++) {
        if (size < v[i].size)
            memset(v[i].data + size, 0, v[i].size - size);
        v[i].size = size;
    }
}

/* ---- attributes ---- */

static struct attribute *attribute_of(struct object *o, const char *name)
{
    for (int i = 0; i < ATTRS_MAX; i++) {
        if (!o->attr[i].name[0]) {
            snprintf(o->attr[i].name, sizeof o->attr[i].name, "%s", name);
            o->attr[i].count = 1;
            o->attr[i].value[0].len = -1;
        }
        if (!strcmp(o->attr[i].name, name))
            return &o->attr[i];
    }
    return NULL;
}

void model_attr(struct object *o, const char *name, const uint8_t *value, int len, int r)
{
    struct attribute *a = attribute_of(o, name);
    if (!a || (r && a->count == VALUES_MAX)) {
        fail("the model has no room for attribute %s", name);
        return;
    }
    a->count = r ? a->count + 1 : 1;
    a->value[a->count - 1].len = len;
    if (len > 0)
        memcpy(a->value[a->count - 1].bytes, value, (size_t)len);
}

static void check_attributes(struct node *n, const char *path, struct object *o, const char *when)
{
    uint8_t held[VALUE_BYTES];
    for (int i = 0; i < ATTRS_MAX && o->attr[i].name[0]; i++) {
        struct attribute *a = &o->attr[i];
        ssize_t r = node_getxattr(n, a->name, held, sizeof held);
        int len = r == -ENODATA ? -1 : (int)r, k = 0;
        if (r < 0 && r != -ENODATA) {
            fail("%s: attribute %s of %s: %s", when, a->name, path, lfs_strerror((int)r));
            continue;
        }
        while (k < a->count &&
               (a->value[k].len != len || (len > 0 && memcmp(a->value[k].bytes, held, (size_t)len))))
            k++;
        if (k == a->count) {
            fail("%s: attribute %s of %s has a wrong value of %d bytes", when, a->name, path, len);
        } else {
            a->value[0] = a->value[k];
            a->count = 1;
        }
    }
}

/* ---- what the volume holds ---- */

static bool chunk_fits(const struct object *o, uint64_t at, const uint8_t *held, size_t len)
{
    for (int i = 0; i < o->versions; i++)
        if (!memcmp(o->version[i].data + at, held, len))
            return true;
    return false;
}

static void check_contents(struct node *n, const char *path, struct object *o, const char *when)
{
    struct stat st;
    int r = file_open(n, false);
    if (!r && (r = node_getattr(n, &st)) != 0)
        file_close(n);
    if (r) {
        fail("%s: %s does not open: %s", when, path, lfs_strerror(r));
        return;
    }
    uint64_t size = (uint64_t)st.st_size, least = UINT64_MAX, most = 0;
    for (int i = 0; i < o->versions; i++) {
        least = o->version[i].size < least ? o->version[i].size : least;
        most = o->version[i].size > most ? o->version[i].size : most;
    }
    uint8_t *data = calloc(1, DATA_MAX);
    if (size < least || size > most || !data) {
        fail("%s: %s has %llu bytes, it should have %llu..%llu", when, path, (unsigned long long)size,
             (unsigned long long)least, (unsigned long long)most);
        size = 0;
    }
    for (uint64_t at = 0; at < size; at += PAGE_BYTES) {
        size_t want = size - at < PAGE_BYTES ? (size_t)(size - at) : PAGE_BYTES;
        ssize_t got = file_read(n, data + at, want, at);
        if (got != (ssize_t)want)
            fail("%s: %s chunk %llu does not read: %s", when, path, (unsigned long long)at / PAGE_BYTES,
                 got < 0 ? lfs_strerror((int)got) : "short");
        else if (!chunk_fits(o, at, data + at, want))
            fail("%s: %s chunk %llu holds what it never held", when, path,
                 (unsigned long long)at / PAGE_BYTES);
    }
    if (data && least != UINT64_MAX) {
        o->versions = 1;
        o->version[0].size = size;
        memcpy(o->version[0].data, data, DATA_MAX);
    }
    free(data);
    file_close(n);
}

struct found {
    char path[PATH_MAX_HERE];
    char kind;
    char target[1300];
};

struct finding {
    struct found list[ENTRIES_MAX * 2];
    int count;
    const char *when;
};

static void walk(struct node *dir, const char *path, struct finding *f);

static void note(struct node *dir, const char *path, const char *name, struct finding *f)
{
    char target[SYMLINK_PLAIN_MAX + 1] = "";
    struct found *e = &f->list[f->count];
    struct node *n;
    struct stat st;
    int r = node_lookup(dir, name, &st, &n);
    if (r) {
        fail("%s: lookup of %s: %s", f->when, path, lfs_strerror(r));
        return;
    }
    e->kind = S_ISDIR(st.st_mode) ? 'd' : S_ISLNK(st.st_mode) ? 'l' : 'f';
    snprintf(e->path, sizeof e->path, "%s", path);
    if (e->kind == 'l' && (r = node_readlink(n, target)) != 0)
        fail("%s: readlink of %s: %s", f->when, path, lfs_strerror(r));
    snprintf(e->target, sizeof e->target, "%.1299s", target);
    f->count++;
    if (e->kind == 'd')
        walk(n, path, f);
    node_unref(n, 1);
}

static void walk(struct node *dir, const char *path, struct finding *f)
{
    struct dir_stream *d;
    struct dir_entry e;
    char child[PATH_MAX_HERE];
    uint64_t cookie = 0;
    int r = dir_open(dir, &d);
    if (r) {
        fail("%s: opendir of %s: %s", f->when, path, lfs_strerror(r));
        return;
    }
    while ((r = dir_next(d, cookie, &e)) == 1) {
        cookie = e.cookie;
        snprintf(child, sizeof child, "%s%s%s", path, *path ? "/" : "", e.name);
        if (strcmp(e.name, ".") && strcmp(e.name, "..") && f->count < ENTRIES_MAX * 2)
            note(dir, child, e.name, f);
    }
    if (r)
        fail("%s: readdir of %s: %s", f->when, path, lfs_strerror(r));
    dir_close(d);
}

/* What is wrong with the tree if this were its shape. */
static bool shape_fits(struct shape *s, const struct finding *f, char why[static 400])
{
    for (int i = 0; i < f->count; i++) {
        struct entry_of_tree *e = entry_in(s, f->list[i].path);
        struct object *o = e ? &model->object[e->object] : NULL;
        if (!o || o->kind != f->list[i].kind || (o->kind == 'l' && strcmp(o->target, f->list[i].target))) {
            snprintf(why, 400, "%.80s should not be there, or not so", f->list[i].path);
            return false;
        }
    }
    for (int i = 0; i < s->count; i++) {
        int k = 0;
        while (k < f->count && strcmp(f->list[k].path, s->e[i].path))
            k++;
        if (k == f->count) {
            snprintf(why, 400, "%.80s is missing", s->e[i].path);
            return false;
        }
    }
    return true;
}

static struct node *node_at(struct volume *v, const char *path)
{
    char part[NAME_PLAIN_MAX + 1];
    struct node *n = volume_root(v), *next;
    struct stat st;
    node_ref(n);
    while (n && *path) {
        size_t len = strcspn(path, "/");
        snprintf(part, sizeof part, "%.*s", (int)len, path);
        int r = node_lookup(n, part, &st, &next);
        node_unref(n, 1);
        n = r ? NULL : next;
        path += len + (path[len] == '/');
    }
    return n;
}

void model_check(struct volume *v, const char *when)
{
    struct finding *f = calloc(1, sizeof *f);
    char why[400] = "";
    int fits = 0;
    if (!f)
        abort();
    f->when = when;
    walk(volume_root(v), "", f);
    while (fits < model->shapes && !shape_fits(&model->shape[fits], f, why))
        fits++;
    free(f);
    if (fits == model->shapes) {
        fail("%s: the tree is wrong: %s", when, why);
        return;
    }
    model->shape[0] = model->shape[fits];
    model->shapes = 1;
    for (int i = 0; i < model->shape[0].count; i++) {
        struct entry_of_tree *e = &model->shape[0].e[i];
        struct object *o = &model->object[e->object];
        struct node *n = node_at(v, e->path);
        if (n && o->kind == 'f')
            check_contents(n, e->path, o, when);
        if (n && o->kind != 'l')
            check_attributes(n, e->path, o, when);
        if (n)
            node_unref(n, 1);
    }
    struct volume_stats st;
    volume_stats(v, &st);
    if (st.auth_failures)
        fail("%s: %llu authentication failures", when, (unsigned long long)st.auth_failures);
}
