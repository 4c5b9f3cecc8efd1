#include "fs/mount/lock.h"
#include "fs/mount/ops.h"

#include "latchfs/err.h"

#include <errno.h>
#include <fcntl.h>

/* From this answer on the kernel opens and closes files without asking: what a file needs is loaded when it
 * is first read or written. */
void op_open_unasked(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    fuse_reply_err(req, ENOSYS);
}

/* Where others append too, the kernel does not know where the end is: what a descriptor with O_APPEND writes
 * goes past its cache. */
static bool is_appender(const struct fuse_file_info *fi)
{
    return (fi->flags & O_APPEND) && (fi->flags & O_ACCMODE) != O_RDONLY;
}

void ops_set_caching(const struct daemon *d, struct node *n, struct fuse_file_info *fi)
{
    fi->keep_cache = node_cache_holds(n);
    fi->direct_io = d->shared && is_appender(fi);
    fi->fh = fi->direct_io;
}

void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct node *n = ops_node(req, ino);
    int r = file_open(n, (fi->flags & O_ACCMODE) != O_RDONLY);
    if (r) {
        ops_reply_err(req, n, r);
        return;
    }
    ops_set_caching(ops_daemon(req), n, fi);
    if (fuse_reply_open(req, fi))
        file_close(n);
}

/* Everything is here already. */
void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    fuse_reply_err(req, 0);
}

void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    file_close(ops_node(req, ino));
    fuse_reply_err(req, 0);
}

/* A stream has the disk read ahead for it; others would be waiting for one page after the other. */
#define READ_NOW_MAX ((size_t)64 << 10)

/* What is not in memory is read by the disk while other requests are answered. */
static ssize_t read_or_put_off(struct node *n, char *buf, size_t size, uint64_t off, bool *later)
{
    bool soon = size <= READ_NOW_MAX;
    ssize_t got = soon ? file_read_now(n, buf, size, off) : -EAGAIN;
    *later = got == -EAGAIN && soon && session_put_off();
    while (got == -EAGAIN && soon && !*later && session_look_again())
        got = file_read_now(n, buf, size, off);
    return got == -EAGAIN && !*later ? file_read(n, buf, size, off) : got;
}

/* Nobody waits for what comes after the answer, and the kernel may have forgotten the node by then. */
static void reply_read(fuse_req_t req, struct node *n, const char *buf, size_t got, uint64_t off)
{
    bool stream = got > READ_NOW_MAX;
    if (stream)
        node_ref(n);
    fuse_reply_buf(req, buf, got);
    if (stream) {
        file_passed(n, off, got);
        node_unref(n, 1);
    }
}

void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    struct node *n = ops_node(req, ino);
    char *buf = session_reply_buffer();
    if (size > REQUEST_BYTES_MAX)
        size = REQUEST_BYTES_MAX;
    bool later;
    node_note_use(n);
    ssize_t got = read_or_put_off(n, buf, size, (uint64_t)off, &later);
    if (later)
        fuse_reply_none(req);
    else if (got < 0)
        ops_reply_err(req, n, (int)got);
    else
        reply_read(req, n, buf, (size_t)got, (uint64_t)off);
}

/* libfuse does not hand this flag on. */
static bool write_kills_priv(void)
{
    const struct fuse_in_header *head = session_request();
    const struct fuse_write_in *in = (const void *)(head + 1);
    return in->write_flags & FUSE_WRITE_KILL_SUIDGID;
}

/* The answers to these requests carry no attributes, so the kernel would go on believing the old mode, and
 * honour it. */
static int kill_priv(fuse_req_t req, fuse_ino_t ino, bool asked)
{
    struct daemon *d = ops_daemon(req);
    if (!d->kills_priv || !asked)
        return 0;
    struct node *n = ops_node(req, ino);
    struct stat st;
    int r = node_getattr(n, &st);
    mode_t before = st.st_mode;
    if (!r)
        r = ops_kill_priv(n, &st);
    if (!r && st.st_mode != before)
        session_inval_attr(d->session, ino);
    return r;
}

/* FALLOCATE and COPY_FILE_RANGE have no flag; the kernel leaves the decision to us. */
static bool caller_is_ordinary(fuse_req_t req)
{
    return fuse_req_ctx(req)->uid != 0;
}

void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
              struct fuse_file_info *fi)
{
    struct daemon *d = ops_daemon(req);
    struct node *n = ops_node(req, ino);
    atomic_fetch_add(&d->writes, 1);
    lock_note_write(d, n);
    node_note_use(n);
    ssize_t put = kill_priv(req, ino, write_kills_priv());
    bool append = fi->fh && (fi->flags & O_APPEND);
    if (put == 0)
        put = append ? file_append(n, buf, size) : file_write(n, buf, size, (uint64_t)off);
    if (put < 0)
        ops_reply_err(req, n, (int)put);
    else
        fuse_reply_write(req, (size_t)put);
}

void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    struct node *n = ops_node(req, ino);
    ops_reply_err(req, n, file_fsync(n, datasync));
}

void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi)
{
    struct node *n = ops_node(req, ino);
    int r = kill_priv(req, ino, caller_is_ordinary(req));
    if (!r)
        r = file_fallocate(n, mode, (uint64_t)off, (uint64_t)len);
    ops_reply_err(req, n, r);
}

void op_copy_range(fuse_req_t req, fuse_ino_t in, off_t off_in, struct fuse_file_info *fi_in, fuse_ino_t out,
                   off_t off_out, struct fuse_file_info *fi_out, size_t len, int flags)
{
    struct node *from = ops_node(req, in), *to = ops_node(req, out);
    ssize_t n = flags ? -EINVAL : kill_priv(req, out, caller_is_ordinary(req));
    if (n == 0)
        n = file_copy_range(from, (uint64_t)off_in, to, (uint64_t)off_out, len);
    if (n < 0)
        ops_reply_err(req, to, (int)n);
    else
        fuse_reply_write(req, (size_t)n);
}

void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
    struct node *n = ops_node(req, ino);
    int64_t at = file_seek(n, (uint64_t)off, whence);
    if (at < 0)
        ops_reply_err(req, n, (int)at);
    else
        fuse_reply_lseek(req, at);
}
