#include "fs/mount/dir_streams.h"
#include "fs/mount/ops.h"

#include "latchfs/err.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* An open directory. Two threads of a program may read from one descriptor. */
struct handle {
    pthread_mutex_t lock; /* guards stream */
    struct dir_stream *stream;
};

static struct handle *handle_of(const struct fuse_file_info *fi)
{
    return (struct handle *)(uintptr_t)fi->fh;
}

static void handle_free(struct handle *h)
{
    dir_close(h->stream);
    pthread_mutex_destroy(&h->lock);
    free(h);
}

void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct node *n = ops_node(req, ino);
    struct handle *h = calloc(1, sizeof *h);
    int r = h ? dir_open(n, &h->stream) : -ENOMEM;
    if (r) {
        free(h);
        ops_reply_err(req, n, r);
        return;
    }
    pthread_mutex_init(&h->lock, NULL);
    fi->fh = (uintptr_t)h;
    fi->keep_cache = fi->cache_readdir = !ops_daemon(req)->shared;
    if (fuse_reply_open(req, fi))
        handle_free(h);
}

void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    handle_free(handle_of(fi));
    fuse_reply_err(req, 0);
}

/* From this answer on the kernel opens directories without asking. */
void op_opendir_unasked(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    fuse_reply_err(req, ENOSYS);
}

/* A reply under construction. plus: entries carry attributes, and a reference each. */
struct listing {
    fuse_req_t req;
    struct node *dir;
    bool plus;
    char *buf;
    size_t size, used;
};

static bool is_dot(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Looks a child up. An entry that cannot be looked up now (removed meanwhile, damaged) is listed without
 * attributes: the kernel then asks for it by name and gets the error. */
static struct node *plus_entry(struct listing *l, const struct dir_entry *de, struct fuse_entry_param *e)
{
    struct node *child;
    struct stat st;
    *e = (struct fuse_entry_param){.attr = {.st_ino = de->ino, .st_mode = de->type}};
    if (is_dot(de->name) || node_lookup_listed(l->dir, de, &st, &child))
        return NULL;
    *e = ops_entry(l->req, child, &st);
    return child;
}

/* False when the entry does not fit. */
static bool add_entry(struct listing *l, const struct dir_entry *de)
{
    char *at = l->buf + l->used;
    size_t left = l->size - l->used, need;
    struct stat st = {.st_ino = de->ino, .st_mode = de->type};
    if (!l->plus) {
        need = fuse_add_direntry(l->req, at, left, de->name, &st, (off_t)de->cookie);
    } else {
        struct fuse_entry_param e = {0};
        if (fuse_add_direntry_plus(l->req, NULL, 0, de->name, &e, 0) > left)
            return false;
        plus_entry(l, de, &e);
        need = fuse_add_direntry_plus(l->req, at, left, de->name, &e, (off_t)de->cookie);
    }
    if (need > left)
        return false;
    l->used += need;
    return true;
}

/* Gives back the references of a listing that the kernel did not take. */
static void drop_references(const struct listing *l)
{
    for (size_t at = 0; l->plus && at < l->used;) {
        const struct fuse_direntplus *e = (const void *)(l->buf + at);
        if (e->entry_out.nodeid)
            node_unref(ops_node(l->req, e->entry_out.nodeid), 1);
        at += FUSE_DIRENTPLUS_SIZE(e);
    }
}

/* *cookie: where to begin; goes on to where the next one begins. */
static int fill(struct listing *l, struct dir_stream *s, uint64_t *cookie)
{
    struct dir_entry de;
    int r;
    while ((r = dir_next(s, *cookie, &de)) > 0 && add_entry(l, &de))
        *cookie = de.cookie;
    return r < 0 && l->used == 0 ? r : 0;
}

static int fill_by_handle(struct listing *l, struct handle *h, uint64_t cookie)
{
    pthread_mutex_lock(&h->lock);
    int r = fill(l, h->stream, &cookie);
    pthread_mutex_unlock(&h->lock);
    return r;
}

/* Who has come to the end comes no more. */
static int fill_unasked(struct listing *l, struct dir_streams *t, uint64_t cookie)
{
    struct dir_stream *s;
    node_note_use(l->dir);
    int r = dir_streams_take(t, l->dir, cookie, &s);
    if (r)
        return r;
    r = fill(l, s, &cookie);
    if (l->used)
        dir_streams_put(t, l->dir, cookie, s);
    else
        dir_close(s);
    return r;
}

static void list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, const struct fuse_file_info *fi,
                 bool plus)
{
    struct listing l = {.req = req, .dir = ops_node(req, ino), .plus = plus, .buf = session_reply_buffer()};
    l.size = size < REQUEST_BYTES_MAX ? size : REQUEST_BYTES_MAX;
    struct handle *h = handle_of(fi);
    int r =
        h ? fill_by_handle(&l, h, (uint64_t)off) : fill_unasked(&l, ops_daemon(req)->streams, (uint64_t)off);
    if (r)
        ops_reply_err(req, l.dir, r);
    else if (fuse_reply_buf(req, l.buf, l.used))
        drop_references(&l);
}

void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    list(req, ino, size, off, fi, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    list(req, ino, size, off, fi, true);
}

void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    struct node *n = ops_node(req, ino);
    ops_reply_err(req, n, dir_fsync(n));
}
