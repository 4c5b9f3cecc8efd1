/* A rename in parts. Used by rename*.c only. */
#ifndef LATCHFS_STORE_RENAME_H
#define LATCHFS_STORE_RENAME_H

#include "fs/store/tree.h"

/* One of the two names. */
struct side {
    struct entry e;
    struct stat st;
    bool there;
    struct node *n; /* of what stands there, if known; referenced */
};

/* What an object needs that moves: a directory names both places in its record, also within one parent; a
 * symlink that goes to another directory is made anew under a temporary name. Nothing for files. */
struct crossing {
    enum { CROSS_NONE, CROSS_DIR, CROSS_LINK } kind;
    const struct side *from, *to;
    int fd;                     /* of the directory that moves */
    struct dirrec rec;          /* as it was */
    const struct pd_keys *keys; /* of the record */
    char tmp[TMP_NAME_MAX];
    struct stat st; /* of the new link */
};

int crossing_begin(const struct side *from, const struct side *to, struct crossing *c);
void crossing_abort(struct crossing *c);
/* The object is in its new place (a link: but for crossing_place_link). */
int crossing_finish(struct crossing *c);
/* The new link takes the name; its old self, wherever it is now, is replaced or goes by link_remove. */
int crossing_place_link(struct crossing *c, unsigned flags);

/* Within a directory that is locked, of what is no directory, to a short name that is free, by the word of
 * the backing filesystem. -EEXIST: it is not free. -EINVAL, -ENOSYS: the filesystem does not say. */
int rename_here(struct side *from, struct side *to);
/* Renames without exchange; all locks of directories are held. w: what stood at the target. */
int rename_plain(struct side *from, struct side *to, struct victim *w);
int rename_exchange(struct side *from, struct side *to);

#endif
