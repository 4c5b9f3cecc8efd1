/* Loading struct file from the backing header; its locks, and its times. */
#include "fs/store/file_home.h"
#include "fs/store/file_placed.h"
#include "fs/store/pd.h"
#include "fs/store/seal.h"
#include "fs/store/share.h"

#include "latchfs/io.h"
#include "latchfs/layout.h"

#include <errno.h>
#include <string.h>

void file_reset(struct file *f)
{
    file_forget_keys(f);
    seal_pages_cut(f, 0);
    overlay_clear(&f->ov);
    for (int i = 0; i < 3; i++)
        rangeset_clear(&f->named[i]);
    f->state = f->placed_state = CONTENT_NONE;
    f->hdr = (struct file_header){0};
    f->untrimmed = f->never_synced = f->seal_unfit = f->seal_asked = false;
    f->seal_misfit = false;
    f->mtime_known = f->mtime_touched = false;
    f->first_seq = f->last_seq = f->fresh_seq = f->marked_seq = f->mark_entry = 0;
    f->placed_gen = f->synced_gen = f->hint_seq = f->rekey_seq = f->opened_seq = 0;
    f->mark_round = f->sync_first = f->sync_gen = 0;
}

/* Header and length agree, or the header wins; a length that lacks what the header promises is corrupt. */
static int check_length(const struct file_header *h, uint64_t length)
{
    if (h->state == FILE_INLINE)
        return length < HEADER_BYTES + h->size ? LFS_ERR_CORRUPT : 0;
    return h->size && length < layout_length(h->size) ? LFS_ERR_CORRUPT : 0;
}

static int load_header(struct file *f, const uint8_t *page)
{
    struct volume *v = f->n->vol;
    struct file_header h;
    struct file_keys *keys;
    int r = header_decode(page, &h);
    if (!r)
        r = file_open_keys(f->n, &h, &keys);
    if (r)
        return r;
    r = f->mending ? 0 : check_length(&h, f->placed_length);
    if (!r && v->journal && !v->opt.read_only && h.generation > journal_generation(v->journal))
        r = freeze_raise(v, h.generation);
    if (r) {
        locked_free(keys);
        return r;
    }
    locked_free(file_keys_swap(f, keys));
    f->hdr = h;
    f->state = h.state == FILE_INLINE ? CONTENT_INLINE : CONTENT_PAGED;
    f->placed_state = f->state;
    f->placed_chunks = f->state == CONTENT_PAGED ? layout_chunks(h.size) : 0;
    if (f->state == CONTENT_INLINE)
        thread_keep_inline(&h.inline_record, page + HEADER_BYTES);
    return 0;
}

/* Reads page 0 and decides what the file is (write lock held, nothing pending). */
static int load_placed(struct file *f, int fd, const struct stat *st, uint8_t page[static PAGE_BYTES])
{
    f->placed_length = (uint64_t)st->st_size;
    size_t len = f->placed_length < PAGE_BYTES ? (size_t)f->placed_length : PAGE_BYTES;
    ssize_t n = len < HEADER_BYTES ? 0 : placed_read_head(f, fd, page, len);
    if (n == -EAGAIN)
        return -EAGAIN;
    f->state = f->placed_state = CONTENT_NONE;
    f->placed_chunks = 0;
    f->zero_page = false;
    seal_pages_cut(f, 0);
    file_cut_space(f, 0);
    f->reserved_to = f->placed_length;
    f->sparse = (uint64_t)st->st_blocks * 512 < f->placed_length;
    if (!f->placed_length)
        return 0;
    if (n < (ssize_t)HEADER_BYTES)
        return n < 0 ? (int)n : LFS_ERR_CORRUPT;
    memset(page + n, 0, PAGE_BYTES - (size_t)n);
    if (bytes_are_zero(page, (size_t)n)) {
        f->zero_page = true;
        return 0;
    }
    return load_header(f, page);
}

/* Where the backing file ends by what its header says. A header with no content at all keeps its 512 bytes.
 */
static uint64_t committed_length(const struct file *f)
{
    if (f->state == CONTENT_NONE)
        return f->placed_length;
    if (!f->hdr.size)
        return HEADER_BYTES;
    return f->state == CONTENT_INLINE ? HEADER_BYTES + f->hdr.size : layout_length(f->hdr.size);
}

/* Content that no entry committed lies behind the length the header gives: cut it, so that space beyond is
 * fresh again. */
