/* Hashes of tag pages and the root over them. */
#include "fs/store/seal.h"

#include "latchfs/buf.h"
#include "latchfs/io.h"
#include "latchfs/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HASH_BYTES 32u
#define KEPT_MAX (UINT64_C(8) << 20) /* bytes of kept hashes of a volume: 128 GiB of files */
#define KEPT_STEP 64u                /* hashes */
#define SOME_WORK 4096u              /* of one seal_run_some */
#define READ_WORK 64u                /* of a page that is read; a known hash is 1 */
#define READ_AHEAD 64u               /* tag pages */

/* ---- tag pages by number ---- */

static uint64_t page_number(uint64_t chunk)
{
    return chunk < FIRST_RECORDS ? 0 : 1 + (chunk - FIRST_RECORDS) / GROUP_RECORDS;
}

static uint64_t page_first(uint64_t number)
{
    return number ? FIRST_RECORDS + (number - 1) * GROUP_RECORDS : 0;
}

static uint64_t page_count(uint64_t size)
{
    return size ? page_number(layout_chunks(size) - 1) + 1 : 0;
}

static void hash_page(uint64_t number, const uint8_t page[static PAGE_BYTES], uint8_t out[static HASH_BYTES])
{
    size_t skip = number ? 0 : HEADER_BYTES;
    crypto_generichash(out, HASH_BYTES, page + skip, PAGE_BYTES - skip, NULL, 0);
}

/* ---- kept hashes: one that is all zero is not known ---- */

/* Makes room for page number; false when it is not to be kept. */
static bool make_room(struct file *f, uint64_t number)
{
    struct volume *v = f->n->vol;
    if (number < f->page_hashes)
        return true;
    /* Hashes come in order or nearly so; far behind a hole they are not worth the room. */
    if (number >= 2 * f->page_hashes + KEPT_STEP)
        return false;
    uint64_t count = 2 * f->page_hashes + KEPT_STEP, more = (count - f->page_hashes) * HASH_BYTES;
    if (atomic_fetch_add(&v->seal_kept, more) + more > KEPT_MAX) {
        atomic_fetch_sub(&v->seal_kept, more);
        return false;
    }
    uint8_t *grown = realloc(f->page_hash, count * HASH_BYTES);
    if (!grown) {
        atomic_fetch_sub(&v->seal_kept, more);
        return false;
    }
    memset(grown + f->page_hashes * HASH_BYTES, 0, more);
    f->page_hash = grown;
    f->page_hashes = count;
    return true;
}

void seal_page_placed(struct file *f, uint64_t first, const uint8_t page[static PAGE_BYTES])
{
    uint64_t number = page_number(first), count = f->state == CONTENT_PAGED ? page_count(f->hdr.size) : 0;
    /* A single tag page is page 0, which whoever loads the file reads anyhow. */
    if (seal_is_on(f->n->vol) && count > 1 && number < count && make_room(f, number))
        hash_page(number, page, f->page_hash + number * HASH_BYTES);
    else
        seal_page_lost(f, first);
}

void seal_page_lost(struct file *f, uint64_t first)
{
    uint64_t number = page_number(first);
    if (number < f->page_hashes)
        memset(f->page_hash + number * HASH_BYTES, 0, HASH_BYTES);
}

void seal_pages_cut(struct file *f, uint64_t size)
{
    uint64_t keep = page_count(size);
    if (keep < f->page_hashes)
        memset(f->page_hash + keep * HASH_BYTES, 0, (f->page_hashes - keep) * HASH_BYTES);
    if (keep || !f->page_hashes)
        return;
    atomic_fetch_sub(&f->n->vol->seal_kept, f->page_hashes * HASH_BYTES);
    free(f->page_hash);
    f->page_hash = NULL;
    f->page_hashes = 0;
}

bool seal_keeps_pages(const struct file *f)
{
    return f->page_hashes > 0;
}

static const uint8_t *kept(const struct file *f, uint64_t number)
{
    if (number >= f->page_hashes || sodium_is_zero(f->page_hash + number * HASH_BYTES, HASH_BYTES))
        return NULL;
    return f->page_hash + number * HASH_BYTES;
}

