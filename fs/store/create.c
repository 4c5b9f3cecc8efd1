/* Making files, special files and directories. */
#include "fs/store/newdirs.h"
#include "fs/store/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sodium.h>
#include <string.h>
#include <unistd.h>

/* ---- the frame: name prepared, directory locked, sidecar in place ---- */

struct making {
    struct entry e;
    bool made; /* the sidecar is new */
};

static int making_begin(struct node *dir, const char *name, struct making *m)
{
    int r = entry_get(dir, name, &m->e);
    if (r)
        return r;
    dir_wrlock(dir);
    r = entry_check(&m->e);
    if (!r)
        r = long_name_put(&m->e, &m->made);
    if (r) {
        dir_unlock(dir);
        entry_put(&m->e);
    }
    return r;
}

/* An entry that stood already has its sidecar, and keeps it. */
static void making_end(struct making *m, int r)
{
    if (r && r != -EEXIST && m->made)
        long_name_drop(&m->e);
    if (!r) {
        entry_changed(&m->e);
        pd_touch(m->e.pd);
    }
    dir_unlock(m->e.dir);
    entry_put(&m->e);
}

/* ---- files ---- */

static int create_file(const struct entry *e, mode_t mode, struct stat *st, struct node **out)
{
    struct volume *v = e->dir->vol;
    int fd = fd_openat(v, e->fd, e->cn.stored, O_RDWR | O_CREAT | O_EXCL, mode & 07777);
    if (fd < 0)
        return fd;
    int r = fstat(fd, st) ? -errno : node_obtain(e->dir, st, e->cn.stored, out);
    if (r) {
        unlinkat(e->fd, e->cn.stored, 0);
        close(fd);
        return r;
    }
    fd_publish(*out, fd, true, &fd);
    node_fd_put(*out);
    (*out)->meta_dirty = true;
    (*out)->bare = !v->share;
    return 0;
}

static int create(struct node *dir, const char *name, mode_t mode, struct stat *st, struct node **out)
{
    struct making m;
    struct stat raw;
    int r = making_begin(dir, name, &m);
    if (r)
        return r;
    r = create_file(&m.e, mode, &raw, out);
    making_end(&m, r);
    if (!r)
        *st = raw;
    return r;
}

int node_create(struct node *dir, const char *name, mode_t mode, bool excl, struct stat *st,
                struct node **out)
{
    VOLUME_CHANGE(dir->vol);
    int r = tree_begin_change(dir);
    if (r)
        return r;
    r = tree_end(dir->vol, create(dir, name, mode, st, out));
    return r == -EEXIST && !excl ? node_lookup(dir, name, st, out) : r;
}

/* ---- special files ---- */

static int make_special(const struct entry *e, mode_t mode, dev_t rdev, struct stat *st, struct node **out)
{
    if (mknodat(e->fd, e->cn.stored, mode, rdev))
        return -errno;
    int r = fstatat(e->fd, e->cn.stored, st, AT_SYMLINK_NOFOLLOW)
                ? -errno
                : node_obtain(e->dir, st, e->cn.stored, out);
    if (r)
        unlinkat(e->fd, e->cn.stored, 0);
    return r;
}

static int make_node(struct node *dir, const char *name, mode_t mode, dev_t rdev, struct stat *st,
                     struct node **out)
{
    struct making m;
    struct stat raw;
    int r = making_begin(dir, name, &m);
    if (r)
        return r;
    r = make_special(&m.e, mode, rdev, &raw, out);
    making_end(&m, r);
    if (!r)
        *st = raw;
    return r;
}

int node_mknod(struct node *dir, const char *name, mode_t mode, dev_t rdev, struct stat *st,
               struct node **out)
{
    if (S_ISREG(mode) || (mode & S_IFMT) == 0)
        return node_create(dir, name, mode, true, st, out);
    if (S_ISDIR(mode) || S_ISLNK(mode))
        return LFS_ERR_MISUSE;
    VOLUME_CHANGE(dir->vol);
    int r = tree_begin_change(dir);
    return r ? r : tree_end(dir->vol, make_node(dir, name, mode, rdev, st, out));
}

