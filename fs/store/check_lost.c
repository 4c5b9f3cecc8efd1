/* Where repairs put what can't stay: lost+found, a directory like any other, and for what no key opens a
 * directory of ciphertext beside it. Nothing is deleted. */
#include "fs/store/check_int.h"
#include "fs/store/file_home.h"
#include "fs/store/txn.h"
#include "latchfs/io.h"
#include "latchfs/symlink.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TRIES_MAX 100000u
#define SIDECAR_NAME_MAX (NAME_CIPHER_MAX + sizeof LONG_NAME_SUFFIX)

int lost_dir(struct node *top, struct node **out)
{
    struct stat st;
    struct node *n;
    int r = node_lookup(top, LOST_NAME, &st, &n);
    if (r == -ENOENT)
        r = node_mkdir(top, LOST_NAME, 0700, &st, &n);
    if (!r && !S_ISDIR(st.st_mode)) {
        node_unref(n, 1);
        r = -ENOTDIR;
    }
    if (!r)
        *out = n;
    return r;
}

/* ---- into a directory with keys ---- */

struct moving {
    struct check *c;
    struct node *from;
    const char *stored;
    struct entry e; /* where it goes */
    struct stat st;
    int fd; /* of from */
};

/* The record says where the directory stands, so it goes first: cut here, it stands where it stood before,
 * and as wrong as before. */
static int move_record(struct moving *m)
{
    struct dirrec d;
    struct pd *pd;
    AUTO_CLOSE int fd = fd_openat(m->c->v, m->fd, m->stored, O_RDONLY | O_DIRECTORY, 0);
    int r = fd < 0 ? fd : record_read(m->c->v, fd, &d, &pd);
    if (r)
        return r;
    memcpy(d.parent[0], m->e.id, ID_BYTES);
    memset(d.parent[1], 0, ID_BYTES);
    memset(d.name[1], 0, DIRREC_NAME_BYTES);
    dirrec_name_tag(m->e.cn.stored, d.name[0]);
    return record_replace(m->c->v, fd, &d, pd_keys(pd));
}

/* A target is bound to its directory. */
static int move_link(struct moving *m)
{
    char target[SYMLINK_PLAIN_MAX + 1];
    uint8_t id[ID_BYTES];
    const struct pd_keys *keys = node_keys(m->from);
    int r = keys ? node_dir_id(m->from, id) : LFS_ERR_NOKEY;
    if (!r)
        r = link_read(m->c->v, m->fd, m->stored, keys, id, target);
    if (!r)
        r = link_make(m->c->v, m->e.fd, m->e.keys, m->e.id, target, m->e.cn.stored);
    sodium_memzero(target, sizeof target);
    if (r)
        return r;
    link_copy_attributes(m->e.fd, m->e.cn.stored, &m->st);
    return link_remove(m->fd, m->stored);
}

static int move_entry(struct moving *m)
{
    if (S_ISLNK(m->st.st_mode) && m->from != m->e.dir)
        return move_link(m);
    int r = S_ISDIR(m->st.st_mode) ? move_record(m) : 0;
    if (!r && renameat2(m->fd, m->stored, m->e.fd, m->e.cn.stored, RENAME_NOREPLACE))
        r = -errno;
    return r;
}