/* ---- the root ---- */

struct seal_run {
    uint64_t next, count;     /* tag pages */
    bool before;              /* of the file as it was in place when the run was made */
    uint8_t *were;            /* then: hashes of tag pages that changed since, by number; zeros: none */
    _Atomic uint64_t *budget; /* that were is counted in */
    uint64_t ahead;           /* tag pages before this one were asked for */
    uint64_t hole_end;        /* the backing file has no data from here on up to this offset */
    bool zero_known;
    uint8_t zero[HASH_BYTES]; /* of a page of zeros */
    const uint8_t *page0;     /* as it was just read, or NULL */
    /* Of crypto_generichash, which wants to be aligned. The key is in it until enough else was hashed: a run
     * that is left for a while has hashed many pages. */
    uint8_t state[sizeof(crypto_generichash_state) + 64];
};

static crypto_generichash_state *state_of(struct seal_run *run)
{
    return (void *)(((uintptr_t)run->state + 63) & ~(uintptr_t)63);
}

struct seal_run *seal_run_new(const struct file *f)
{
    struct seal_run *run = locked_alloc(sizeof *run);
    uint8_t size[8];
    if (!run)
        return NULL;
    struct wcur c = wcur_over(size, sizeof size);
    wcur_u64(&c, f->hdr.size);
    run->count = page_count(f->hdr.size);
    crypto_generichash_init(state_of(run), f->keys->seal, LFS_KEY_BYTES, HASH_BYTES);
    crypto_generichash_update(state_of(run), size, sizeof size);
    return run;
}

void seal_run_first_page(struct seal_run *run, const uint8_t page[static PAGE_BYTES])
{
    run->page0 = page;
}

void seal_run_free(struct seal_run *run)
{
    if (run && run->were) {
        atomic_fetch_sub(run->budget, run->count * HASH_BYTES);
        free(run->were);
    }
    locked_free(run);
}

struct seal_run *seal_run_before(struct file *f)
{
    struct seal_run *run = seal_run_new(f);
    if (!run)
        return NULL;
    uint64_t bytes = run->count * HASH_BYTES;
    run->before = true;
    run->budget = &f->n->vol->seal_kept;
    if (atomic_fetch_add(run->budget, bytes) + bytes <= KEPT_MAX)
        run->were = calloc(run->count + 1, HASH_BYTES); /* pages of it that nobody writes to take no memory */
    if (run->were)
        return run;
    atomic_fetch_sub(run->budget, bytes);
    locked_free(run);
    return NULL;
}

bool seal_run_wants(const struct seal_run *run, uint64_t first)
{
    uint64_t number = page_number(first);
    return run && number >= run->next && number < run->count &&
           sodium_is_zero(run->were + number * HASH_BYTES, HASH_BYTES);
}

void seal_run_keep(struct seal_run *run, uint64_t first, const uint8_t page[static PAGE_BYTES])
{
    uint64_t number = page_number(first);
    if (seal_run_wants(run, first))
        hash_page(number, page, run->were + number * HASH_BYTES);
}

uint64_t seal_run_reads(const struct seal_run *run, const struct file *f)
{
    uint64_t reads = 0;
    for (uint64_t i = run->next; i < run->count; i++) {
        if (i >= f->page_hashes)
            return reads + run->count - i;
        reads += !kept(f, i);
    }
    return reads;
}

/* All records are. */
static bool is_placed(const struct file *f)
{
    return !f->ov.count && !f->ov.holes.n;
}

/* The records of the group at chunk first as they are, or will be when what is pending has a place. placed:
 * as they lie there now. */
