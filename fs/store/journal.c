#include "fs/store/journal_int.h"
#include "fs/store/journal_lock.h"

#include "latchfs/err.h"
#include "latchfs/io.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int journal_write_super(struct journal *j)
{
    uint8_t page[JOURNAL_SLOT_BYTES] = {0};
    j->super.counter++;
    journal_super_encode(&j->super, j->keys, page);
    int r = io_pwrite(j->fd, page, sizeof page, (j->super.counter & 1) * JOURNAL_SLOT_BYTES);
    if (r)
        j->super.counter--; /* the next goes to the same slot: the other one is good */
    return r;
}

int journal_error(struct journal *j)
{
    pthread_mutex_lock(&j->sync);
    int r = j->sync_error;
    pthread_mutex_unlock(&j->sync);
    return r;
}

/* A sync that nobody shares; when it fails, none is tried again. */
static int sync_alone(struct journal *j, int (*sync)(int fd))
{
    int r = journal_error(j);
    if (r || !(r = sync(j->fd)))
        return r;
    pthread_mutex_lock(&j->sync);
    j->sync_error = r;
    pthread_mutex_unlock(&j->sync);
    return r;
}

/* The valid slot with the higher counter. Errors of a slot count only when no slot is good. */
static int read_super(struct journal *j)
{
    uint8_t page[JOURNAL_SUPER_BYTES];
    bool found = false;
    int first_error = LFS_ERR_JOURNAL;
    for (unsigned slot = 0; slot < 2; slot++) {
        struct journal_super s;
        ssize_t n = io_pread(j->fd, page, sizeof page, slot * JOURNAL_SLOT_BYTES);
        if (n < 0)
            return (int)n;
        int r = n == sizeof page ? journal_super_decode(page, j->keys, &s) : LFS_ERR_CORRUPT;
        if (r == LFS_ERR_UNSUPPORTED)
            first_error = r;
        if (r || (found && s.counter < j->super.counter))
            continue;
        j->super = s;
        found = true;
    }
    if (!found)
        return first_error;
    return memcmp(j->super.volume_id, j->volume_id, ID_BYTES) ? LFS_ERR_JOURNAL : 0;
}

/* What lies from the tail on is for replay to look at. */
static int begin_at_tail(struct journal *j)
{
    int r = read_super(j);
    if (r)
        return r == LFS_ERR_CORRUPT || r == LFS_ERR_AUTH ? LFS_ERR_JOURNAL : r;
    j->head = (struct journal_point){.pos = j->super.tail_pos, .seq = j->super.tail_seq};
    memcpy(j->head.mac, j->super.tail_mac, sizeof j->head.mac);
    j->tail_pos = j->super.tail_pos;
    return 0;
}

static struct journal *journal_alloc(int fd, const uint8_t *volume_id, const uint8_t *key)
{
    struct journal *j = calloc(1, sizeof *j);
    if (!j)
        return NULL;
    j->fd = -1;
    memcpy(j->volume_id, volume_id, ID_BYTES);
    pthread_mutex_init(&j->append, NULL);
    pthread_mutex_init(&j->sync, NULL);
    pthread_cond_init(&j->synced, NULL);
    if (journal_set_key(j, key)) {
        journal_close(j, false);
        return NULL;
    }
    j->fd = fd;
    return j;
}