/* The node, if there is one, is found by its new place. */
static void settle_place(struct moving *m)
{
    struct stat st;
    struct node *n;
    if (fstatat(m->e.fd, m->e.cn.stored, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        node_obtain(m->e.dir, &st, m->e.cn.stored, &n) == 0)
        node_unref(n, 1);
}

static int move_locked(struct moving *m)
{
    struct volume *v = m->c->v;
    bool made = false;
    struct stat st;
    if (fstatat(m->fd, m->stored, &m->st, AT_SYMLINK_NOFOLLOW))
        return -errno;
    if (fstatat(m->e.fd, m->e.cn.stored, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return -EEXIST;
    int r = long_name_put(&m->e, &made);
    if (!r)
        r = move_entry(m);
    if (r && made)
        long_name_drop(&m->e);
    if (!r)
        r = dir_fd_sync(v, m->e.fd);
    if (r)
        return r;
    entry_changed(&m->e);
    settle_place(m);
    return dir_fd_sync(v, m->fd);
}

static int move_as(struct moving *m, struct node *to, const char *name)
{
    struct dir_set set = {0};
    int r = entry_get(to, name, &m->e);
    if (r)
        return r;
    dir_set_add(&set, m->c->v, m->from->dev, m->from->ino);
    dir_set_add(&set, m->c->v, to->dev, to->ino);
    dir_set_lock(&set);
    r = move_locked(m);
    dir_set_unlock(&set);
    entry_put(&m->e);
    return r;
}

/* name, then name.2, name.3 and so on; cut where it would be too long. */
static void number_name(const char *name, unsigned i, char out[static NAME_PLAIN_MAX + 1])
{
    char suffix[16] = "";
    if (i > 1)
        snprintf(suffix, sizeof suffix, ".%u", i);
    snprintf(out, NAME_PLAIN_MAX + 1, "%.*s%s", (int)(NAME_PLAIN_MAX - strlen(suffix)), name, suffix);
}

static int name_dir(struct file *f, const void *dir_id, uint64_t *reserved)
{
    struct file_header h = f->hdr;
    struct txn t;
    unsigned i = 0;
    if (f->state == CONTENT_NONE || sodium_is_zero(h.home[0], ID_BYTES))
        return 0;
    while (i < HEADER_HOMES && !sodium_is_zero(h.home[i], ID_BYTES))
        i++;
    if (i < HEADER_HOMES)
        memcpy(h.home[i], dir_id, ID_BYTES);
    else
        memset(h.home, 0, sizeof h.home);
    txn_begin(&t, f);
    txn_header_as_is(&t, &h);
    return file_commit_header(&t, &h, reserved);
}

/* A file's header must name the directory before it has a name there, and the one it leaves until that is on
 * disk: *moving is the file until its rename is over (referenced). One that can't be read keeps its damage,
 * wherever it goes. */
static int name_destination(struct check *c, struct node *dir, const char *stored, struct node *to,
                            struct node **moving)
{
    struct stat st;
    uint8_t id[ID_BYTES];
    int fd, r = node_dir_id(to, id);
    if (r || dir == to || (r = node_fd_get(dir, false, &fd)))
        return r;
    r = fstatat(fd, stored, &st, AT_SYMLINK_NOFOLLOW) ? -errno : 0;
    node_fd_put(dir);
    struct node *n = !r && S_ISREG(st.st_mode) ? node_find(c->v, &st) : NULL;
    if (!n)
        return r;
    home_unlink_begin(n);
    *moving = n;
    r = check_change_file(c, n, name_dir, id);
    return r && r > -4096 ? r : journal_flush(c->v->journal);
}

static int rename_numbered(struct moving *m, struct node *to, const char *name,
                           char used[static NAME_PLAIN_MAX + 1])
{
    int r = volume_enter(m->c->v, false);
    if (r)
        return r;
    r = node_fd_get(m->from, false, &m->fd);
    if (!r) {
        r = -EEXIST;
        for (unsigned i = 1; r == -EEXIST && i < TRIES_MAX; i++) {
            number_name(name, i, used);
            r = move_as(m, to, used);
        }
        node_fd_put(m->from);
    }
    volume_leave(m->c->v);
    return r;
}

int lost_rename(struct check *c, struct node *dir, const char *stored, struct node *to, const char *name,
                char used[static NAME_PLAIN_MAX + 1], char now[static NAME_CIPHER_MAX + 1])
{
    struct moving m = {.c = c, .from = dir, .stored = stored};
    struct node *moving = NULL;
    int r = name_destination(c, dir, stored, to, &moving);
    if (!r)
        r = rename_numbered(&m, to, name, used);
    if (!r)
        strcpy(now, m.e.cn.stored);
    if (moving)
        home_unlink_end(moving);
    node_unref(moving, 1);
    return r;
}

/* ---- out of the tree ---- */

static int open_buried(struct check *c)
{
    struct volume *v = c->v;
    if (mkdirat(v->root_fd, BURIED_NAME, 0700) && errno != EEXIST)
        return -errno;
    return fd_openat(v, v->root_fd, BURIED_NAME, O_RDONLY | O_DIRECTORY, 0);
}

/* A sidecar goes with its entry, under a name that tells which. What can't be moved stays, and is an orphan.
 */
static void bury_sidecar(int dirfd, const char *sidecar, int grave, const char *name, const char *suffix)
{
    char to[2 * NAME_CIPHER_MAX];
    snprintf(to, sizeof to, "%s%s", name, suffix);
    if (*sidecar)
        renameat2(dirfd, sidecar, grave, to, RENAME_NOREPLACE);
}

static int bury_at(struct check *c, int dirfd, const char *stored, int grave, char **where)
{
    char name[NAME_CIPHER_MAX + 1], link[LINK_SIDECAR_MAX] = "", side[SIDECAR_NAME_MAX] = "";
    struct stat st;
    if (fstatat(dirfd, stored, &st, AT_SYMLINK_NOFOLLOW))
        return -errno;
    if (S_ISLNK(st.st_mode) && st.st_nlink == 1)
        link_sidecar(dirfd, stored, &st, link);
    if (name_stored_kind(stored) == STORED_LONG)
        snprintf(side, sizeof side, "%s" LONG_NAME_SUFFIX, stored);
    int r = -EEXIST;
    for (unsigned i = 1; r == -EEXIST && i < TRIES_MAX; i++) {
        snprintf(name, sizeof name, "%u-%.200s", i, stored);
        r = renameat2(dirfd, stored, grave, name, RENAME_NOREPLACE) ? -errno : 0;
    }
    if (r)
        return r;
    bury_sidecar(dirfd, link, grave, name, ".target");
    bury_sidecar(dirfd, side, grave, name, LONG_NAME_SUFFIX);
    r = dir_fd_sync(c->v, grave);
    if (!r)
        r = dir_fd_sync(c->v, dirfd);
    return r ? r : asprintf(where, BURIED_NAME "/%s", name) < 0 ? -ENOMEM : 0;
}

int lost_bury(struct check *c, struct node *dir, const char *stored, char **where)
{
    int fd, r = volume_enter(c->v, false);
    if (r)
        return r;
    AUTO_CLOSE int grave = open_buried(c);
    r = grave < 0 ? grave : node_fd_get(dir, false, &fd);
    if (!r) {
        dir_wrlock(dir);
        r = bury_at(c, fd, stored, grave, where);
        dir_unlock(dir);
        node_fd_put(dir);
    }
    volume_leave(c->v);
    return r;
}