static int read_page(const struct file *f, int fd, uint64_t first, bool placed,
                     uint8_t page[static PAGE_BYTES])
{
    uint64_t at = layout_tag_page(first), base = layout_record_offset(first) - at;
    memset(page, 0, PAGE_BYTES);
    if (placed || (f->placed_state == CONTENT_PAGED && first < f->placed_chunks)) {
        ssize_t n = io_pread(fd, page, PAGE_BYTES, at);
        if (n < 0)
            return (int)n;
        memset(page + n, 0, PAGE_BYTES - (size_t)n);
    }
    if (placed)
        return 0;
    for (uint64_t c = first; c < layout_group_next(first); c++) {
        const struct ov_chunk *o = overlay_get(&f->ov, c);
        uint8_t *record = page + base + (c - first) * RECORD_BYTES;
        if (o)
            memcpy(record, o->record, RECORD_BYTES);
        else if (rangeset_has(&f->ov.holes, c))
            memset(record, 0, RECORD_BYTES);
    }
    return 0;
}

/* Tag pages lie far apart: the disk gets many at once to read. */
static void read_ahead(struct seal_run *run, int fd)
{
    if (run->next < run->ahead)
        return;
    run->ahead = run->next + READ_AHEAD;
    for (uint64_t i = run->next + 1; i < run->ahead && i < run->count; i++)
        posix_fadvise(fd, (off_t)layout_tag_page(page_first(i)), PAGE_BYTES, POSIX_FADV_WILLNEED);
}

static void hash_hole(struct seal_run *run, uint8_t out[static HASH_BYTES])
{
    static const uint8_t zeros[PAGE_BYTES];
    if (!run->zero_known)
        hash_page(1, zeros, run->zero);
    run->zero_known = true;
    memcpy(out, run->zero, HASH_BYTES);
}

/* Where nothing is pending, holes of the backing file are passed over without being read. */
static int page_hash(struct seal_run *run, const struct file *f, int fd, uint8_t out[static HASH_BYTES])
{
    uint8_t buf[PAGE_BYTES];
    uint64_t first = page_first(run->next), at = layout_tag_page(first);
    bool placed = run->before || is_placed(f), at_hand = placed && at == 0 && run->page0;
    const uint8_t *page = at_hand ? run->page0 : buf;
    if (at < run->hole_end && at > 0) {
        hash_hole(run, out);
        return 1;
    }
    read_ahead(run, fd);
    int r = at_hand ? 0 : read_page(f, fd, first, placed, buf);
    if (r)
        return r;
    hash_page(run->next, page, out);
    if (!placed || !bytes_are_zero(page, PAGE_BYTES))
        return READ_WORK;
    off_t data = lseek(fd, (off_t)at, SEEK_DATA);
    if (data < 0 && errno == ENXIO)
        run->hole_end = UINT64_MAX;
    else if (data > 0)
        run->hole_end = (uint64_t)data / PAGE_BYTES * PAGE_BYTES;
    return READ_WORK;
}

static const uint8_t *was(const struct seal_run *run)
{
    const uint8_t *h = run->were ? run->were + run->next * HASH_BYTES : NULL;
    return h && !sodium_is_zero(h, HASH_BYTES) ? h : NULL;
}

/* The page at hand lies in place as it was hashed. */
static bool may_keep(const struct seal_run *run, const struct file *f)
{
    return is_placed(f) || (run->before && f->state == CONTENT_PAGED && run->next < page_count(f->hdr.size));
}

int seal_run_some(struct seal_run *run, struct file *f, int fd, bool cached)
{
    unsigned work = 0;
    run->hole_end = 0; /* what was a hole may have been filled */
    for (; run->next < run->count && work < SOME_WORK; run->next++) {
        const uint8_t *known = was(run);
        if (!known && cached)
            known = kept(f, run->next);
        uint8_t h[HASH_BYTES];
        int r = known ? 1 : page_hash(run, f, fd, h);
        if (r < 0)
            return r;
        if (cached && !known && run->count > 1 && may_keep(run, f) && make_room(f, run->next))
            memcpy(f->page_hash + run->next * HASH_BYTES, h, HASH_BYTES);
        crypto_generichash_update(state_of(run), known ? known : h, HASH_BYTES);
        work += (unsigned)r;
    }
    return run->next < run->count;
}

void seal_run_root(struct seal_run *run, uint8_t root[static 32])
{
    crypto_generichash_final(state_of(run), root, HASH_BYTES);
}