static void trim(struct file *f)
{
    struct volume *v = f->n->vol;
    uint64_t want = committed_length(f);
    int fd;
    f->untrimmed = false;
    if (want >= f->placed_length || v->opt.read_only || v->read_only)
        return;
    f->untrimmed = !freeze_try(v); /* then before the first change */
    if (f->untrimmed)
        return;
    if (node_fd_get(f->n, true, &fd)) {
        freeze_leave(v);
        return;
    }
    if (io_ftruncate(fd, want) == 0) {
        file_cut_space(f, want);
        f->placed_length = f->reserved_to = want;
        f->placed_gen++;
        f->mtime_touched = true;
    }
    node_fd_put(f->n);
    freeze_leave(v);
}

/* The header in memory is ahead of the place: of a replayed file, or one that locking could not put in place.
 */
static bool is_ahead(const struct file *f)
{
    return f->replayed || !overlay_is_empty(&f->ov) || f->first_seq;
}

static int load_ahead(struct file *f, bool strict)
{
    struct file_keys *keys;
    int fd, r = file_open_keys(f->n, &f->hdr, &keys);
    if (!r)
        locked_free(file_keys_swap(f, keys));
    if (!r && strict)
        r = home_check(f->n, &f->hdr);
    if (!r && f->replayed && strict && !(r = node_fd_get(f->n, false, &fd))) {
        r = seal_check_loaded(f, fd, NULL);
        node_fd_put(f->n);
    }
    f->loaded = r == 0;
    return r;
}

/* From the place; nothing is changed. strict: where the file stands and its seal are asked too. */
static int load(struct file *f, bool strict)
{
    uint8_t page[PAGE_BYTES];
    struct stat st;
    int fd, r = node_fd_get(f->n, false, &fd);
    if (r)
        return r;
    r = fstat(fd, &st) ? -errno : load_placed(f, fd, &st, page);
    if (!r && strict && f->state != CONTENT_NONE)
        r = home_check(f->n, &f->hdr);
    if (!r && strict)
        r = seal_check_loaded(f, fd, page);
    node_fd_put(f->n);
    if (r)
        return r;
    if (!f->mtime_known) {
        f->mtime = st.st_mtim;
        f->mtime_known = true;
    }
    f->loaded = true;
    return 0;
}

static int file_load(struct file *f)
{
    if (is_ahead(f))
        return volume_note(f->n->vol, load_ahead(f, true));
    int r = load(f, true);
    if (r)
        return volume_note(f->n->vol, r);
    trim(f);
    if (f->seal_unfit)
        seal_give_up(f);
    return 0;
}

int file_lock_check(struct file *f, struct file_look *look)
{
    *look = (struct file_look){0};
    pthread_rwlock_rdlock(&f->lock);
    if (f->loaded)
        return 0;
    pthread_rwlock_unlock(&f->lock);
    pthread_rwlock_wrlock(&f->lock);
    if (f->loaded)
        return 0;
    bool ahead = is_ahead(f);
    int r = ahead ? load_ahead(f, false) : load(f, false);
    if (r) {
        pthread_rwlock_unlock(&f->lock);
        return r;
    }
    look->excess = ahead ? 0 : f->placed_length - committed_length(f);
    look->forget = look->excess || (f->state != CONTENT_NONE &&
                                    (f->hdr.seal_state == SEAL_SEALED || home_check(f->n, &f->hdr)));
    return 0;
}

void file_unlock_check(struct file *f, const struct file_look *look)
{
    if (look->forget)
        file_forget_keys(f);
    pthread_rwlock_unlock(&f->lock);
}

int file_lock_mend(struct file *f)
{
    pthread_rwlock_wrlock(&f->lock);
    f->mending = f->transient = true;
    int r = f->loaded ? 0 : is_ahead(f) ? load_ahead(f, false) : load(f, false);
    f->mending = false;
    f->seal_asked = true;
    if (r)
        pthread_rwlock_unlock(&f->lock);
    else
        trim(f);
    return r;
}

/* A loaded file that turned up elsewhere since its place was asked (any lock). */
static int check_place(struct file *f)
{
    struct node *n = f->n;
    if (!atomic_load_explicit(&n->place_unasked, memory_order_relaxed) || f->state == CONTENT_NONE)
        return 0;
    atomic_store(&n->place_unasked, false);
    int r = home_check(n, &f->hdr);
    if (r)
        atomic_store(&n->place_unasked, true);
    return r;
}

