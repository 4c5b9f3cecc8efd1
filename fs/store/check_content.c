/* The content of paged files, group by group. Read with a descriptor of the check's own, ahead in windows,
 * and out of the page cache again behind it, but for what was there before: a check of everything must not
 * push out what programs use. */
#include "fs/store/check_int.h"
#include "latchfs/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define WINDOW_BYTES (UINT64_C(4) << 20)
#define BAD_RUNS_MAX 256u

/* ---- what is bad ---- */

static bool grow(struct check_item *item)
{
    size_t cap = item->bad_count ? item->bad_count * 2 : 4;
    if (item->bad_count && (item->bad_count & (item->bad_count - 1)) != 0)
        return true;
    struct bad_run *grown = item->bad_count >= BAD_RUNS_MAX ? NULL : realloc(item->bad, cap * sizeof *grown);
    if (grown)
        item->bad = grown;
    return grown != NULL;
}

/* What there is no room for widens the last run, and says so. */
static void note_bad(struct check *c, struct check_item *item, uint64_t chunk, int err)
{
    struct bad_run run = {chunk, chunk + 1, err, err > -4096 ? CHECK_IO : CHECK_BAD_CHUNK};
    pthread_mutex_lock(&c->lock);
    struct bad_run *last = item->bad_count ? &item->bad[item->bad_count - 1] : NULL;
    if (last && last->end == chunk && last->kind == run.kind) {
        last->end++;
    } else if (grow(item)) {
        item->bad[item->bad_count++] = run;
    } else if (last) {
        last->first = chunk < last->first ? chunk : last->first;
        last->end = chunk >= last->end ? chunk + 1 : last->end;
        item->bad_more = true;
    }
    pthread_mutex_unlock(&c->lock);
}

static void note_good(struct check_item *item, uint64_t chunk)
{
    uint64_t had = atomic_load(&item->last_good);
    while (had < chunk + 1 && !atomic_compare_exchange_weak(&item->last_good, &had, chunk + 1))
        ;
}

static int by_first(const void *a, const void *b)
{
    const struct bad_run *x = a, *y = b;
    return x->first < y->first ? -1 : x->first > y->first;
}

static struct hit hit_of(const struct bad_run *run)
{
    return (struct hit){
        .kind = run->kind,
        .severity = CHECK_DAMAGE,
        .err = run->err,
        .offset = run->first * PAGE_BYTES,
        .length = (run->end - run->first) * PAGE_BYTES,
    };
}

void check_file_end(struct check *c, struct check_item *item)
{
    size_t n = 0;
    if (item->hits.count + item->bad_count == 0 || atomic_load(&item->n->removed))
        return;
    AUTO_FREE struct hit *hit = calloc(item->hits.count + item->bad_count, sizeof *hit);
    if (!hit) {
        check_fail(c, -ENOMEM);
        return;
    }
    if (item->bad_count)
        qsort(item->bad, item->bad_count, sizeof *item->bad, by_first);
    for (unsigned i = 0; i < item->hits.count; i++)
        hit[n++] = item->hits.hit[i];
    item->hits.count = 0;
    for (size_t i = 0; i < item->bad_count; i++)
        hit[n++] = hit_of(&item->bad[i]);
    check_mend_file(c, item, hit, n);
    check_tell(c, hit, n, item->cipher, item->plain);
    for (size_t i = 0; i < n; i++)
        free(hit[i].moved_to);
}

/* ---- the page cache ---- */

#define RECENT 8u /* windows that are open at once: a group meets two, and one is read ahead */

struct reader {
    int own;                 /* descriptor of the check's own; -1: none, then nothing is advised */
    uint64_t opened, closed; /* windows [closed, opened) are being read */
    bool hot[RECENT];        /* was in the page cache before, by window modulo RECENT */
};

