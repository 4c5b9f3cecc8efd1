/* Directory streams: a buffer of backing entries, decrypted one by one. A stream has a descriptor of its own
 * as long as there are not too many; without one it opens the directory for each buffer and goes on at a
 * cookie, which is the backing filesystem's position. A long directory is read ahead. */
#include "fs/store/ahead.h"
#include "fs/store/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STREAM_BYTES AHEAD_BYTES
#define FULL (STREAM_BYTES - sizeof(struct dirent64)) /* a buffer that another entry did not fit into */

struct dir_stream {
    struct node *dir;
    pthread_mutex_t lock; /* guards all that follows */
    int fd;               /* -1: none of its own */
    uint64_t first;       /* cookie of the first entry in buf */
    uint64_t next;        /* cookie after the entry answered last, which is the entry at `at` */
    size_t at, len;
    struct ahead ahead;
    char buf[STREAM_BYTES] __attribute__((aligned(8)));
};

static int open_own(struct node *dir)
{
    int fd = -1;
    pthread_rwlock_rdlock(&dir->vol->tree_lock);
    int r = fd_open_fresh(dir, false, &fd);
    pthread_rwlock_unlock(&dir->vol->tree_lock);
    return r ? r : fd;
}

static int stream_new(struct node *dir, struct dir_stream **out)
{
    struct dir_stream *d = calloc(1, sizeof *d);
    if (!d)
        return -ENOMEM;
    d->fd = -1;
    if (!dir->removed && fd_charge(dir->vol)) {
        d->fd = open_own(dir);
        if (d->fd < 0) {
            int r = d->fd;
            fd_uncharge(dir->vol);
            free(d);
            return r;
        }
    }
    pthread_mutex_init(&d->lock, NULL);
    node_ref(dir);
    d->dir = dir;
    *out = d;
    return 0;
}

int dir_open(struct node *dir, struct dir_stream **out)
{
    uint8_t id[ID_BYTES];
    if (!S_ISDIR(dir->type))
        return -ENOTDIR;
    int r = tree_begin(dir);
    if (r)
        return r;
    r = node_dir_enter(dir, id);
    if (!r)
        r = stream_new(dir, out);
    if (!r)
        pd_touch(atomic_load(&dir->pd));
    return tree_end(dir->vol, r);
}

void dir_close(struct dir_stream *d)
{
    if (!d)
        return;
    if (d->fd >= 0) {
        ahead_clear(&d->ahead);
        close(d->fd);
        fd_uncharge(d->dir->vol);
    }
    pthread_mutex_destroy(&d->lock);
    node_unref(d->dir, 1);
    free(d);
}

/* ---- the buffer ---- */

static const struct dirent64 *entry_at(const struct dir_stream *d, size_t at)
{
    return (const void *)(d->buf + at);
}

/* Finds the entry after cookie in the buffer. */
static bool seek_buffer(struct dir_stream *d, uint64_t cookie)
{
    if (cookie == d->next)
        return d->at < d->len;
    d->at = 0;
    d->next = d->first;
    while (d->next != cookie && d->at < d->len) {
        d->next = (uint64_t)entry_at(d, d->at)->d_off;
        d->at += entry_at(d, d->at)->d_reclen;
    }
    return d->next == cookie && d->at < d->len;
}

static ssize_t read_at(int fd, struct dir_stream *d, uint64_t cookie, bool seek)
{
    if (seek && lseek(fd, (off_t)cookie, SEEK_SET) < 0)
        return -errno;
    ssize_t n = getdents64(fd, d->buf, sizeof d->buf);
    return n < 0 ? -errno : n;
}

/* From its own descriptor, which stands where the buffer ended unless the reader went back. What others do to
 * a shared volume's directories is not read ahead. */
static ssize_t read_own(struct dir_stream *d, uint64_t cookie)
{
    ssize_t n;
    if (ahead_take(&d->ahead) && d->ahead.first == cookie) {
        n = d->ahead.len;
        memcpy(d->buf, d->ahead.buf, (size_t)n);
    } else {
        bool on = d->len > 0 && (uint64_t)lseek(d->fd, 0, SEEK_CUR) == cookie;
        n = read_at(d->fd, d, cookie, !on);
    }
    if (n > (ssize_t)FULL && !d->dir->vol->share)
        ahead_ask(&d->ahead, d->fd);
    return n;
}

