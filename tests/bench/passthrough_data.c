#include "passthrough_ops.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

void pass_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    const struct passthrough *p = fuse_req_userdata(req);
    if (!p->answer_open) {
        fuse_reply_err(req, ENOSYS);
        return;
    }
    fi->keep_cache = 1;
    fi->cache_readdir = 1;
    fuse_reply_open(req, fi);
}

void pass_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    fuse_reply_err(req, 0);
}

/* ---- files ---- */

void pass_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    char *buf = session_reply_buffer();
    HELD h = hold(&pass_node(req, ino)->kept, true);
    ssize_t got = h.fd < 0 ? -1 : pread(h.fd, buf, size < REQUEST_BYTES_MAX ? size : REQUEST_BYTES_MAX, off);
    if (got < 0)
        fuse_reply_err(req, h.fd < 0 ? -h.fd : errno);
    else
        fuse_reply_buf(req, buf, (size_t)got);
}

/* A write by somebody who may not keep suid and sgid; libfuse does not hand the flag on. */
static int kill_priv(int fd)
{
    const struct fuse_write_in *in = (const void *)(session_request() + 1);
    struct stat st;
    if (!(in->write_flags & FUSE_WRITE_KILL_SUIDGID))
        return 0;
    if (fstat(fd, &st))
        return -1;
    return st.st_mode & (S_ISUID | S_ISGID) ? fchmod(fd, st.st_mode & 01777) : 0;
}

void pass_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
                struct fuse_file_info *fi)
{
    HELD h = hold(&pass_node(req, ino)->kept, true);
    ssize_t put = h.fd < 0 || kill_priv(h.fd) ? -1 : pwrite(h.fd, buf, size, off);
    if (put < 0)
        fuse_reply_err(req, h.fd < 0 ? -h.fd : errno);
    else
        fuse_reply_write(req, (size_t)put);
}

void pass_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    HELD h = hold(&pass_node(req, ino)->kept, true);
    fuse_reply_err(req, h.fd < 0 ? -h.fd : pass_errno(datasync ? fdatasync(h.fd) : fsync(h.fd)));
}

void pass_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi)
{
    HELD h = hold(&pass_node(req, ino)->kept, true);
    fuse_reply_err(req, h.fd < 0 ? -h.fd : pass_errno(fallocate(h.fd, mode, off, len)));
}

void pass_copy_range(fuse_req_t req, fuse_ino_t in, off_t off_in, struct fuse_file_info *fi_in,
                     fuse_ino_t out, off_t off_out, struct fuse_file_info *fi_out, size_t len, int flags)
{
    HELD from = hold(&pass_node(req, in)->kept, true);
    HELD to = hold(&pass_node(req, out)->kept, true);
    if (from.fd < 0 || to.fd < 0) {
        fuse_reply_err(req, from.fd < 0 ? -from.fd : -to.fd);
        return;
    }
    ssize_t n = copy_file_range(from.fd, &off_in, to.fd, &off_out, len, (unsigned)flags);
    if (n < 0)
        fuse_reply_err(req, errno);
    else
        fuse_reply_write(req, (size_t)n);
}

void pass_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
    HELD h = hold(&pass_node(req, ino)->kept, true);
    off_t at = h.fd < 0 ? -1 : lseek(h.fd, off, whence);
    if (at < 0)
        fuse_reply_err(req, h.fd < 0 ? -h.fd : errno);
    else
        fuse_reply_lseek(req, at);
}

/* ---- directories ---- */

/* One stream serves all who read the directory, as OPENDIR is not asked. It is closed at its end. */
static int position(struct node *n, int below, long at)
{
    if (!n->dir) {
        int fd = openat(below, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
            return errno;
        n->dir = fdopendir(fd);
        if (!n->dir) {
            close(fd);
            return ENOMEM;
        }
        n->at = 0;
    }
    if (n->at != at)
        seekdir(n->dir, at);
    n->at = at;
    return 0;
}

struct listing {
    fuse_req_t req;
    int dir;
    bool plus;
    char *buf;
    size_t size, used;
};

/* False when the entry does not fit. */
static bool add_entry(struct listing *l, const struct dirent *de)
{
    char *at = l->buf + l->used;
    size_t left = l->size - l->used;
    struct fuse_entry_param e = {.attr = {.st_ino = de->d_ino, .st_mode = (mode_t)de->d_type << 12}};
    if (!l->plus) {
        size_t need = fuse_add_direntry(l->req, at, left, de->d_name, &e.attr, de->d_off);
        l->used += need <= left ? need : 0;
        return need <= left;
    }
    size_t need = fuse_add_direntry_plus(l->req, NULL, 0, de->d_name, &e, 0);
    if (need > left)
        return false;
    if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
        pass_lookup(l->dir, de->d_name, &e);
    fuse_add_direntry_plus(l->req, at, left, de->d_name, &e, de->d_off);
    l->used += need;
    return true;
}

static int fill(struct listing *l, struct node *n, off_t off)
{
    const struct dirent *de = NULL;
    int r = position(n, l->dir, off);
    while (!r && (de = readdir(n->dir)) && add_entry(l, de))
        n->at = de->d_off;
    if (de)
        n->at = -1; /* one was read that did not fit */
    if (!r && l->used == 0) {
        closedir(n->dir);
        n->dir = NULL;
    }
    return r;
}

static void list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, bool plus)
{
    struct node *n = pass_node(req, ino);
    HELD h = hold(&n->kept, false);
    struct listing l = {.req = req, .dir = h.fd, .plus = plus, .buf = session_reply_buffer()};
    l.size = size < REQUEST_BYTES_MAX ? size : REQUEST_BYTES_MAX;
    pthread_mutex_lock(&n->lock);
    int r = h.fd < 0 ? -h.fd : fill(&l, n, off);
    pthread_mutex_unlock(&n->lock);
    if (r)
        fuse_reply_err(req, r);
    else
        fuse_reply_buf(req, l.buf, l.used);
}

void pass_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    list(req, ino, size, off, false);
}

void pass_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    list(req, ino, size, off, true);
}
