/* A walk through the entries of a plain directory, "." and ".." left out. */
#ifndef FS_VIEW_WALK_H
#define FS_VIEW_WALK_H

#include "fs/view/view.h"

#include <dirent.h>

struct walk {
    DIR *dir;
    const struct dirent *at;
};

int walk_begin(const struct view *v, const struct vnode *dir, struct walk *w);

/* 1 an entry, 0 the end, or -errno. */
int walk_next(struct walk *w);

void walk_clear(struct walk *w);

#endif