static int fill_buffer(struct dir_stream *d, uint64_t cookie)
{
    ssize_t n;
    if (d->fd >= 0) {
        n = read_own(d, cookie);
    } else {
        AUTO_CLOSE int fd = open_own(d->dir);
        n = fd < 0 ? fd : read_at(fd, d, cookie, true);
    }
    if (n == -ENOENT || n == -ESTALE)
        n = d->dir->removed ? 0 : n;
    d->at = 0;
    d->len = n > 0 ? (size_t)n : 0;
    d->first = d->next = cookie;
    return n < 0 ? (int)n : 0;
}

/* ---- entries ---- */

static int long_name(struct dir_stream *d, const char *stored, const uint8_t *id, char *plain)
{
    struct volume *v = d->dir->vol;
    char encoded[NAME_ENCODED_MAX + 1], expect[NAME_CIPHER_MAX + 1];
    int fd, r = node_fd_get(d->dir, false, &fd);
    if (r)
        return r;
    r = long_name_read(v, fd, stored, encoded);
    node_fd_put(d->dir);
    if (r)
        return r;
    name_long_stored(encoded, strlen(encoded), expect);
    if (strcmp(expect, stored) != 0)
        return LFS_ERR_CORRUPT;
    const struct pd_keys *keys = node_keys(d->dir);
    return keys ? name_decrypt(&keys->names, id, encoded, strlen(encoded), plain) : LFS_ERR_NOKEY;
}

static void clean_left(struct dir_stream *d, const char *stored)
{
    struct volume *v = d->dir->vol;
    int fd;
    if (v->share || d->dir == v->root || tmp_is_ours(v, stored) || volume_check_writable(v) || !freeze_try(v))
        return;
    if (!node_fd_get(d->dir, false, &fd)) {
        tmp_discard(v, fd, stored);
        node_fd_put(d->dir);
    }
    freeze_leave(v);
}

/* 1: plain is the entry's name; 0: the entry is not shown. */
static int plain_name(struct dir_stream *d, const char *stored, const uint8_t *id, char *plain)
{
    const struct pd_keys *keys = node_keys(d->dir);
    int r;
    if (strcmp(stored, ".") == 0 || strcmp(stored, "..") == 0) {
        strcpy(plain, stored);
        return 1;
    }
    switch (name_stored_kind(stored)) {
    case STORED_NAME:
        r = keys ? name_decrypt(&keys->names, id, stored, strlen(stored), plain) : LFS_ERR_NOKEY;
        break;
    case STORED_LONG:
        r = long_name(d, stored, id, plain);
        break;
    case STORED_TMP:
        clean_left(d, stored);
        return 0;
    default:
        return 0;
    }
    if (r == LFS_ERR_AUTH || r == LFS_ERR_CORRUPT)
        volume_note(d->dir->vol, r);
    return r == 0;
}

static int next_entry(struct dir_stream *d, uint64_t cookie, struct dir_entry *out)
{
    uint8_t id[ID_BYTES];
    int r = node_dir_enter(d->dir, id);
    while (!r) {
        if (!seek_buffer(d, cookie)) {
            r = fill_buffer(d, cookie);
            if (r || d->len == 0)
                return r;
        }
        const struct dirent64 *e = entry_at(d, d->at);
        d->at += e->d_reclen;
        cookie = d->next = (uint64_t)e->d_off;
        if (plain_name(d, e->d_name, id, out->name)) {
            strcpy(out->stored, e->d_name);
            out->ino = e->d_ino;
            out->type = DTTOIF(e->d_type);
            out->cookie = cookie;
            return 1;
        }
    }
    return r;
}

int dir_next(struct dir_stream *d, uint64_t cookie, struct dir_entry *out)
{
    int r = tree_begin(d->dir);
    if (r)
        return r;
    pthread_mutex_lock(&d->lock);
    if (cookie == 0) /* from the beginning: what is buffered may be old */
        d->at = d->len = d->next = d->first = 0;
    r = next_entry(d, cookie, out);
    pthread_mutex_unlock(&d->lock);
    return tree_end(d->dir->vol, r);
}