/* ---- directories ---- */

/* The record is written by the directory's owner even where the mode denies him; the mode then comes back. */
static int fill_dir(const struct entry *e, const char *tmp, const struct dirrec *d, int *fd, bool *copied,
                    struct stat *st)
{
    struct volume *v = e->dir->vol;
    int dirfd = e->fd;
    struct stat raw;
    if (fstatat(dirfd, tmp, &raw, AT_SYMLINK_NOFOLLOW))
        return -errno;
    bool closed = (raw.st_mode & S_IRWXU) != S_IRWXU;
    int r = closed ? fd_chmodat(dirfd, tmp, (raw.st_mode & 07777) | S_IRWXU) : 0;
    if (r)
        return r;
    AUTO_CLOSE int dir = fd_openat(v, dirfd, tmp, O_RDONLY | O_DIRECTORY, 0);
    if (dir < 0)
        return dir;
    r = record_create(v, dir, d, e->keys, copied);
    if (!r && closed && fchmod(dir, raw.st_mode & 07777))
        r = -errno;
    if (!r && fstat(dir, st))
        r = -errno;
    if (r)
        return r;
    *fd = dir;
    dir = -1;
    return 0;
}

/* A plain rename of a directory replaces nothing here either: a directory that stands is never empty, having
 * its record. */
static int put_in_place(int dirfd, const char *tmp, const char *stored)
{
    if (renameat2(dirfd, tmp, dirfd, stored, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno == EINVAL && renameat(dirfd, tmp, dirfd, stored) == 0)
        return 0;
    return errno == ENOTEMPTY || errno == ENOTDIR ? -EEXIST : -errno;
}

static int make_dir(const struct entry *e, mode_t mode, struct stat *st, struct node **out)
{
    struct volume *v = e->dir->vol;
    struct dirrec d = {0};
    char tmp[TMP_NAME_MAX];
    int fd;
    bool copied = false;
    tmp_name(v, tmp);
    randombytes_buf(d.id, ID_BYTES);
    memcpy(d.parent[0], e->id, ID_BYTES);
    dirrec_name_tag(e->cn.stored, d.name[0]);
    memcpy(d.pd_id, e->pd->id, ID_BYTES);
    if (mkdirat(e->fd, tmp, mode & 07777))
        return -errno;
    int r = fill_dir(e, tmp, &d, &fd, &copied, st);
    if (r) {
        tmp_discard(v, e->fd, tmp);
        return r;
    }
    r = put_in_place(e->fd, tmp, e->cn.stored);
    if (!r)
        r = node_obtain(e->dir, st, e->cn.stored, out);
    if (r) {
        close(fd);
        if (dir_discard(v, e->fd, tmp) == -ENOENT)
            dir_discard(v, e->fd, e->cn.stored);
        return r;
    }
    node_set_dir_id(*out, d.id, e->pd);
    fd_publish(*out, fd, true, &fd);
    if (copied)
        newdirs_add(*out, NEWDIR_MADE);
    node_fd_put(*out);
    (*out)->meta_dirty = true;
    return 0;
}

static int mkdir_in(struct node *dir, const char *name, mode_t mode, struct stat *st, struct node **out)
{
    struct making m;
    struct stat raw;
    int r = making_begin(dir, name, &m);
    if (r)
        return r;
    r = make_dir(&m.e, mode, &raw, out);
    making_end(&m, r);
    if (!r)
        *st = raw;
    return r;
}

int node_mkdir(struct node *dir, const char *name, mode_t mode, struct stat *st, struct node **out)
{
    VOLUME_CHANGE(dir->vol);
    int r = tree_begin_change(dir);
    return r ? r : tree_end(dir->vol, mkdir_in(dir, name, mode, st, out));
}