/* True if half of the window is in the page cache, or that can't be told. */
static bool is_hot(int fd, uint64_t lo, uint64_t length)
{
    unsigned char in[WINDOW_BYTES / PAGE_BYTES];
    size_t bytes = length - lo < WINDOW_BYTES ? (size_t)(length - lo) : WINDOW_BYTES;
    size_t pages = (bytes + PAGE_BYTES - 1) / PAGE_BYTES, count = 0;
    void *p = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, (off_t)lo);
    if (p == MAP_FAILED)
        return true;
    int r = mincore(p, bytes, in);
    munmap(p, bytes);
    for (size_t i = 0; !r && i < pages; i++)
        count += in[i] & 1;
    return r || count * 2 > pages;
}

bool cache_begin(struct check_item *item)
{
    int fd;
    if (!item->length || node_fd_get(item->n, false, &fd))
        return true;
    bool hot = is_hot(fd, 0, item->length < PAGE_BYTES ? item->length : PAGE_BYTES);
    node_fd_put(item->n);
    return hot;
}

void cache_end(struct check_item *item, bool hot)
{
    int fd;
    if (hot || node_fd_get(item->n, false, &fd))
        return;
    posix_fadvise(fd, 0, PAGE_BYTES, POSIX_FADV_DONTNEED);
    node_fd_put(item->n);
}

static void reader_open(struct check *c, struct node *n, uint64_t at, struct reader *rd)
{
    *rd = (struct reader){.own = -1, .opened = at / WINDOW_BYTES, .closed = at / WINDOW_BYTES};
    pthread_rwlock_rdlock(&c->v->tree_lock);
    if (fd_open_fresh(n, false, &rd->own))
        rd->own = -1;
    pthread_rwlock_unlock(&c->v->tree_lock);
    if (rd->own >= 0)
        posix_fadvise(rd->own, 0, 0, POSIX_FADV_RANDOM); /* what is read ahead is said below */
}

/* Before [at, end) is read: it and the window behind it are on their way. */
static void reader_ahead(struct reader *rd, uint64_t at, uint64_t end, uint64_t length)
{
    if (at / WINDOW_BYTES > rd->opened) /* holes were passed over */
        rd->opened = rd->closed = at / WINDOW_BYTES;
    while (rd->own >= 0 && rd->opened <= end / WINDOW_BYTES + 1 && rd->opened * WINDOW_BYTES < length) {
        uint64_t lo = rd->opened * WINDOW_BYTES;
        rd->hot[rd->opened++ % RECENT] = is_hot(rd->own, lo, length);
        posix_fadvise(rd->own, (off_t)lo, (off_t)WINDOW_BYTES, POSIX_FADV_WILLNEED);
    }
}

/* Everything before end was read. */
static void reader_behind(struct reader *rd, uint64_t end)
{
    for (; rd->own >= 0 && rd->closed < rd->opened && (rd->closed + 1) * WINDOW_BYTES <= end; rd->closed++)
        if (!rd->hot[rd->closed % RECENT])
            posix_fadvise(rd->own, (off_t)(rd->closed * WINDOW_BYTES), (off_t)WINDOW_BYTES,
                          POSIX_FADV_DONTNEED);
}

static void reader_close(struct reader *rd)
{
    reader_behind(rd, UINT64_MAX);
    if (rd->own >= 0)
        close(rd->own);
}

/* ---- reading ---- */

/* One by one, where a whole group could not be read. */
static int verify_singly(struct file *f, int fd, uint64_t first, uint32_t count, int *why)
{
    for (uint32_t i = 0; i < count; i++) {
        int one = 0, r = file_verify_chunks(f, fd, first + i, 1, &one);
        if (r == -ENOMEM)
            return r;
        why[i] = r ? r : one;
    }
    return 0;
}

/* What fails is read a second time before it counts. */
static int verify(struct check *c, struct check_item *item, struct file *f, int fd, uint64_t first,
                  uint32_t count)
{
    int why[GROUP_RECORDS] = {0};
    int r = file_verify_chunks(f, fd, first, count, why);
    if (r && r != -ENOMEM)
        r = verify_singly(f, fd, first, count, why);
    for (uint32_t i = 0; !r && i < count; i++) {
        if (why[i] < 0)
            r = verify_singly(f, fd, first + i, 1, &why[i]);
        if (why[i] < 0)
            note_bad(c, item, first + i, why[i]);
        else if (why[i] == 0)
            note_good(item, first + i);
    }
    thread_forget_key();
    return r;
}

