/* Regular files: header, length, keys, seal. Their content is check_content.c's. */
#include "fs/store/check_int.h"
#include "latchfs/io.h"
#include "latchfs/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- by the bytes in place ---- */

static uint64_t committed_length(const struct file_header *h)
{
    if (!h->size)
        return HEADER_BYTES;
    return h->state == FILE_INLINE ? HEADER_BYTES + h->size : layout_length(h->size);
}

/* Bytes of plaintext that are not there any more. */
static void hit_short(struct hits *hits, const struct file_header *h, uint64_t length)
{
    uint64_t have = 0;
    struct hit *hit = hits_add(hits, CHECK_BAD_LENGTH, LFS_ERR_CORRUPT);
    if (h->state == FILE_PAGED)
        layout_size(length, &have);
    if (!hit || have >= h->size)
        return;
    hit->offset = have;
    hit->length = h->size - have;
}

/* Two files with one id: a copy, as of a hard link by a tool that knows none. With other headers the one is
 * an older version of the other, or was put in the place of a file that is gone. */
static void note_id(struct check *c, const struct check_item *item, const struct file_header *h,
                    struct hits *hits)
{
    struct id_seen seen = {.ino = item->n->ino};
    memcpy(seen.id, h->file_id, ID_BYTES);
    memcpy(&seen.what, h->mac, sizeof seen.what);
    pthread_mutex_lock(&c->lock);
    enum id_verdict verdict = item->lost ? ID_FRESH : id_set_add(&c->files, &seen);
    pthread_mutex_unlock(&c->lock);
    if (h->state == FILE_PAGED) {
        bool sealed = h->seal_state == SEAL_SEALED;
        check_count(c, &(struct check_progress){.sealed = sealed, .open_seals = !sealed});
    }
    struct hit *hit = verdict == ID_FRESH ? NULL : hits_add(hits, CHECK_DUPLICATE_ID, LFS_ERR_AUTH);
    if (hit && verdict == ID_COPY) {
        hit->severity = CHECK_WARNING;
        hit->err = 0;
    }
}

/* By its header the file may have a name in the directory; one that names none may be anywhere. */
static bool is_home(const struct check_item *item, const struct file_header *h)
{
    if (!item->dir_known || sodium_is_zero(h->home[0], ID_BYTES))
        return true;
    for (unsigned i = 0; i < HEADER_HOMES; i++)
        if (memcmp(h->home[i], item->dir_id, ID_BYTES) == 0)
            return true;
    return false;
}

static bool is_pending(const struct check *c, const struct node *n, const struct file_header *h)
{
    return inode_set_has(&c->pending_ino, n->ino) || (h && id_set_has(&c->pending, h->file_id));
}

static void look_header(struct check *c, struct check_item *item, const uint8_t *page, uint64_t length,
                        struct hits *hits)
{
    struct file_header h;
    int r = header_decode(page, &h);
    if (r) {
        if (!is_pending(c, item->n, NULL))
            hits_add(hits, CHECK_BAD_HEADER, r);
        return;
    }
    bool foreign = item->pd_known && memcmp(item->pd_id, h.pd_id, ID_BYTES) != 0;
    if (!item->other_link)
        note_id(c, item, &h, hits);
    if (foreign || (!is_pending(c, item->n, &h) && !is_home(item, &h)))
        hits_add(hits, CHECK_WRONG_DIRECTORY, LFS_ERR_AUTH);
    if (item->other_link || is_pending(c, item->n, &h))
        return;
    if (length < committed_length(&h))
        hit_short(hits, &h, length);
    else if (length > committed_length(&h))
        hits_add(hits, CHECK_TAIL, 0);
}

/* Nothing is behind the first page either. Holes are passed over. */
static bool is_all_zero(int fd, uint64_t length)
{
    uint8_t buf[8 * PAGE_BYTES];
    off_t data = PAGE_BYTES;
    while ((uint64_t)data < length) {
        off_t next = lseek(fd, data, SEEK_DATA);
        if (next < 0)
            return errno == ENXIO;
        ssize_t n = io_pread(fd, buf, sizeof buf, (uint64_t)next);
        if (n <= 0 || !bytes_are_zero(buf, (size_t)n))
            return n == 0;
        data = next + n;
    }
    return true;
}

/* Content that never reached the disk; or the header of a file was lost, which has more. */
static void hit_zero_page(int fd, uint64_t length, struct hits *hits)
{
    struct hit *h = hits_add(hits, CHECK_ZERO_PAGE, 0);
    if (h && !is_all_zero(fd, length))
        h->severity = CHECK_DAMAGE;
}

