/* Directory records: read and checked when a directory is first used, rewritten when it moves. */
#include "fs/store/tree.h"
#include "latchfs/io.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <unistd.h>

/* Guards dir_id while it is being set; readers wait for dir_loaded. */
static pthread_mutex_t id_lock = PTHREAD_MUTEX_INITIALIZER;

/* LFS_ERR_CORRUPT: it is no record. -ENOENT. */
static int read_bytes(struct volume *v, int dirfd, uint8_t bytes[static DIRREC_BYTES])
{
    struct stat st;
    AUTO_CLOSE int fd = fd_openat(v, dirfd, DIRREC_NAME, O_RDONLY | O_NONBLOCK, 0);
    if (fd < 0)
        return fd == -ELOOP ? LFS_ERR_CORRUPT : fd;
    if (fstat(fd, &st))
        return -errno;
    if (!S_ISREG(st.st_mode) || st.st_size != DIRREC_BYTES)
        return LFS_ERR_CORRUPT;
    ssize_t n = io_pread(fd, bytes, DIRREC_BYTES, 0);
    if (n < 0)
        return (int)n;
    return n == DIRREC_BYTES ? 0 : LFS_ERR_CORRUPT;
}

struct reading {
    uint8_t bytes[DIRREC_BYTES];
    struct dirrec d;
    struct pd *pd; /* with keys asked for */
    bool copy;     /* the record itself is no good */
};

static int judge(struct volume *v, bool keyed, struct reading *r)
{
    int e = dirrec_parse(r->bytes, &r->d);
    if (e || !keyed)
        return e;
    r->pd = pd_find(v, r->d.pd_id);
    const struct pd_keys *keys = pd_keys(r->pd);
    return keys ? dirrec_check(r->bytes, &keys->names) : LFS_ERR_NOKEY;
}

/* A good record wins over any copy: the copy may be older. What a power cut leaves of a record that was not
 * flushed is a file all the same, so one that is missing has another reason. */
static int read_either(struct volume *v, int fd, bool keyed, struct reading *r)
{
    int e = read_bytes(v, fd, r->bytes);
    r->copy = false;
    if (e == -ENOENT)
        return LFS_ERR_CORRUPT;
    if (!e)
        e = judge(v, keyed, r);
    if ((e != LFS_ERR_CORRUPT && e != LFS_ERR_AUTH) || !copy_read(fd, r->bytes))
        return e;
    int by_copy = judge(v, keyed, r);
    r->copy = !by_copy || by_copy == LFS_ERR_NOKEY;
    return r->copy ? by_copy : e;
}

int record_claim(struct volume *v, int fd, struct dirrec *out)
{
    struct reading got;
    int r = read_either(v, fd, false, &got);
    if (!r)
        *out = got.d;
    return r;
}

static int read_checked(struct volume *v, int fd, struct reading *got, struct dirrec *out, struct pd **pd)
{
    int r = read_either(v, fd, true, got);
    if (!r) {
        *out = got->d;
        *pd = got->pd;
    }
    return r;
}

int record_read(struct volume *v, int fd, struct dirrec *out, struct pd **pd)
{
    struct reading got;
    return read_checked(v, fd, &got, out, pd);
}

int record_read_of(struct node *dir, int fd, struct dirrec *out, struct pd **pd)
{
    struct volume *v = dir->vol;
    struct reading got;
    int r = read_checked(v, fd, &got, out, pd);
    /* Of an unclean end there may be copies that are of no use any more. */
    if (!r && (got.copy || (v->suspect_since && copy_is_there(fd))))
        copy_found(dir, fd);
    bool foreign = r == LFS_ERR_NOKEY && dir == v->root && pd_root(v) && pd_keys(pd_root(v));
    return foreign ? LFS_ERR_AUTH : r;
}

int record_create(struct volume *v, int fd, const struct dirrec *d, const struct pd_keys *keys, bool *copied)
{
    uint8_t bytes[DIRREC_BYTES];
    dirrec_encode(d, &keys->names, bytes);
    *copied = copy_make(v, fd, bytes);
    int r = small_file_put(v, fd, DIRREC_NAME, bytes, sizeof bytes, !*copied);
    return r || *copied || order_of(v, fd) != ORDER_NONE ? r : dir_fd_sync(v, fd);
}

