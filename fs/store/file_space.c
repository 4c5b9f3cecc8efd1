/* Which pages of the backing file have their space. Two workers write a stream in any order, so that ranges
 * are remembered, not an end alone. What is forgotten is only asked for again. */
#include "fs/store/file.h"

#include "latchfs/io.h"
#include "latchfs/layout.h"

#include <errno.h>
#include <fcntl.h>

#define RESERVE_AHEAD (16 * PAGE_BYTES) /* allocated beyond an append, so that not every one asks */
#define RANGES_MAX 1024u

static int allocate_pages(int fd, uint64_t at, uint64_t bytes)
{
    int r = io_fallocate(fd, FALLOC_FL_KEEP_SIZE, at, bytes);
    return r == -EOPNOTSUPP || r == -ENOSYS ? 0 : r; /* then the ballast stands in */
}

static void remember(struct file *f, uint64_t lo, uint64_t hi)
{
    if (f->space.n >= RANGES_MAX)
        rangeset_clear(&f->space);
    f->space.exact = true;
    (void)rangeset_add(&f->space, lo, hi);
}

/* Everything below reserved_to is known as long as the file is not sparse. */
static bool is_known(const struct file *f, uint64_t lo, uint64_t hi)
{
    return f->sparse ? rangeset_end(&f->space, lo) >= hi : hi <= f->reserved_to;
}

void file_note_gap(struct file *f)
{
    if (!f->sparse)
        remember(f, 0, f->reserved_to);
    f->sparse = true;
}

void file_note_space(struct file *f, uint64_t lo, uint64_t hi)
{
    if (lo > f->reserved_to)
        file_note_gap(f); /* there may be one before it */
    if (hi > f->reserved_to)
        f->reserved_to = hi;
    if (f->sparse)
        remember(f, lo, hi);
}

void file_cut_space(struct file *f, uint64_t length)
{
    if (f->reserved_to > length)
        f->reserved_to = length;
    if (length == 0 || (f->space.n && rangeset_remove(&f->space, length, UINT64_MAX)))
        rangeset_clear(&f->space);
}

static int allocate_behind(int fd, uint64_t length, uint64_t lo, uint64_t hi)
{
    lo = lo > length ? lo : length;
    return lo < hi ? allocate_pages(fd, lo, hi - lo) : 0;
}

void file_take_back(struct file *f, int fd, uint64_t length)
{
    if (io_ftruncate(fd, length))
        return;
    f->placed_length = length;
    int r = f->sparse ? 0 : allocate_behind(fd, length, 0, f->reserved_to);
    for (size_t i = 0; !r && f->sparse && i < f->space.n; i++)
        r = allocate_behind(fd, length, f->space.r[i].lo, f->space.r[i].hi);
    if (r)
        file_cut_space(f, length);
}

int file_reserve_tag_page(struct file *f, int fd, uint64_t chunk)
{
    uint64_t at = layout_tag_page(chunk);
    if (is_known(f, at, at + PAGE_BYTES))
        return 0;
    int r = allocate_pages(fd, at, PAGE_BYTES);
    if (!r)
        file_note_space(f, at, at + PAGE_BYTES);
    return r;
}

int file_reserve_pages(struct file *f, int fd, uint64_t first, uint32_t count)
{
    bool leads = layout_group_first(first) == first;
    uint64_t lo = leads ? layout_tag_page(first) : layout_data_offset(first);
    uint64_t hi = layout_data_offset(first + count - 1) + PAGE_BYTES;
    bool standing = first + count <= f->placed_chunks && !f->sparse;
    if (standing)
        return 0;
    int r = is_known(f, lo, hi) ? 0 : 1;
    if (r) {
        hi += f->sparse ? 0 : RESERVE_AHEAD;
        r = allocate_pages(fd, lo, hi - lo);
        if (!r)
            file_note_space(f, lo, hi);
    }
    return r || leads ? r : file_reserve_tag_page(f, fd, first);
}