static int look_bytes(struct check *c, struct check_item *item, int fd, struct hits *hits)
{
    uint8_t page[PAGE_BYTES];
    struct stat st;
    if (fstat(fd, &st))
        return -errno;
    ssize_t n = st.st_size ? io_pread(fd, page, sizeof page, 0) : 0;
    if (n <= 0)
        return (int)n;
    if (n < (ssize_t)HEADER_BYTES)
        hits_add(hits, CHECK_BAD_LENGTH, LFS_ERR_CORRUPT);
    else if (!bytes_are_zero(page, (size_t)n))
        look_header(c, item, page, (uint64_t)st.st_size, hits);
    else if (!is_pending(c, item->n, NULL))
        hit_zero_page(fd, (uint64_t)st.st_size, hits);
    return 0;
}

void check_file_bytes(struct check *c, struct check_item *item, struct hits *hits)
{
    int fd, r = node_fd_get(item->n, false, &fd);
    if (!r) {
        r = look_bytes(c, item, fd, hits);
        node_fd_put(item->n);
    }
    if (r && r != -ESTALE && r != -ENOENT)
        hits_add(hits, CHECK_IO, r);
}

/* ---- with keys ---- */

/* Why a file can't be opened: what of it is damaged. err is what a reader gets. */
static void diagnose(struct check_item *item, int err, struct hits *hits)
{
    uint8_t image[HEADER_BYTES];
    struct file_header h;
    struct stat st;
    const struct pd *pd = atomic_load(&item->n->pd);
    int fd, r = node_fd_get(item->n, false, &fd);
    if (r)
        return;
    ssize_t n = fstat(fd, &st) ? -errno : io_pread(fd, image, sizeof image, 0);
    node_fd_put(item->n);
    if (n < 0)
        hits_add(hits, CHECK_IO, (int)n);
    else if (n < (ssize_t)sizeof image)
        hits_add(hits, CHECK_BAD_LENGTH, err);
    else if (header_decode(image, &h) == 0 && pd && memcmp(h.pd_id, pd->id, ID_BYTES) != 0)
        hits_add(hits, CHECK_WRONG_DIRECTORY, err);
    else if (header_decode(image, &h) == 0 && err == LFS_ERR_CORRUPT)
        hit_short(hits, &h, (uint64_t)st.st_size);
    else
        hits_add(hits, CHECK_BAD_HEADER, err);
}

static void cannot_load(struct check *c, struct check_item *item, int err, struct hits *hits)
{
    atomic_store(&item->unreadable, true);
    if (err == -ENOMEM)
        check_fail(c, err);
    else if (err == LFS_ERR_ROLLBACK)
        hits_add(hits, CHECK_OLD_VERSION, err);
    else if (err != -ESTALE && err != -ENOENT && err != LFS_ERR_NOKEY && err > -4096)
        hits_add(hits, CHECK_IO, err);
    else if (err < -4096 && err != LFS_ERR_NOKEY)
        diagnose(item, err, hits);
}

static void free_keysp(struct file_xattr_keys **k)
{
    locked_free(*k);
}

/* With the file's lock, as whoever sets one has it. */
static void check_attributes(struct check *c, const struct file *f, int fd, struct hits *hits)
{
    const struct pd_keys *keys = node_keys(f->n);
    CLEANUP(free_keysp) struct file_xattr_keys *k = keys ? locked_alloc(sizeof *k) : NULL;
    if (!k || f->zero_page)
        return;
    memcpy(k->id, f->hdr.file_id, ID_BYTES);
    k->count = f->state == CONTENT_NONE ? 0 : f->keys->count;
    for (int i = 0; i < k->count; i++) {
        k->k[i].epoch = f->keys->k[i].epoch;
        memcpy(k->k[i].key, f->keys->k[i].xattr, LFS_KEY_BYTES);
    }
    check_xattrs(c, fd, keys, k, KIND_XATTR, hits);
}

static void check_inline(struct check *c, struct file *f, int fd, struct hits *hits)
{
    uint8_t plain[PAGE_BYTES];
    int r = file_read_inline(f, fd, plain);
    thread_forget_key();
    sodium_memzero(plain, sizeof plain);
    struct hit *h = r ? hits_add(hits, r > -4096 ? CHECK_IO : CHECK_BAD_CHUNK, r) : NULL;
    if (h)
        h->length = f->hdr.size;
}

