/* What every operation on names begins and ends with, and lookup. */
#include "fs/store/tree.h"
#include "latchfs/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int tree_begin(struct node *n)
{
    return node_enter(n, false);
}

int tree_begin_change(struct node *n)
{
    int r = node_enter(n, false);
    if (r)
        return r;
    r = volume_check_writable(n->vol);
    if (r)
        volume_leave(n->vol);
    return r;
}

int tree_end(struct volume *v, int r)
{
    volume_leave(v);
    return r == LFS_ERR_AUTH || r == LFS_ERR_CORRUPT ? volume_note(v, r) : r;
}

/* ---- temporary names ---- */

static _Atomic uint64_t tmp_counter;

void tmp_name(struct volume *v, char out[static TMP_NAME_MAX])
{
    snprintf(out, TMP_NAME_MAX, TMP_PREFIX "%s%llx", node_life(v), (unsigned long long)tmp_counter++);
}

bool tmp_is_name(const char *stored)
{
    return strncmp(stored, TMP_PREFIX, sizeof TMP_PREFIX - 1) == 0;
}

bool tmp_is_ours(const struct volume *v, const char *stored)
{
    return strncmp(stored + sizeof TMP_PREFIX - 1, node_life(v), LIFE_DIGITS) == 0;
}

bool tmp_is_grave(const struct volume *v, const char *stored)
{
    return tmp_is_name(stored) && tmp_is_ours(v, stored) && !volume_check_writable(v);
}

static int discard_left(const char *name, unsigned char type, void *arg)
{
    struct volume *v = arg;
    if (tmp_is_name(name) && !tmp_is_ours(v, name))
        tmp_discard(v, v->root_fd, name);
    return 0;
}

int tree_clean_root(struct volume *v)
{
    return dir_scan(v->root_fd, discard_left, v);
}

/* ---- small files and syncs ---- */

static int small_file_fill(int fd, const void *data, size_t len, bool sync)
{
    struct stat st;
    if (fstat(fd, &st))
        return -errno;
    /* A umask or default ACL may have left the owner without access to what is ours to read. */
    if ((st.st_mode & (S_IRUSR | S_IWUSR)) != (S_IRUSR | S_IWUSR) &&
        fchmod(fd, (st.st_mode & 07777) | S_IRUSR | S_IWUSR))
        return -errno;
    int r = io_pwrite(fd, data, len, 0);
    return r || !sync ? r : io_fsync(fd);
}

int small_file_put(struct volume *v, int dirfd, const char *name, const void *data, size_t len, bool sync)
{
    AUTO_CLOSE int fd = fd_openat(v, dirfd, name, O_WRONLY | O_CREAT | O_EXCL, 0644);
    if (fd < 0)
        return fd;
    int r = small_file_fill(fd, data, len, sync);
    if (r)
        unlinkat(dirfd, name, 0);
    return r;
}

int small_file_write(struct volume *v, int dirfd, const char *name, const void *data, size_t len)
{
    return small_file_put(v, dirfd, name, data, len, true);
}

/* A directory that we may not read can't be synced alone. */
int dir_fd_sync(struct volume *v, int fd)
{
    int r = io_fsync(fd);
    if (r == -EBADF)
        r = syncfs(v->root_fd) ? -errno : 0;
    /* Some filesystems know no sync of directories. */
    if (r == -EINVAL || r == -EOPNOTSUPP)
        return 0;
    if (r)
        volume_fail_readonly(v, r, "sync of a directory");
    return r;
}

/* ---- entries ---- */

static int entry_enter(struct node *dir, struct entry *e)
{
    if (!S_ISDIR(dir->type))
        return -ENOTDIR;
    if (dir->removed)
        return -ENOENT;
    int r = node_dir_enter(dir, e->id);
    e->dir = dir;
    e->pd = atomic_load(&dir->pd);
    e->keys = pd_keys(e->pd);
    return r ? r : e->keys ? 0 : LFS_ERR_NOKEY;
}

int entry_get(struct node *dir, const char *name, struct entry *e)
{
    int r = entry_enter(dir, e);
    if (!r)
        r = name_encrypt(&e->keys->names, e->id, name, &e->cn);
    return r ? r : node_fd_get(dir, false, &e->fd);
}

/* The sidecar of a long name has been read for the listing. */
static int entry_get_listed(struct node *dir, const struct dir_entry *listed, struct entry *e)
{
    int r = entry_enter(dir, e);
    if (r)
        return r;
    strcpy(e->cn.stored, listed->stored);
    e->cn.is_long = false;
    return node_fd_get(dir, false, &e->fd);
}

int entry_check(const struct entry *e)
{
    if (e->dir->removed)
        return -ENOENT;
    return atomic_load(&e->dir->pd) == e->pd ? 0 : -ESTALE;
}

void entry_put(struct entry *e)
{
    node_fd_put(e->dir);
}

int entry_stat(const struct entry *e, struct stat *st)
{
    if (fstatat(e->fd, e->cn.stored, st, AT_SYMLINK_NOFOLLOW))
        return -errno;
    return e->cn.is_long ? long_name_check(e) : 0;
}

void entry_changed(const struct entry *e)
{
    e->dir->changes++;
}

void tree_fix_stat(struct node *n, struct stat *st)
{
    if (n->removed)
        st->st_nlink = 0;
    if (S_ISREG(n->type))
        file_fix_stat(n, st);
}

static int lookup_entry(const struct entry *e, struct stat *st, struct node **out)
{
    int r = entry_stat(e, st);
    if (!r && S_ISLNK(st->st_mode))
        r = link_fix_size(e->fd, e->cn.stored, st);
    return r ? r : node_obtain(e->dir, st, e->cn.stored, out);
}

/* Ends the use of e. */
static int lookup(struct entry *e, struct stat *st, struct node **out)
{
    struct stat raw;
    struct node *n;
    dir_rdlock(e->dir);
    int r = lookup_entry(e, &raw, &n);
    dir_unlock(e->dir);
    entry_put(e);
    if (r)
        return r;
    tree_fix_stat(n, &raw);
    *st = raw;
    *out = n;
    return 0;
}

int node_lookup(struct node *dir, const char *name, struct stat *st, struct node **out)
{
    struct entry e;
    int r = tree_begin(dir);
    if (r)
        return r;
    r = entry_get(dir, name, &e);
    return tree_end(dir->vol, r ? r : lookup(&e, st, out));
}

int node_lookup_listed(struct node *dir, const struct dir_entry *listed, struct stat *st, struct node **out)
{
    struct entry e;
    int r = tree_begin(dir);
    if (r)
        return r;
    r = entry_get_listed(dir, listed, &e);
    return tree_end(dir->vol, r ? r : lookup(&e, st, out));
}
