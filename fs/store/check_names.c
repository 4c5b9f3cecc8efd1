/* Repairs of names: half-made things and sidecars that nobody needs, and names that have lost their sidecar.
 */
#include "fs/store/check_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SIDECAR_NAME_MAX (NAME_CIPHER_MAX + sizeof LONG_NAME_SUFFIX)

/* ---- removing what nobody misses ---- */

int fix_remove(struct look *l)
{
    struct volume *v = l->c->v;
    struct stat st;
    int fd, r = node_fd_get(l->f->n, false, &fd);
    if (r)
        return r;
    dir_wrlock(l->f->n);
    tmp_discard(v, fd, l->name);
    r = fstatat(fd, l->name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? -ENOTEMPTY : dir_fd_sync(v, fd);
    dir_unlock(l->f->n);
    node_fd_put(l->f->n);
    l->gone = !r;
    return r;
}

static void sidecar_of(const char *stored, char out[static SIDECAR_NAME_MAX])
{
    snprintf(out, SIDECAR_NAME_MAX, "%s" LONG_NAME_SUFFIX, stored);
}

/* The entry that the sidecar's content is the name of. */
static int named_by(struct look *l, int fd, const char *sidecar, char stored[static NAME_CIPHER_MAX + 1])
{
    char encoded[NAME_ENCODED_MAX + 1], entry[NAME_CIPHER_MAX + 1];
    size_t len = strlen(sidecar) - strlen(LONG_NAME_SUFFIX);
    if (len > NAME_CIPHER_MAX)
        return LFS_ERR_CORRUPT;
    memcpy(entry, sidecar, len);
    entry[len] = '\0';
    int r = long_name_read(l->c->v, fd, entry, encoded);
    if (!r)
        name_long_stored(encoded, strlen(encoded), stored);
    return r;
}

/* An orphan whose content is the name of another entry here that has none takes its place. */
static int hand_over(struct look *l, int fd)
{
    char stored[NAME_CIPHER_MAX + 1], side[SIDECAR_NAME_MAX], has[NAME_CIPHER_MAX + 1];
    struct stat st;
    if (name_stored_kind(l->name) != STORED_LONG_SIDECAR || named_by(l, fd, l->name, stored) ||
        fstatat(fd, stored, &st, AT_SYMLINK_NOFOLLOW))
        return -ENOENT;
    sidecar_of(stored, side);
    if (strcmp(side, l->name) == 0 || (named_by(l, fd, side, has) == 0 && strcmp(has, stored) == 0))
        return -ENOENT;
    if (renameat(fd, l->name, fd, side))
        return -errno;
    return dir_fd_sync(l->c->v, fd);
}

/* True for a symbolic link without a target: a sidecar that no link names may be what it lost. */
static int is_broken_link(const char *name, unsigned char type, void *arg)
{
    struct look *l = arg;
    struct look link = {.c = l->c, .f = l->f, .name = name, .fd = l->fd, .keys = l->keys};
    if (type != DT_LNK && type != DT_UNKNOWN)
        return 0;
    if (fstatat(l->fd, name, &link.st, AT_SYMLINK_NOFOLLOW) || !S_ISLNK(link.st.st_mode))
        return 0;
    check_link(&link);
    return link.hits.count > 0;
}

static int has_broken_link(struct look *l)
{
    AUTO_CLOSE int own = fd_openat(l->c->v, l->fd, ".", O_RDONLY | O_DIRECTORY, 0);
    return own < 0 ? own : dir_scan(own, is_broken_link, l);
}

int fix_orphan(struct look *l)
{
    int r = node_fd_get(l->f->n, false, &l->fd);
    if (r)
        return r;
    dir_wrlock(l->f->n);
    int given = hand_over(l, l->fd);
    dir_unlock(l->f->n);
    if (given && name_stored_kind(l->name) != STORED_LONG_SIDECAR)
        r = has_broken_link(l);
    node_fd_put(l->f->n);
    l->gone = !given;
    if (r > 0)
        r = -EBUSY;
    return r || !given ? r : fix_remove(l);
}

/* ---- long names ---- */

struct donor {
    struct look *l;
    int fd;
    char name[SIDECAR_NAME_MAX]; /* of the sidecar that fits */
};

static int is_donor(const char *name, unsigned char type, void *arg)
{
    struct donor *d = arg;
    char stored[NAME_CIPHER_MAX + 1];
    if (name_stored_kind(name) != STORED_LONG_SIDECAR || named_by(d->l, d->fd, name, stored) ||
        strcmp(stored, d->l->name) != 0)
        return 0;
    snprintf(d->name, sizeof d->name, "%s", name);
    return 1;
}

/* Two sidecars may have changed places, so that they change back at once. */
static int take_sidecar(struct look *l, int fd)
{
    struct donor d = {.l = l, .fd = fd};
    char side[SIDECAR_NAME_MAX], encoded[NAME_ENCODED_MAX + 1];
    AUTO_CLOSE int own = fd_openat(l->c->v, fd, ".", O_RDONLY | O_DIRECTORY, 0);
    int r = own < 0 ? own : dir_scan(own, is_donor, &d);
    if (r <= 0)
        return r ? r : -ENOENT;
    sidecar_of(l->name, side);
    if (renameat2(fd, d.name, fd, side, RENAME_EXCHANGE) == 0)
        return dir_fd_sync(l->c->v, fd);
    if (errno != ENOENT)
        return -errno;
    d.name[strlen(d.name) - strlen(LONG_NAME_SUFFIX)] = '\0';
    r = long_name_read(l->c->v, fd, d.name, encoded);
    if (!r)
        r = small_file_write(l->c->v, fd, side, encoded, strlen(encoded));
    return r ? r : dir_fd_sync(l->c->v, fd);
}

/* The plaintext path of a name in a directory on the way. */
int look_path_in(const struct look *l, const struct frame *f, const char *below, const char *name,
                 struct hit *h)
{
    const char *slash = f->plain_len ? "/" : "";
    int n = asprintf(&h->moved_to, "%.*s%s%s%s", (int)f->plain_len, l->c->plain.s, slash, below, name);
    return n < 0 ? -ENOMEM : 0;
}

void look_renamed(struct look *l, const char *now)
{
    memmove(l->now, now, strlen(now) + 1);
    l->name = l->now;
}

void look_moved(struct look *l)
{
    pthread_mutex_lock(&l->c->lock);
    inode_set_add(&l->c->moved, l->st.st_ino);
    pthread_mutex_unlock(&l->c->lock);
}

/* Another name in the same directory. */
static int name_anew(struct look *l, struct hit *h)
{
    char want[64], used[NAME_PLAIN_MAX + 1], now[NAME_CIPHER_MAX + 1];
    snprintf(want, sizeof want, "lost-name-%.8s", l->name + strlen(LONG_PREFIX));
    int r = lost_rename(l->c, l->f->n, l->name, l->f->n, want, used, now);
    if (r)
        return r;
    look_renamed(l, now);
    look_moved(l);
    return look_path_in(l, l->f, "", used, h);
}

int fix_name(struct look *l, struct hit *h)
{
    int fd;
    if (name_stored_kind(l->name) != STORED_LONG || l->plain_known || !l->f->keyed)
        return -ENOENT;
    int r = node_fd_get(l->f->n, false, &fd);
    if (r)
        return r;
    dir_wrlock(l->f->n);
    r = take_sidecar(l, fd);
    dir_unlock(l->f->n);
    node_fd_put(l->f->n);
    return r == -ENOENT ? name_anew(l, h) : r;
}
