/* unlink and rmdir. */
#include "fs/store/newdirs.h"
#include "fs/store/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <unistd.h>

static int take_name(const struct entry *e, struct victim *w)
{
    int r;
    if (w->bury)
        r = renameat(e->fd, e->cn.stored, e->dir->vol->root_fd, w->tmp);
    else
        r = unlinkat(e->fd, e->cn.stored, 0);
    r = r ? -errno : 0;
    victim_settle(e, w, r);
    if (r)
        return r;
    long_name_drop(e);
    entry_changed(e);
    return 0;
}

static int unlink_entry(const struct entry *e, struct victim *w)
{
    struct stat st;
    if (fstatat(e->fd, e->cn.stored, &st, AT_SYMLINK_NOFOLLOW))
        return -errno;
    if (S_ISDIR(st.st_mode))
        return -EISDIR;
    int r = victim_get(e, &st, w);
    return r ? r : take_name(e, w);
}

static int unlink_name(struct node *dir, const char *name)
{
    struct entry e;
    struct victim w = {0};
    int r = entry_get(dir, name, &e);
    if (r)
        return r;
    dir_wrlock(dir);
    r = unlink_entry(&e, &w);
    dir_unlock(dir);
    entry_put(&e);
    victim_put(&w);
    return r;
}

int node_unlink(struct node *dir, const char *name)
{
    VOLUME_CHANGE(dir->vol);
    int r = tree_begin_change(dir);
    return r ? r : tree_end(dir->vol, unlink_name(dir, name));
}

/* ---- directories ---- */

static bool has_record(int dirfd, const char *tmp)
{
    char path[TMP_NAME_MAX + sizeof DIRREC_NAME];
    struct stat st;
    snprintf(path, sizeof path, "%s/" DIRREC_NAME, tmp);
    return fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Away under a temporary name first; then it is taken apart. If that can't be done it comes back, but not
 * without its record: then what is left stays where nobody sees it. */
static int take_dir(const struct entry *e, struct victim *w)
{
    struct volume *v = e->dir->vol;
    char tmp[TMP_NAME_MAX];
    tmp_name(v, tmp);
    if (w->bury)
        return renameat(e->fd, e->cn.stored, v->root_fd, w->tmp) ? -errno : 0;
    if (renameat(e->fd, e->cn.stored, e->fd, tmp))
        return -errno;
    int r = dir_discard(v, e->fd, tmp);
    if (!r || has_record(e->fd, tmp)) {
        if (r)
            renameat2(e->fd, tmp, e->fd, e->cn.stored, RENAME_NOREPLACE);
        return r;
    }
    unlinkat(e->fd, tmp, AT_REMOVEDIR);
    return 0;
}

static int rmdir_entry(const struct entry *e, const struct stat *st, struct victim *w)
{
    struct node *n;
    int r = node_obtain(e->dir, st, e->cn.stored, &n);
    if (r)
        return r;
    r = dir_check_removable(n);
    bool listed = !r && newdirs_drop(n);
    if (!r)
        r = victim_get(e, st, w);
    if (!r) {
        r = take_dir(e, w);
        victim_settle(e, w, r);
    }
    if (r && listed)
        newdirs_add(n, NEWDIR_FOUND);
    node_unref(n, 1);
    if (!r) {
        long_name_drop(e);
        entry_changed(e);
    }
    return r;
}

/* Both directories must be locked at once, and which one the name stands for is known only by looking. */
static int rmdir_locked(const struct entry *e, struct victim *w)
{
    struct stat first, st;
    for (;;) {
        struct dir_set set = {0};
        if (fstatat(e->fd, e->cn.stored, &first, AT_SYMLINK_NOFOLLOW))
            return -errno;
        if (!S_ISDIR(first.st_mode))
            return -ENOTDIR;
        dir_set_add(&set, e->dir->vol, e->dir->dev, e->dir->ino);
        dir_set_add(&set, e->dir->vol, first.st_dev, first.st_ino);
        dir_set_lock(&set);
        int r = fstatat(e->fd, e->cn.stored, &st, AT_SYMLINK_NOFOLLOW) ? -errno : 0;
        bool same = !r && st.st_ino == first.st_ino && st.st_dev == first.st_dev;
        if (same)
            r = rmdir_entry(e, &st, w);
        dir_set_unlock(&set);
        if (r || same)
            return r;
    }
}

static int rmdir_name(struct node *dir, const char *name)
{
    struct entry e;
    struct victim w = {0};
    int r = entry_get(dir, name, &e);
    if (r)
        return r;
    r = rmdir_locked(&e, &w);
    entry_put(&e);
    victim_put(&w);
    return r;
}

int node_rmdir(struct node *dir, const char *name)
{
    VOLUME_CHANGE(dir->vol);
    int r = tree_begin_change(dir);
    return r ? r : tree_end(dir->vol, rmdir_name(dir, name));
}