/* Best effort: the record's owner, who may move the directory, keeps it. */
static void keep_owner(int dirfd, const char *tmp)
{
    struct stat st;
    if (geteuid() == 0 && fstatat(dirfd, DIRREC_NAME, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        fchownat(dirfd, tmp, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) == 0)
        fd_chmodat(dirfd, tmp, st.st_mode & 07777);
}

/* Who may move a directory may write in it, but perhaps not change another user's file there. */
static int replace(struct volume *v, int dirfd, const uint8_t bytes[static DIRREC_BYTES])
{
    char tmp[TMP_NAME_MAX];
    tmp_name(v, tmp);
    int r = small_file_write(v, dirfd, tmp, bytes, DIRREC_BYTES);
    if (!r)
        keep_owner(dirfd, tmp);
    if (!r && renameat(dirfd, tmp, dirfd, DIRREC_NAME)) {
        r = -errno;
        unlinkat(dirfd, tmp, 0);
    }
    return r ? r : dir_fd_sync(v, dirfd);
}

int record_replace(struct volume *v, int fd, const struct dirrec *d, const struct pd_keys *keys)
{
    uint8_t bytes[DIRREC_BYTES];
    dirrec_encode(d, &keys->names, bytes);
    int r = replace(v, fd, bytes);
    if (!r)
        copy_drop(v, fd);
    return r;
}

/* The place is the one that the parent's lock keeps it at: nobody changes the record meanwhile. */
static int mend_at(struct node *dir, struct node *parent)
{
    struct volume *v = dir->vol;
    struct reading got;
    pthread_rwlock_rdlock(&v->tree_lock);
    bool there = dir->parent == parent && !atomic_load(&dir->removed);
    pthread_rwlock_unlock(&v->tree_lock);
    int fd, r = there ? node_fd_get(dir, false, &fd) : -ESTALE;
    if (r)
        return r;
    r = read_either(v, fd, true, &got);
    if (!r && got.copy)
        r = replace(v, fd, got.bytes);
    node_fd_put(dir);
    return r;
}

int record_mend(struct node *dir)
{
    struct node *parent = node_parent(dir);
    if (!parent)
        return -ESTALE;
    dir_wrlock(parent);
    int r = mend_at(dir, parent);
    dir_unlock(parent);
    node_unref(parent, 1);
    return r;
}

/* Overwrites the record. A write that ends in the middle leaves no record: then the old bytes come back. */
static int overwrite(int fd, const uint8_t bytes[static DIRREC_BYTES])
{
    uint8_t before[DIRREC_BYTES];
    ssize_t had = io_pread(fd, before, sizeof before, 0);
    if (had < 0)
        return (int)had;
    int r = io_pwrite(fd, bytes, DIRREC_BYTES, 0);
    if (r && had == sizeof before)
        io_pwrite(fd, before, sizeof before, 0);
    return r;
}

int record_update(struct volume *v, int fd, const struct dirrec *d, const struct pd_keys *keys, bool sync)
{
    uint8_t bytes[DIRREC_BYTES];
    dirrec_encode(d, &keys->names, bytes);
    AUTO_CLOSE int rec = fd_openat(v, fd, DIRREC_NAME, O_RDWR | O_NONBLOCK, 0);
    if (rec == -EACCES)
        return record_replace(v, fd, d, keys);
    if (rec < 0)
        return rec;
    int r = overwrite(rec, bytes);
    if (r || !sync)
        return r;
    r = io_fdatasync(rec);
    if (r)
        volume_fail_readonly(v, r, "syncing a directory record");
    else
        copy_drop(v, fd);
    return r;
}

void node_set_dir_id(struct node *dir, const uint8_t id[static ID_BYTES], struct pd *pd)
{
    pthread_mutex_lock(&id_lock);
    if (!dir->dir_loaded) {
        memcpy(dir->dir_id, id, ID_BYTES);
        atomic_store(&dir->pd, pd);
    }
    dir->dir_loaded = true;
    pthread_mutex_unlock(&id_lock);
}

static int read_of(struct node *dir, struct dirrec *d, struct pd **pd)
{
    int fd, r = node_fd_get(dir, false, &fd);
    if (r)
        return r;
    r = record_read_of(dir, fd, d, pd);
    node_fd_put(dir);
    return r;
}

int record_check_place(struct node *dir, struct node *parent, const char *stored)
{
    struct dirrec d;
    struct pd *pd;
    uint8_t id[ID_BYTES];
    int r = node_dir_id(parent, id);
    if (!r)
        r = read_of(dir, &d, &pd);
    if (!r && !dirrec_is_at(&d, id, stored))
        r = LFS_ERR_AUTH;
    return r;
}

/* Where a directory stands: its parent's id and its own name there, none for the root. */
struct standing {
    uint8_t parent[ID_BYTES];
    char stored[NAME_CIPHER_MAX + 1];
};

static int load_one(struct node *dir, const struct standing *at)
{
    struct dirrec d;
    struct pd *pd;
    int r = read_of(dir, &d, &pd);
    if (r)
        return r;
    bool fits = at->stored[0] ? dirrec_is_at(&d, at->parent, at->stored) : dirrec_is_at(&d, d.id, NULL);
    if (!fits)
        return LFS_ERR_AUTH;
    node_set_dir_id(dir, d.id, pd);
    return 0;
}

/* The highest directory from dir up that is not loaded (referenced), and where it stands. */
static int first_unloaded(struct node *dir, struct node **out, struct standing *at)
{
    struct volume *v = dir->vol;
    int r = 0;
    pthread_rwlock_rdlock(&v->tree_lock);
    while (dir->parent && !dir->parent->dir_loaded)
        dir = dir->parent;
    *at = (struct standing){.stored = ""};
    if (dir->parent && strlen(dir->stored) < sizeof at->stored) {
        memcpy(at->parent, dir->parent->dir_id, ID_BYTES);
        memcpy(at->stored, dir->stored, strlen(dir->stored) + 1);
    } else if (dir != v->root)
        r = -ESTALE;
    if (!r) {
        node_ref(dir);
        *out = dir;
    }
    pthread_rwlock_unlock(&v->tree_lock);
    return r;
}

int node_dir_id(struct node *dir, uint8_t id[static ID_BYTES])
{
    struct standing at;
    while (!dir->dir_loaded) {
        struct node *next;
        int r = first_unloaded(dir, &next, &at);
        if (r)
            return r;
        r = load_one(next, &at);
        node_unref(next, 1);
        if (r)
            return r;
    }
    memcpy(id, dir->dir_id, ID_BYTES);
    return 0;
}

int node_dir_enter(struct node *dir, uint8_t id[static ID_BYTES])
{
    int r = node_dir_id(dir, id);
    return r ? r : pd_check(atomic_load(&dir->pd), false);
}
