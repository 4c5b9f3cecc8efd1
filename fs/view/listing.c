#include "fs/view/listing.h"

#include "fs/view/entries.h"
#include "fs/view/source.h"
#include "fs/view/walk.h"
#include "latchfs/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void listing_clear(struct listing *l)
{
    for (size_t i = 0; i < l->count; i++)
        free(l->items[i].name);
    free(l->items);
    *l = (struct listing){0};
}

static int list(struct listing *l, const struct view_keys *k, const struct vnode *dir, enum vkind kind,
                mode_t mode, const char *plain, const char *stored)
{
    struct vnode probe = {0};
    if (l->count == l->room) {
        size_t room = l->room ? l->room * 2 : 64;
        struct listed *items = realloc(l->items, room * sizeof *items);
        if (!items)
            return -ENOMEM;
        l->items = items;
        l->room = room;
    }
    view_id(k, vkind_id(kind), dir->id, plain, probe.id);
    struct listed *i = &l->items[l->count];
    *i = (struct listed){.ino = vnode_ino(&probe), .mode = mode & S_IFMT, .name = strdup(stored)};
    if (!i->name)
        return -ENOMEM;
    l->count++;
    return 0;
}

static int list_sidecars(struct view *v, struct listing *l, const struct view_keys *k,
                         const struct vnode *dir, int dirfd, const char *plain, const struct cipher_name *cn,
                         const struct stat *st)
{
    char name[NAME_CIPHER_MAX + sizeof LONG_NAME_SUFFIX];
    int r = 0;
    if (cn->is_long) {
        longnames_note(v->longnames, dir->id, cn->stored, plain);
        snprintf(name, sizeof name, "%s" LONG_NAME_SUFFIX, cn->stored);
        r = list(l, k, dir, V_NAMECAR, S_IFREG, plain, name);
    }
    if (!r && S_ISLNK(st->st_mode) && link_is_long(link_target_length(dirfd, plain, st))) {
        linkcar_name(k, dir->id, plain, name);
        r = list(l, k, dir, V_LINKCAR, S_IFREG, plain, name);
    }
    return r;
}

/* The type, and of a link all. What may not be looked at is listed; looking at it is then the error. */
static int look_at(const struct view *v, int dirfd, const struct dirent *d, struct stat *st)
{
    *st = (struct stat){.st_mode = DTTOIF(d->d_type)};
    if (d->d_type != DT_UNKNOWN && d->d_type != DT_LNK && !v->one_file_system)
        return 0;
    int r = source_stat(v, dirfd, d->d_name, st);
    return r == -EACCES && d->d_type != DT_UNKNOWN ? 0 : r;
}

/* What vanished meanwhile, or has a name longer than any of ours, is left out. */
static int list_plain(struct view *v, struct listing *l, const struct view_keys *k, const struct vnode *dir,
                      int dirfd, const struct dirent *d)
{
    struct stat st;
    struct cipher_name cn;
    if (source_hides(v, dir, d->d_name, d->d_type == DT_DIR))
        return 0;
    int r = look_at(v, dirfd, d, &st);
    if (r)
        return r == -ENOENT ? 0 : r;
    if (d->d_type == DT_UNKNOWN && source_hides(v, dir, d->d_name, S_ISDIR(st.st_mode)))
        return 0;
    if (name_encrypt(&k->names, dir->id, d->d_name, &cn))
        return 0;
    enum vkind kind = vkind_of_mode(st.st_mode);
    r = list(l, k, dir, kind, st.st_mode, d->d_name, cn.stored);
    return r ? r : list_sidecars(v, l, k, dir, dirfd, d->d_name, &cn, &st);
}

static int list_own(struct listing *l, const struct view_keys *k, const struct vnode *dir)
{
    int r = list(l, k, dir, V_DIRREC, S_IFREG, "", DIRREC_NAME);
    if (!r && !dir->parent)
        r = list(l, k, dir, V_KEYSTORE, S_IFREG, "", KEYSTORE_NAME);
    if (!r && !dir->parent)
        r = list(l, k, dir, V_JOURNAL, S_IFREG, "", JOURNAL_NAME);
    return r;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct listed *)a)->name, ((const struct listed *)b)->name);
}

int listing_read(struct view *v, const struct view_keys *k, const struct vnode *dir, struct listing *out)
{
    CLEANUP(walk_clear) struct walk w = {0};
    CLEANUP(listing_clear) struct listing l = {0};
    AUTO_CLOSE int fd = source_open(v, dir, O_PATH | O_DIRECTORY);
    int r = fd < 0 ? fd : list_own(&l, k, dir);
    bool foreign = !r && source_is_foreign(v, fd);
    if (!r && !foreign)
        r = walk_begin(v, dir, &w);
    while (!r && !foreign && (r = walk_next(&w)) == 1)
        r = list_plain(v, &l, k, dir, dirfd(w.dir), w.at);
    if (r)
        return r;
    qsort(l.items, l.count, sizeof l.items[0], by_name);
    *out = l;
    l = (struct listing){0};
    return 0;
}
