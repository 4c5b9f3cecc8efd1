#include "fs/store/file_placed.h"

#include "latchfs/io.h"
#include "latchfs/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>

/* What is read by one call. */
struct part {
    uint64_t at;
    size_t len;
    struct iovec iov[2];
    int n;
};

/* Records and data; where the data begins right behind the records, one call reads both. */
struct parts {
    struct part tag, data;
    bool one; /* data is the end of tag */
};

static struct parts parts_of(const struct placed_want *w, uint8_t *records)
{
    uint64_t at = layout_record_offset(w->first), data_at = layout_data_offset(w->first);
    struct parts p = {.one = layout_group_first(w->first) == w->first};
    size_t len = p.one ? (size_t)(data_at - at) : (size_t)w->count * RECORD_BYTES;
    p.tag = (struct part){at, len, {{records, len}}, 1};
    p.data = (struct part){data_at, w->len, {{w->data, w->len}}, 1};
    if (p.one) {
        p.tag.iov[p.tag.n++] = p.data.iov[0];
        p.tag.len += w->len;
    }
    return p;
}

static void fill(struct placed_run *run, const struct parts *p, ssize_t tag_n, ssize_t data_n)
{
    if (p->one) {
        ssize_t tag_len = (ssize_t)(p->tag.len - p->data.len);
        data_n = tag_n > tag_len ? tag_n - tag_len : 0;
        tag_n -= data_n;
    }
    *run = (struct placed_run){.records = p->tag.iov[0].iov_base,
                               .records_have = (uint64_t)tag_n,
                               .data = p->data.iov[0].iov_base,
                               .data_have = (uint64_t)data_n};
}

static ssize_t read_part(int fd, const struct part *part)
{
    struct iovec iov[2] = {part->iov[0], part->iov[1]};
    return io_preadv(fd, iov, part->n, part->at);
}

int placed_read(int fd, const struct placed_want *w, uint8_t records[static PAGE_BYTES],
                struct placed_run *run)
{
    struct parts p = parts_of(w, records);
    ssize_t tag_n = read_part(fd, &p.tag), data_n = 0;
    if (tag_n >= 0 && !p.one)
        data_n = read_part(fd, &p.data);
    if (tag_n < 0 || data_n < 0)
        return (int)(tag_n < 0 ? tag_n : data_n);
    fill(run, &p, tag_n, data_n);
    return 0;
}

/* A read that finds nothing in the page cache starts to read it from the disk all the same (Linux 5.9). */
static ssize_t read_cached(const struct file *f, int fd, const struct part *part)
{
    uint64_t there = part->at < f->placed_length ? f->placed_length - part->at : 0;
    ssize_t n = preadv2(fd, part->iov, part->n, (off_t)part->at, RWF_NOWAIT);
    if (n < 0)
        return errno == EINTR ? -EAGAIN : -errno;
    return (uint64_t)n < (there < part->len ? there : part->len) ? -EAGAIN : n;
}

static bool cannot_peek(const struct file *f)
{
    return atomic_load_explicit(&f->n->vol->cannot_peek, memory_order_relaxed);
}

/* The backing filesystem does not know reads that do not wait. */
static bool is_refusal(const struct file *f, ssize_t n)
{
    bool refused = n == -EOPNOTSUPP || n == -ENOSYS;
    if (refused)
        atomic_store(&f->n->vol->cannot_peek, true);
    return refused;
}

ssize_t placed_read_head(const struct file *f, int fd, uint8_t *page, size_t len)
{
    const struct part head = {0, len, {{page, len}}, 1};
    if (f->hasty && !cannot_peek(f)) {
        ssize_t n = read_cached(f, fd, &head);
        if (!is_refusal(f, n))
            return n;
    }
    return io_pread(fd, page, len, 0);
}

/* Both parts are asked for before one is waited for. */
static int read_unsure(int fd, const struct placed_want *w, uint8_t *records, struct placed_run *run)
{
    struct parts p = parts_of(w, records);
    if (!p.one)
        posix_fadvise(fd, (off_t)p.data.at, (off_t)p.data.len, POSIX_FADV_WILLNEED);
    return placed_read(fd, w, records, run);
}

int placed_read_now(const struct file *f, int fd, const struct placed_want *w,
                    uint8_t records[static PAGE_BYTES], struct placed_run *run)
{
    if (cannot_peek(f))
        return read_unsure(fd, w, records, run);
    struct parts p = parts_of(w, records);
    ssize_t tag_n = read_cached(f, fd, &p.tag), data_n = p.one ? 0 : read_cached(f, fd, &p.data);
    if (is_refusal(f, tag_n))
        return read_unsure(fd, w, records, run);
    if (tag_n < 0 || data_n < 0)
        return (int)(tag_n < 0 ? tag_n : data_n);
    fill(run, &p, tag_n, data_n);
    return 0;
}
