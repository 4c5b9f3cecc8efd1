#include "fs/view/walk.h"

#include "fs/view/source.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

void walk_clear(struct walk *w)
{
    if (w->dir)
        closedir(w->dir);
}

int walk_begin(const struct view *v, const struct vnode *dir, struct walk *w)
{
    int fd = source_open(v, dir, O_RDONLY | O_DIRECTORY);
    w->dir = fd < 0 ? NULL : fdopendir(fd);
    if (fd >= 0 && !w->dir) {
        close(fd);
        return -ENOMEM;
    }
    return fd < 0 ? fd : 0;
}

int walk_next(struct walk *w)
{
    do {
        errno = 0;
        w->at = readdir(w->dir);
    } while (w->at && (strcmp(w->at->d_name, ".") == 0 || strcmp(w->at->d_name, "..") == 0));
    return w->at ? 1 : -errno;
}
