/* The listing of a directory of the view. */
#ifndef FS_VIEW_LISTING_H
#define FS_VIEW_LISTING_H

#include "fs/view/view.h"

/* A whole directory, sorted by stored name: the order is the same in every mount. */
struct listing {
    struct listed {
        uint64_t ino;
        mode_t mode; /* type */
        char *name;  /* stored */
    } * items;
    size_t count, room;
};
int listing_read(struct view *v, const struct view_keys *k, const struct vnode *dir, struct listing *out);
void listing_clear(struct listing *l);

#endif
