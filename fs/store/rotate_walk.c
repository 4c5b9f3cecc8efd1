/* The walk of a rotation: every regular file of one protected directory, by the directories' records and
 * without a name being decrypted. Memory is bounded by the depth of the tree, but for what moves meanwhile
 * and for files with several links. */
#include "fs/store/pd.h"
#include "fs/store/rotate.h"
#include "fs/store/tree.h"

#include "latchfs/io.h"
#include "latchfs/layout.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEPTH_MAX 2000 /* of directories; PATH_MAX allows no more */
#define LIST_BYTES 16384

/* ---- files ---- */

/* What a look at the first bytes tells. */
enum look { LOOK_RIGHT, LOOK_WORK, LOOK_OTHER };

static enum look look_at(struct rotation *r, int fd, const struct stat *st)
{
    uint8_t image[HEADER_BYTES];
    struct file_header h;
    if (!S_ISREG(st->st_mode))
        return LOOK_OTHER;
    if (st->st_size == 0)
        return LOOK_RIGHT;
    if (io_pread(fd, image, sizeof image, 0) != sizeof image)
        return LOOK_WORK;
    if (header_decode(image, &h))
        return LOOK_WORK;
    if (memcmp(h.pd_id, r->o->pd_id, ID_BYTES) || !r->kind->is_right(r, &h))
        return LOOK_WORK;
    rotate_found(r, h.key_version);
    return LOOK_RIGHT;
}

/* False for another link of a file that was seen. */
static bool count_file(struct rotation *r, const struct stat *st)
{
    if (st->st_nlink > 1 && !inode_set_add(&r->seen, st->st_ino))
        return false;
    r->files++;
    r->p.files = r->files > r->p.files ? r->files : r->p.files;
    return true;
}

/* The version that the header in place claims counts, though nothing vouches for it: whoever asks which keys
 * are in use must hear of a file that only a key from elsewhere may open. */
static int note_placed(struct rotation *r, struct node *n)
{
    uint8_t image[HEADER_BYTES];
    struct file_header h;
    int fd, e = rotate_enter(r);
    if (e)
        return e;
    e = node_fd_get(n, false, &fd);
    if (!e) {
        if (io_pread(fd, image, sizeof image, 0) == sizeof image && header_decode(image, &h) == 0 &&
            memcmp(h.pd_id, r->o->pd_id, ID_BYTES) == 0)
            rotate_found(r, h.key_version);
        node_fd_put(n);
    }
    rotate_leave(r);
    return 0;
}

/* What could not be found by the name that led here, and still has one, must be looked for again: its other
 * names were passed by. */
static int passed_by(struct rotation *r, const struct node *n, int e)
{
    r->missed = r->missed || (e == -ESTALE && !atomic_load(&n->removed));
    return rotate_count_damage(r, e);
}

static int work_on(struct rotation *r, struct node *n)
{
    uint64_t damaged = r->damaged;
    int e = passed_by(r, n, atomic_load(&n->removed) ? 0 : r->kind->work(r, n));
    return !e && (r->damaged > damaged || !r->settles) ? note_placed(r, n) : e;
}

/* Opens and looks; *n is the node when there is work for it (referenced), with the descriptor at hand. */
static int look_entry(struct rotation *r, struct node *dir, const char *name, struct node **n)
{
    struct stat st;
    int dirfd, e = node_fd_get(dir, false, &dirfd);
    if (e)
        return e;
    int flags = (r->kind->changes ? O_RDWR : O_RDONLY) | O_NONBLOCK;
    int fd = fd_openat(r->v, dirfd, name, flags, 0);
    if (fd == -EACCES) { /* the node's own way to open it knows what to do */
        e = fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) ? -errno : 0;
    } else {
        e = fd < 0 ? fd : fstat(fd, &st) ? -errno : 0;
    }
    node_fd_put(dir);
    enum look look = e ? LOOK_OTHER : fd < 0 ? LOOK_WORK : look_at(r, fd, &st);
    if (look != LOOK_OTHER && S_ISREG(st.st_mode) && count_file(r, &st) && look == LOOK_WORK)
        e = node_obtain(dir, &st, name, n);
    if (*n && fd >= 0) {
        fd_publish(*n, fd, r->kind->changes, &fd);
        node_fd_put(*n);
    } else if (fd >= 0) {
        close(fd);
    }
    return e;
}

/* For the estimate. */
static int weigh_entry(struct rotation *r, struct node *dir, const char *name)
{
    struct stat st;
    uint64_t size = 0;
    int fd, e = node_fd_get(dir, false, &fd);
    if (e)
        return e;
    e = fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) ? -errno : 0;
    node_fd_put(dir);
    if (e || !S_ISREG(st.st_mode) || (st.st_nlink > 1 && !inode_set_add(&r->seen, st.st_ino)))
        return e;
    layout_size((uint64_t)st.st_size, &size);
    r->p.files_total++;
    r->p.bytes_total += size;
    return 0;
}

static int visit_entry(struct rotation *r, struct node *dir, const char *name)
{
    struct node *n = NULL;
    int e = rotate_enter(r);
    if (e)
        return e;
    e = r->counting ? weigh_entry(r, dir, name) : look_entry(r, dir, name, &n);
    e = rotate_count_damage(r, e);
    rotate_leave(r);
    if (!e && n)
        e = work_on(r, n);
    if (n)
        node_unref(n, 1);
    return e ? e : rotate_pace(r, 0);
}

/* ---- directories ---- */