/* The group after a stretch that the backing file has no blocks for: its records are holes. */
static uint64_t pass_holes(const struct file *f, int own, uint64_t chunk, uint64_t chunks)
{
    off_t data =
        own < 0 || f->ov.count || f->replayed ? -1 : lseek(own, (off_t)layout_tag_page(chunk), SEEK_DATA);
    if (data < 0)
        return own >= 0 && !f->ov.count && !f->replayed && errno == ENXIO ? chunks : chunk;
    while (chunk < chunks) {
        uint64_t next = layout_group_next(chunk);
        if (layout_data_offset(next - 1) + PAGE_BYTES > (uint64_t)data)
            break;
        /* Far ahead at once: a file may be a hole of terabytes. */
        uint64_t jump = ((uint64_t)data - layout_tag_page(next)) / PAGE_BYTES / (GROUP_RECORDS + 1);
        chunk = (uint64_t)data > layout_tag_page(next) ? next + jump * GROUP_RECORDS : next;
    }
    return chunk < chunks ? chunk : chunks;
}

/* Where a piece stands. */
struct stretch {
    uint64_t chunk, end; /* next; UINT64_MAX: whatever the file's end is */
    uint64_t bytes;      /* read in the last step */
    bool through;
};

static int step_locked(struct check *c, struct check_item *item, struct file *f, struct reader *rd,
                       struct stretch *s)
{
    uint64_t chunks = f->state == CONTENT_PAGED ? layout_chunks(file_size(f)) : 0;
    chunks = s->end < chunks ? s->end : chunks;
    s->chunk = pass_holes(f, rd->own, s->chunk, chunks);
    s->through = s->chunk >= chunks || atomic_load(&item->n->removed);
    if (s->through)
        return 0;
    uint64_t next = layout_group_next(s->chunk);
    next = next < chunks ? next : chunks;
    uint64_t at = layout_tag_page(s->chunk), end = layout_data_offset(next - 1) + PAGE_BYTES;
    reader_ahead(rd, at, end, f->placed_length);
    int fd = rd->own, r = fd < 0 ? node_fd_get(item->n, false, &fd) : 0;
    if (!r)
        r = verify(c, item, f, fd, s->chunk, (uint32_t)(next - s->chunk));
    if (rd->own < 0 && !r)
        node_fd_put(item->n);
    s->bytes = end - at;
    s->chunk = next;
    return r;
}

/* One group; no lock is held between two. A file that can't be loaded is the head's to tell. */
static int step(struct check *c, struct check_item *item, struct file *f, struct reader *rd,
                struct stretch *s)
{
    struct file_look look;
    int r = volume_enter(c->v, false);
    if (r)
        return r;
    s->bytes = 0;
    r = file_lock_check(f, &look);
    s->through = r != 0;
    if (r)
        atomic_store(&item->partial, true);
    if (!r) {
        r = step_locked(c, item, f, rd, s);
        file_unlock_check(f, &look);
    } else if (r != -ENOMEM) {
        r = 0;
    }
    volume_leave(c->v);
    if (r != -ESTALE && r != -ENOENT)
        return r;
    atomic_store(&item->partial, true);
    s->through = true;
    return 0;
}

int check_content(struct check *c, const struct check_job *job, struct file *f)
{
    struct check_item *item = job->item;
    struct stretch s = {.chunk = job->first, .end = job->end};
    struct reader rd;
    int r = volume_enter(c->v, false);
    if (r)
        return r;
    reader_open(c, item->n, layout_tag_page(job->first), &rd);
    volume_leave(c->v);
    while (!r && !s.through) {
        r = check_stopped(c);
        if (!r)
            r = step(c, item, f, &rd, &s);
        if (s.bytes) {
            reader_behind(&rd, s.through ? UINT64_MAX : layout_tag_page(s.chunk));
            check_charge(c, s.bytes);
        }
    }
    reader_close(&rd);
    return r;
}