static int lock_write(struct file *f, bool now)
{
    pthread_rwlock_wrlock(&f->lock);
    f->hasty = now;
    int r = f->loaded ? check_place(f) : file_load(f);
    f->hasty = false;
    if (r)
        pthread_rwlock_unlock(&f->lock);
    else if (f->untrimmed)
        trim(f);
    return r;
}

int file_lock_write(struct file *f)
{
    return lock_write(f, false);
}

/* What an earlier life left without a seal gets one some time. */
static int load_to_read(struct file *f, bool now)
{
    int r = lock_write(f, now);
    if (r)
        return r;
    bool seal = seal_is_wanted(f) && !file_is_pending(f);
    file_unlock(f);
    if (seal)
        seal_wait(f->n, f, false);
    return 0;
}

static int lock_read(struct file *f, bool now)
{
    for (;;) {
        pthread_rwlock_rdlock(&f->lock);
        if (f->loaded) {
            int r = check_place(f);
            if (r)
                pthread_rwlock_unlock(&f->lock);
            return r;
        }
        pthread_rwlock_unlock(&f->lock);
        int r = load_to_read(f, now);
        if (r)
            return r;
    }
}

int file_lock_read(struct file *f)
{
    return lock_read(f, false);
}

int file_lock_read_now(struct file *f)
{
    return lock_read(f, true);
}

/* ---- public ---- */

int file_open(struct node *n, bool writable)
{
    struct volume *v = n->vol;
    struct file *f;
    int r = node_enter(n, false);
    if (r)
        return r;
    r = writable ? volume_check_writable(v) : 0;
    if (!r)
        r = file_get(n, &f);
    if (!r) {
        r = file_lock_read(f);
        if (r)
            file_put(f);
        else
            file_unlock(f);
    }
    if (!r) {
        node_note_use(n);
        share_opened(n);
    }
    volume_leave(v);
    return r;
}

void file_close(struct node *n)
{
    struct volume *v = n->vol;
    share_join(v);
    share_closed(n);
    /* The opener's user keeps n->file alive up to here. */
    file_put(n->file);
    share_leave(v);
}

void file_fix_stat(struct node *n, struct stat *st)
{
    uint64_t length = (uint64_t)st->st_size, size = 0;
    struct file *f = file_peek(n);
    layout_size(length, &size);
    st->st_size = (off_t)size;
    if (!f && length > HEADER_BYTES && n->vol->suspect_since && st->st_ctime >= n->vol->suspect_since) {
        if (file_get(n, &f))
            return;
        if (file_lock_read(f) == 0) /* loads it; the header's size counts */
            file_unlock(f);
    }
    if (!f)
        return;
    pthread_rwlock_rdlock(&f->lock);
    if (f->loaded || f->listed || f->replayed) {
        st->st_size = (off_t)file_size(f);
        if (f->mtime_known)
            st->st_mtim = f->mtime;
        /* What is pending may have no block yet, and a program takes a file without blocks for a hole. */
        if (f->ov.count && (uint64_t)st->st_blocks < f->ov.count * (PAGE_BYTES / 512))
            st->st_blocks = (blkcnt_t)(f->ov.count * (PAGE_BYTES / 512));
    }
    pthread_rwlock_unlock(&f->lock);
    file_put(f);
}

void file_mtime_set(struct node *n, struct timespec mtime)
{
    struct file *f = file_peek(n);
    if (!f) /* then the backing file alone tells it */
        return;
    pthread_rwlock_wrlock(&f->lock);
    f->mtime = mtime;
    f->mtime_known = true;
    f->mtime_touched = false;
    pthread_rwlock_unlock(&f->lock);
    file_put(f);
}

void file_restore_mtime(struct file *f)
{
    struct volume *v = f->n->vol;
    int fd;
    if (!f->mtime_touched || !f->mtime_known || !freeze_moment_begin(v))
        return;
    if (node_fd_get(f->n, false, &fd)) {
        freeze_moment_end(v);
        return;
    }
    struct timespec ts[2] = {{.tv_nsec = UTIME_OMIT}, f->mtime};
    if (futimens(fd, ts) == 0 || errno == EPERM || errno == EACCES)
        f->mtime_touched = false;
    node_fd_put(f->n);
    freeze_moment_end(v);
}

void file_touch(struct file *f)
{
    if (!f->n->vol->opt.kernel_times) {
        clock_gettime(CLOCK_REALTIME_COARSE, &f->mtime);
        f->mtime_known = true;
    }
    f->mtime_touched = true;
}