int journal_create(int dirfd, const uint8_t volume_id[static ID_BYTES],
                   const uint8_t key[static LFS_KEY_BYTES], bool overwrite)
{
    uint8_t pages[JOURNAL_RING_AT] = {0};
    struct journal_keys *keys = locked_alloc(sizeof *keys);
    if (!keys)
        return -ENOMEM;
    journal_keys_derive(key, keys);
    struct journal_super s = {.counter = 2, .generation = 1};
    memcpy(s.volume_id, volume_id, ID_BYTES);
    randombytes_buf(s.incarnation, sizeof s.incarnation);
    journal_super_encode(&s, keys, pages);
    locked_free(keys);
    if (!overwrite && faccessat(dirfd, JOURNAL_NAME, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return -EEXIST;
    return io_replace_file(dirfd, JOURNAL_NAME, pages, sizeof pages, 0600);
}

int journal_open(int dirfd, const uint8_t volume_id[static ID_BYTES], const uint8_t key[static LFS_KEY_BYTES],
                 enum journal_mode mode, struct journal **out)
{
    int flags = (mode == JOURNAL_READ ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
    int fd = openat(dirfd, JOURNAL_NAME, flags);
    struct stat st;
    if (fd < 0)
        return errno == ENOENT || errno == ELOOP || errno == EISDIR || errno == ENXIO ? LFS_ERR_JOURNAL
                                                                                      : -errno;
    struct journal *j = journal_alloc(fd, volume_id, key);
    if (!j) {
        close(fd);
        return -ENOMEM;
    }
    j->writable = mode != JOURNAL_READ;
    int r = fstat(fd, &st) ? -errno : S_ISREG(st.st_mode) ? 0 : LFS_ERR_JOURNAL;
    if (!r)
        r = journal_lock_use(fd, mode);
    if (!r && mode != JOURNAL_SHARED)
        r = begin_at_tail(j);
    if (r)
        journal_close(j, false);
    else
        *out = j;
    return r;
}

/* A superblock that says the same was written by the same: each writing counts, each life is random. */
static bool is_same_super(const struct journal_super *a, const struct journal_super *b)
{
    return a->counter == b->counter && memcmp(a->incarnation, b->incarnation, sizeof a->incarnation) == 0;
}

int journal_read_again(struct journal *j, bool *changed)
{
    struct stat st;
    if (fstat(j->fd, &st))
        return -errno;
    if (st.st_nlink == 0)
        return LFS_ERR_JOURNAL;
    pthread_mutex_lock(&j->append);
    struct journal_super before = j->super;
    int r = begin_at_tail(j);
    j->reserved = 0;
    pthread_mutex_unlock(&j->append);
    if (!r)
        *changed = !is_same_super(&before, &j->super);
    return r;
}

int journal_absent(const uint8_t volume_id[static ID_BYTES], const uint8_t key[static LFS_KEY_BYTES],
                   struct journal **out)
{
    struct journal *j = journal_alloc(-1, volume_id, key);
    if (j)
        *out = j;
    return j ? 0 : -ENOMEM;
}

/* The superblock says "no ring" and is durable before the ring goes. */
int journal_park(struct journal *j)
{
    pthread_mutex_lock(&j->append);
    uint64_t ring_bytes = j->super.ring_bytes;
    __atomic_store_n(&j->super.ring_bytes, 0, __ATOMIC_RELAXED);
    int r = journal_write_super(j);
    if (r)
        j->super.ring_bytes = ring_bytes;
    pthread_mutex_unlock(&j->append);
    if (!r)
        r = sync_alone(j, io_fdatasync);
    if (!r)
        r = io_ftruncate(j->fd, JOURNAL_RING_AT);
    return r ? r : sync_alone(j, io_fsync);
}

int journal_rest(struct journal *j)
{
    uint64_t end = JOURNAL_RING_AT + j->super.ring_bytes;
    int r = journal_park(j);
    if (!r)
        r = io_fallocate(j->fd, FALLOC_FL_KEEP_SIZE, 0, end);
    return r == -EOPNOTSUPP || r == -ENOSYS ? 0 : r;
}

int journal_close(struct journal *j, bool clean)
{
    if (!j)
        return 0;
    int r = clean && j->keys && j->super.ring_bytes ? journal_park(j) : 0;
    if (j->fd >= 0)
        close(j->fd);
    locked_free(j->keys);
    pthread_mutex_destroy(&j->append);
    pthread_mutex_destroy(&j->sync);
    pthread_cond_destroy(&j->synced);
    free(j);
    return r;
}

static uint64_t own_ino(const struct journal *j)
{
    struct stat st;
    return fstat(j->fd, &st) ? 0 : st.st_ino;
}

/* The ring's space is there before the first entry: an append must not fail for want of it. */
static int allocate_ring(struct journal *j, uint64_t ring_bytes)
{
    static const uint8_t zeros[64 * 1024];
    uint64_t end = JOURNAL_RING_AT + ring_bytes;
    int r = io_fallocate(j->fd, 0, 0, end);
    if (r == -EOPNOTSUPP || r == -ENOSYS) {
        r = 0;
        for (uint64_t at = JOURNAL_RING_AT; !r && at < end; at += sizeof zeros)
            r = io_pwrite(j->fd, zeros, end - at < sizeof zeros ? (size_t)(end - at) : sizeof zeros, at);
    }
    if (r)
        io_ftruncate(j->fd, JOURNAL_RING_AT);
    return r;
}

int journal_reset(struct journal *j, uint64_t ring_bytes)
{
    uint64_t now = (uint64_t)time(NULL);
    struct journal_super *s = &j->super;
    int r = allocate_ring(j, ring_bytes);
    if (r)
        return r;
    pthread_mutex_lock(&j->append);
    /* The clock lifts a journal that was put back from a backup above everything written since. */
    uint64_t next = s->generation + 1 > now ? s->generation + 1 : now;
    __atomic_store_n(&s->generation, next, __ATOMIC_RELAXED);
    __atomic_store_n(&s->ring_bytes, ring_bytes, __ATOMIC_RELAXED);
    s->self_ino = own_ino(j);
    /* Sequence numbers never repeat: what memory still knows of earlier ones stays true. */
    s->tail_pos = (j->head.pos + ring_bytes - 1) / ring_bytes * ring_bytes;
    s->tail_seq = j->head.seq ? j->head.seq : 1;
    randombytes_buf(s->incarnation, sizeof s->incarnation);
    memset(s->tail_mac, 0, sizeof s->tail_mac);
    j->head = (struct journal_point){.pos = s->tail_pos, .seq = s->tail_seq};
    j->tail_pos = j->base = s->tail_pos;
    j->written = 0;
    j->durable = s->tail_seq - 1;
    r = journal_write_super(j);
    pthread_mutex_unlock(&j->append);
    return r ? r : sync_alone(j, io_fsync);
}

int journal_raise(struct journal *j, uint64_t least)
{
    int r = 0;
    pthread_mutex_lock(&j->append);
    uint64_t before = j->super.generation;
    if (before <= least) {
        __atomic_store_n(&j->super.generation, least + 1, __ATOMIC_RELAXED);
        r = journal_write_super(j);
        if (r) /* no header may bear what the journal does not know */
            __atomic_store_n(&j->super.generation, before, __ATOMIC_RELAXED);
    }
    pthread_mutex_unlock(&j->append);
    return r ? r : sync_alone(j, io_fdatasync);
}

uint64_t journal_generation(const struct journal *j)
{
    return __atomic_load_n(&j->super.generation, __ATOMIC_RELAXED);
}

bool journal_is_copy(const struct journal *j)
{
    return j->super.self_ino != own_ino(j);
}

uint64_t journal_ring(const struct journal *j)
{
    return __atomic_load_n(&j->super.ring_bytes, __ATOMIC_RELAXED);
}

uint64_t journal_syncs(const struct journal *j)
{
    return j->syncs;
}

uint64_t journal_used(struct journal *j)
{
    pthread_mutex_lock(&j->append);
    uint64_t used = j->head.pos - j->tail_pos;
    pthread_mutex_unlock(&j->append);
    return used;
}

void journal_forget_keys(struct journal *j)
{
    pthread_mutex_lock(&j->append);
    locked_free(j->keys);
    j->keys = NULL;
    pthread_mutex_unlock(&j->append);
}

int journal_set_key(struct journal *j, const uint8_t key[static LFS_KEY_BYTES])
{
    struct journal_keys *keys = locked_alloc(sizeof *keys);
    if (!keys)
        return -ENOMEM;
    journal_keys_derive(key, keys);
    pthread_mutex_lock(&j->append);
    locked_free(j->keys);
    j->keys = keys;
    pthread_mutex_unlock(&j->append);
    return 0;
}

int journal_look(struct journal *j, void *buf, size_t len, uint64_t at)
{
    ssize_t n = io_pread(j->fd, buf, len, at);
    return n < 0 ? (int)n : (size_t)n == len;
}

int journal_read(struct journal *j, void *buf, size_t len, uint64_t at)
{
    int r = journal_look(j, buf, len, at);
    return r < 0 ? r : r ? 0 : -EIO;
}

/* ---- walking ---- */

int journal_begin(struct journal *j, struct journal_cursor *c)
{
    c->buf = malloc(JENTRY_HEAD_BYTES + JENTRY_ITEMS_MAX + JENTRY_MAC_BYTES);
    if (!c->buf)
        return -ENOMEM;
    c->at = (struct journal_point){.pos = j->super.tail_pos, .seq = j->super.tail_seq};
    memcpy(c->at.mac, j->super.tail_mac, sizeof c->at.mac);
    return 0;
}

void journal_end(struct journal_cursor *c)
{
    free(c->buf);
    c->buf = NULL;
}

/* Reads head, items and MAC of the entry at the cursor: 1, or 0 where there is no valid one. */
static int read_entry(struct journal *j, struct journal_cursor *c, struct jentry_head *h)
{
    uint64_t left = j->super.ring_bytes - c->at.pos % j->super.ring_bytes;
    uint64_t at = JOURNAL_RING_AT + c->at.pos % j->super.ring_bytes;
    uint8_t mac[JENTRY_MAC_BYTES], *head = c->buf, *items = c->buf + JENTRY_HEAD_BYTES;
    if (c->at.pos - j->super.tail_pos >= j->super.ring_bytes)
        return 0;
    int r = journal_look(j, head, JENTRY_HEAD_BYTES, at);
    if (r <= 0 || jentry_head_decode(head, h) || h->seq != c->at.seq || h->total > left)
        return r < 0 ? r : 0;
    r = journal_look(j, items, h->item_bytes + JENTRY_MAC_BYTES, at + JENTRY_HEAD_BYTES);
    if (r <= 0)
        return r;
    jentry_mac(j->keys, j->super.incarnation, c->at.mac, head, items, h->item_bytes, mac);
    if (sodium_memcmp(mac, items + h->item_bytes, sizeof mac))
        return 0;
    memcpy(c->at.mac, mac, sizeof mac);
    return 1;
}

int journal_next(struct journal *j, struct journal_cursor *c, struct journal_entry *e)
{
    struct jentry_head h;
    if (!j->super.ring_bytes)
        return 0;
    uint64_t left = j->super.ring_bytes - c->at.pos % j->super.ring_bytes;
    if (left < jentry_total(0, 0))
        c->at.pos += left;
    int r = read_entry(j, c, &h);
    if (r <= 0)
        return r;
    e->head = h;
    e->items = c->buf + JENTRY_HEAD_BYTES;
    e->data_at = JOURNAL_RING_AT + c->at.pos % j->super.ring_bytes + jentry_data_offset(h.item_bytes);
    c->at.pos += h.total;
    c->at.seq++;
    return 1;
}

void journal_continue(struct journal *j, const struct journal_point *at)
{
    pthread_mutex_lock(&j->append);
    j->head = *at;
    pthread_mutex_unlock(&j->append);
}
