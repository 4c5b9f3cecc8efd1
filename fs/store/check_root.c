/* The files that only the root of a volume has: the key store and the journal. */
#include "fs/store/check_int.h"
#include "latchfs/io.h"
#include "latchfs/jentry.h"
#include "latchfs/keystore.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

/* ---- key store ---- */

static int read_keystore(struct check *c, const char *name)
{
    AUTO_FREE char *ini = NULL;
    CLEANUP(keystore_freep) struct keystore *ks = NULL;
    size_t len;
    int r = io_read_file(c->v->root_fd, name, KEYSTORE_MAX_BYTES, &ini, &len);
    if (!r)
        r = keystore_parse(ini, len, &ks, NULL);
    if (!r && !keystore_signed_by(ini, len, ks->signing_public))
        r = LFS_ERR_AUTH;
    if (!r && c->keyed && memcmp(ks->volume_id, c->v->id, ID_BYTES) != 0)
        r = LFS_ERR_CORRUPT;
    return r;
}

void check_keystore(struct check *c, struct hits *ini, struct hits *bak)
{
    int r = read_keystore(c, KEYSTORE_NAME);
    struct hit *h = r ? hits_add(ini, CHECK_BAD_KEYSTORE, r) : NULL;
    r = read_keystore(c, KEYSTORE_BAK_NAME);
    if (h && !r)
        h->repair = "its previous copy is whole: latch header restore";
    h = r && r != -ENOENT ? hits_add(bak, CHECK_BAD_KEYSTORE, r) : NULL;
    if (h)
        h->severity = CHECK_WARNING;
}

/* ---- journal, with its key ---- */

static void check_entries(struct check *c, struct journal *j, struct hits *h)
{
    struct journal_cursor at;
    struct journal_entry e;
    if (journal_begin(j, &at))
        return;
    if (journal_next(j, &at, &e) == 1)
        hits_add(h, CHECK_JOURNAL_UNCLEAN, 0);
    journal_end(&at);
}

/* Of a volume that is open for writing the journal is in use. */
static void check_keyed_journal(struct check *c, struct hits *h)
{
    struct journal *j = NULL;
    const struct pd_keys *keys = pd_keys(pd_root(c->v));
    if (!c->v->opt.read_only || !keys)
        return;
    int r = journal_open(c->v->root_fd, c->v->id, keys->set.journal_key, false, &j);
    if (r)
        hits_add(h, CHECK_JOURNAL_MISSING, r);
    else
        check_entries(c, j, h);
    journal_close(j, false);
}

/* ---- journal, without its key ---- */

static int read_super(int fd, struct journal_super *out)
{
    uint8_t page[JOURNAL_SUPER_BYTES];
    int r = LFS_ERR_CORRUPT;
    for (unsigned slot = 0; slot < 2; slot++) {
        struct journal_super s;
        ssize_t n = io_pread(fd, page, sizeof page, slot * JOURNAL_SLOT_BYTES);
        if (n < 0)
            return (int)n;
        if (n == sizeof page && journal_super_decode(page, NULL, &s) == 0 &&
            (r || s.counter > out->counter)) {
            *out = s;
            r = 0;
        }
    }
    return r;
}

/* The heads of entries from the tail on, as far as their numbers follow each other: which files they are
 * about. Nobody vouches for them, so this only keeps silent about what a replay may mend. */
static uint64_t collect_heads(struct check *c, int fd, const struct journal_super *s)
{
    uint64_t pos = s->tail_pos, seq = s->tail_seq, count = 0;
    while (pos - s->tail_pos < s->ring_bytes) {
        uint8_t bytes[JENTRY_HEAD_BYTES];
        struct jentry_head h;
        uint64_t left = s->ring_bytes - pos % s->ring_bytes;
        if (left < jentry_total(0, 0)) {
            pos += left;
            continue;
        }
        if (io_pread(fd, bytes, sizeof bytes, JOURNAL_RING_AT + pos % s->ring_bytes) != sizeof bytes ||
            jentry_head_decode(bytes, &h) || h.seq != seq || h.total > left)
            break;
        struct id_seen seen = {.ino = 1};
        memcpy(seen.id, h.file_id, ID_BYTES);
        id_set_add(&c->pending, &seen);
        inode_set_add(&c->pending_ino, h.ino);
        pos += h.total;
        seq++;
        count++;
    }
    return count;
}

static void check_framing(struct check *c, struct hits *h)
{
    struct journal_super s = {0};
    struct stat st;
    AUTO_CLOSE int fd = fd_openat(c->v, c->v->root_fd, JOURNAL_NAME, O_RDONLY | O_NONBLOCK, 0);
    int r = fd < 0 ? fd : fstat(fd, &st) ? -errno : S_ISREG(st.st_mode) ? 0 : LFS_ERR_CORRUPT;
    if (!r)
        r = read_super(fd, &s);
    if (!r && s.ring_bytes && (uint64_t)st.st_size < JOURNAL_RING_AT + s.ring_bytes)
        r = LFS_ERR_CORRUPT;
    if (r)
        hits_add(h, CHECK_JOURNAL_MISSING, r == -ENOENT ? LFS_ERR_JOURNAL : r);
    else if (s.ring_bytes && collect_heads(c, fd, &s))
        hits_add(h, CHECK_JOURNAL_UNCLEAN, 0);
}

void check_journal(struct check *c, struct hits *h)
{
    if (c->keyed)
        check_keyed_journal(c, h);
    else
        check_framing(c, h);
}