/* Whether the entries of dir belong to the protected directory, by its record. Ours may lie in one whose keys
 * are not here, so that it can't be loaded as a lookup does it: its own record says enough. */
static int check_dir(struct rotation *r, struct node *dir, bool *ours)
{
    struct dirrec d;
    struct pd *pd = NULL, *none = NULL;
    int fd, e = node_fd_get(dir, false, &fd);
    if (e)
        return e;
    e = record_claim(r->v, fd, &d);
    *ours = !e && !memcmp(d.pd_id, r->o->pd_id, ID_BYTES);
    if (*ours)
        e = record_read(r->v, fd, &d, &pd);
    if (*ours && r->kind->changes && copy_is_there(fd)) /* of an older record, perhaps */
        copy_found(dir, fd);
    node_fd_put(dir);
    if (!e && *ours)
        atomic_compare_exchange_strong(&dir->pd, &none, pd);
    return e == LFS_ERR_CORRUPT && atomic_load(&dir->removed) ? -ENOENT : e;
}

static int list_some(struct node *dir, uint64_t cookie, char *buf, size_t *len)
{
    int fd = -1;
    pthread_rwlock_rdlock(&dir->vol->tree_lock);
    int e = fd_open_fresh(dir, false, &fd);
    pthread_rwlock_unlock(&dir->vol->tree_lock);
    if (e)
        return e;
    ssize_t n = lseek(fd, (off_t)cookie, SEEK_SET) < 0 ? -1 : getdents64(fd, buf, LIST_BYTES);
    e = n < 0 ? -errno : 0;
    close(fd);
    *len = n < 0 ? 0 : (size_t)n;
    return e;
}

/* The node of a subdirectory; NULL when it is none. */
static int get_dir(struct rotation *r, struct node *dir, const char *name, struct node **out)
{
    struct stat st;
    int fd, e = rotate_enter(r);
    if (e)
        return e;
    e = node_fd_get(dir, false, &fd);
    if (!e) {
        e = fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) ? -errno : 0;
        node_fd_put(dir);
    }
    if (!e && S_ISDIR(st.st_mode))
        e = node_obtain(dir, &st, name, out);
    rotate_leave(r);
    return e == LFS_ERR_NOKEY ? LFS_ERR_AUTH
                              : e; /* it came from elsewhere, and what it is now in is locked */
}

static int walk_entry(struct rotation *r, struct node *dir, bool ours, const struct dirent64 *d, int depth)
{
    enum stored_kind kind = name_stored_kind(d->d_name);
    struct node *sub = NULL;
    if (kind != STORED_NAME && kind != STORED_LONG)
        return 0;
    int e = 0;
    if (d->d_type == DT_DIR || d->d_type == DT_UNKNOWN)
        e = rotate_count_damage(r, get_dir(r, dir, d->d_name, &sub));
    if (sub) {
        e = rotate_walk(r, sub, depth + 1);
        node_unref(sub, 1);
    } else if (!e && ours && (d->d_type == DT_REG || d->d_type == DT_UNKNOWN)) {
        e = visit_entry(r, dir, d->d_name);
    }
    return e;
}

/* The directory is opened anew for each buffer, so that a deep tree does not need a descriptor for each
 * level. */
static int walk_list(struct rotation *r, struct node *dir, bool ours, char *buf, int depth)
{
    uint64_t cookie = 0;
    size_t len = 0;
    int e;
    do {
        e = rotate_enter(r);
        if (e)
            return e;
        e = list_some(dir, cookie, buf, &len);
        rotate_leave(r);
        if (e)
            return passed_by(r, dir, e);
        for (size_t at = 0; !e && at < len;) {
            const struct dirent64 *d = (const void *)(buf + at);
            at += d->d_reclen;
            cookie = (uint64_t)d->d_off;
            e = walk_entry(r, dir, ours, d, depth);
        }
    } while (!e && len);
    return e;
}

int rotate_walk(struct rotation *r, struct node *dir, int depth)
{
    bool ours = false;
    if (depth > DEPTH_MAX)
        return rotate_count_damage(r, LFS_ERR_CORRUPT);
    inode_set_add(&r->walked, dir->ino);
    int e = rotate_pace(r, 0);
    if (!e)
        e = rotate_enter(r);
    if (e)
        return e;
    e = check_dir(r, dir, &ours);
    rotate_leave(r);
    if (e)
        return passed_by(r, dir, e);
    AUTO_FREE char *buf = malloc(LIST_BYTES);
    return buf ? walk_list(r, dir, ours, buf, depth) : -ENOMEM;
}

/* ---- one by one ---- */

/* As in the walk, whatever the header says: the directory that it was found in tells whose it is. */
static bool is_ours(const struct rotation *r, const struct node *n)
{
    const struct pd *pd = atomic_load(&n->pd);
    return pd && memcmp(pd->id, r->o->pd_id, ID_BYTES) == 0;
}

int rotate_visit(struct rotation *r, struct node *n)
{
    struct stat st;
    int fd, e = rotate_enter(r);
    if (e)
        return e;
    enum look look = LOOK_OTHER;
    if (is_ours(r, n)) {
        e = atomic_load(&n->removed) ? -ENOENT : node_fd_get(n, false, &fd);
        if (!e) {
            e = fstat(fd, &st) ? -errno : 0;
            look = e ? LOOK_OTHER : look_at(r, fd, &st);
            node_fd_put(n);
        }
    }
    rotate_leave(r);
    e = passed_by(r, n, e);
    return !e && look == LOOK_WORK ? work_on(r, n) : e;
}