/* Everything about a loaded file that is not in its pages. */
static void check_loaded(struct check *c, struct check_item *item, struct file *f, uint64_t excess,
                         struct hits *hits)
{
    int fd;
    if (f->zero_page && node_fd_get(item->n, false, &fd) == 0) {
        hit_zero_page(fd, f->placed_length, hits);
        node_fd_put(item->n);
    }
    if (excess)
        hits_add(hits, CHECK_TAIL, 0);
    if (f->state != CONTENT_NONE)
        note_id(c, item, &f->hdr, hits);
    if (!c->contents || node_fd_get(item->n, false, &fd))
        return;
    check_attributes(c, f, fd, hits);
    if (f->state == CONTENT_INLINE)
        check_inline(c, f, fd, hits);
    node_fd_put(item->n);
}

/* The entry still stands where the walk found it. */
static bool is_there(const struct check_item *item)
{
    struct stat st;
    int fd;
    if (!item->dir || node_fd_get(item->dir, false, &fd))
        return false;
    dir_rdlock(item->dir);
    bool there = fstatat(fd, item->stored, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == item->n->ino;
    dir_unlock(item->dir);
    node_fd_put(item->dir);
    return there;
}

static bool looks_home(const struct check_item *item, struct file *f)
{
    struct file_look look;
    if (file_lock_check(f, &look))
        return true; /* told elsewhere */
    bool home = f->state == CONTENT_NONE || is_home(item, &f->hdr);
    file_unlock_check(f, &look);
    return home;
}

/* A file that moves is named by its header in both places at first, later in the new one only: so it counts
 * only if it did not move between two looks. */
static void check_home(const struct check_item *item, struct file *f, struct hits *hits)
{
    if (!looks_home(item, f) && is_there(item) && !looks_home(item, f))
        hits_add(hits, CHECK_WRONG_DIRECTORY, LFS_ERR_AUTH);
}

static void check_head(struct check *c, struct check_item *item, struct file *f, struct hits *hits)
{
    struct file_look look;
    int r = file_lock_check(f, &look);
    if (r && !item->other_link)
        cannot_load(c, item, r, hits);
    if (r)
        return;
    if (!item->other_link)
        check_loaded(c, item, f, look.excess, hits);
    file_unlock_check(f, &look);
    check_home(item, f, hits);
}

static uint64_t first_bytes(const struct check_item *item)
{
    return item->length < PAGE_BYTES ? item->length : PAGE_BYTES;
}

static int check_keyed(struct check *c, const struct check_job *job, struct hits *hits)
{
    struct check_item *item = job->item;
    struct file *f;
    int r = volume_enter(c->v, false);
    if (r)
        return r;
    if (job->head)
        file_forget_idle(item->n); /* what lies in place is asked, not what was read from there before */
    r = file_get(item->n, &f);
    if (!r && job->head)
        check_head(c, item, f, hits);
    volume_leave(c->v);
    if (job->head)
        check_charge(c, first_bytes(item));
    bool contents = c->contents && !item->other_link && !atomic_load(&item->unreadable);
    if (!r && contents && job->head)
        r = check_seal(c, item, f, hits);
    if (!r && contents)
        r = check_content(c, job, f);
    if (volume_enter(c->v, false) == 0) { /* the last user may put a time back */
        file_put(f);
        volume_leave(c->v);
    } else {
        file_put(f);
    }
    return r;
}

static int check_bare(struct check *c, const struct check_job *job, struct hits *hits)
{
    int r = job->head ? volume_enter(c->v, false) : -EALREADY;
    if (!r) {
        check_file_bytes(c, job->item, hits);
        volume_leave(c->v);
        check_charge(c, first_bytes(job->item));
    }
    return r == -EALREADY ? 0 : r;
}

/* ---- jobs ---- */

bool check_file_job(struct check *c, const struct check_job *job)
{
    struct check_item *item = job->item;
    int r = check_stopped(c);
    bool hot = r || !job->head || cache_begin(item);
    if (!r && !atomic_load(&item->unreadable))
        r = item->keyed ? check_keyed(c, job, &item->hits) : check_bare(c, job, &item->hits);
    if (r)
        atomic_store(&item->partial, true);
    if (r && r != -EINTR)
        check_fail(c, r);
    cache_end(item, hot);
    check_item_put(c, item);
    return r == 0;
}
