#include "fs/store/file_placed.h"

#include "latchfs/io.h"
#include "latchfs/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>

/* The two parts of a group that are wanted: records at the end of a tag page, and data pages. Where the data
 * begins right behind, it is one part. */
struct part {
    uint64_t at;
    size_t len;
    uint8_t *to;
};

struct parts {
    struct part tag, data;
    bool one; /* data is the end of tag */
};

static struct parts parts_of(uint64_t first, uint32_t count, uint8_t *buf)
{
    uint64_t tag_page = layout_tag_page(first), record_at = layout_record_offset(first);
    size_t skip = (size_t)(record_at - tag_page);
    struct parts p = {.tag = {record_at, (size_t)count * RECORD_BYTES, buf + skip},
                      .data = {layout_data_offset(first), (size_t)count * PAGE_BYTES, buf + PAGE_BYTES},
                      .one = layout_group_first(first) == first};
    if (p.one)
        p.tag.len = PAGE_BYTES - skip + p.data.len;
    return p;
}

static void fill(struct placed_run *run, const struct parts *p, ssize_t tag_n, ssize_t data_n)
{
    if (p->one) {
        ssize_t tag_len = (ssize_t)(p->tag.len - p->data.len);
        data_n = tag_n > tag_len ? tag_n - tag_len : 0;
        tag_n -= data_n;
    }
    *run = (struct placed_run){.records = p->tag.to,
                               .records_have = (uint64_t)tag_n,
                               .data = p->data.to,
                               .data_have = (uint64_t)data_n};
}

int placed_read(int fd, uint64_t first, uint32_t count, uint8_t *buf, struct placed_run *run)
{
    struct parts p = parts_of(first, count, buf);
    ssize_t tag_n = io_pread(fd, p.tag.to, p.tag.len, p.tag.at), data_n = 0;
    if (tag_n >= 0 && !p.one)
        data_n = io_pread(fd, p.data.to, p.data.len, p.data.at);
    if (tag_n < 0 || data_n < 0)
        return (int)(tag_n < 0 ? tag_n : data_n);
    fill(run, &p, tag_n, data_n);
    return 0;
}

/* A read that finds nothing in the page cache starts to read it from the disk all the same (Linux 5.9). */
static ssize_t read_cached(const struct file *f, int fd, const struct part *part)
{
    struct iovec iov = {part->to, part->len};
    uint64_t there = part->at < f->placed_length ? f->placed_length - part->at : 0;
    ssize_t n = preadv2(fd, &iov, 1, (off_t)part->at, RWF_NOWAIT);
    if (n < 0)
        return errno == EINTR ? -EAGAIN : -errno;
    return (uint64_t)n < (there < part->len ? there : part->len) ? -EAGAIN : n;
}

/* Both parts are asked for before one is waited for. */
static int read_unsure(int fd, uint64_t first, uint32_t count, uint8_t *buf, struct placed_run *run)
{
    struct parts p = parts_of(first, count, buf);
    if (!p.one)
        posix_fadvise(fd, (off_t)p.data.at, (off_t)p.data.len, POSIX_FADV_WILLNEED);
    return placed_read(fd, first, count, buf, run);
}

int placed_read_now(const struct file *f, int fd, uint64_t first, uint32_t count, uint8_t *buf,
                    struct placed_run *run)
{
    struct volume *v = f->n->vol;
    if (atomic_load_explicit(&v->cannot_peek, memory_order_relaxed))
        return read_unsure(fd, first, count, buf, run);
    struct parts p = parts_of(first, count, buf);
    ssize_t tag_n = read_cached(f, fd, &p.tag), data_n = p.one ? 0 : read_cached(f, fd, &p.data);
    if (tag_n == -EOPNOTSUPP || tag_n == -ENOSYS) {
        atomic_store(&v->cannot_peek, true);
        return read_unsure(fd, first, count, buf, run);
    }
    if (tag_n < 0 || data_n < 0)
        return (int)(tag_n < 0 ? tag_n : data_n);
    fill(run, &p, tag_n, data_n);
    return 0;
}
