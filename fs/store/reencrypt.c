/* Re-encryption of data: each file gets a new key in its second place, everything it has is written again
 * under that, and when all of it is in place and on disk the old place goes. Files go through these steps in
 * batches, so that a checkpoint serves many. Two filled places say that a file is unfinished: whatever cuts
 * this, the next run takes it up there. */
#include "fs/store/rotate.h"

#include <errno.h>
#include <stdlib.h>

#define BATCH_FILES 1024u
#define BATCH_BYTES (UINT64_C(64) << 20)
#define SMALL_RESERVE UINT64_C(8192)

struct reencrypt_batch {
    struct file *f[BATCH_FILES]; /* one user and a reference on the node each; content is done */
    size_t count;
    uint64_t bytes;
};

static bool is_done(const struct rotation *r, const struct file_header *h)
{
    return h->key_version >= r->active && !(h->place[0].epoch && h->place[1].epoch);
}

/* One transaction with the file's write lock. */
struct step {
    int (*run)(struct rotation *r, struct file *f, struct step *s, uint64_t *reserved);
    uint64_t chunk, bytes;
    bool needed;
};

static int take_step(struct rotation *r, struct file *f, struct step *s, uint64_t reserve)
{
    uint64_t reserved = 0;
    int e = rotate_enter(r);
    if (e)
        return e;
    e = file_reserve(r->v, reserve);
    if (!e) {
        reserved = reserve;
        e = file_lock_write(f);
    }
    if (!e) {
        e = s->run(r, f, s, &reserved);
        file_unlock(f);
    }
    if (reserved)
        journal_unreserve(r->v->journal, reserved);
    rotate_leave(r);
    return e;
}

static int begin(struct rotation *r, struct file *f, struct step *s, uint64_t *reserved)
{
    s->needed = f->state != CONTENT_NONE && !is_done(r, &f->hdr);
    if (!s->needed && f->state != CONTENT_NONE)
        rotate_found(r, f->hdr.key_version);
    return s->needed ? file_rekey_begin(f, reserved) : 0;
}

static int some(struct rotation *r, struct file *f, struct step *s, uint64_t *reserved)
{
    return file_rekey_some(f, &s->chunk, &s->bytes, reserved);
}

static int end(struct rotation *r, struct file *f, struct step *s, uint64_t *reserved)
{
    return atomic_load(&f->n->removed) ? 0 : file_rekey_end(f, reserved);
}

static int content(struct rotation *r, struct file *f, struct step *s)
{
    int e = 0;
    s->run = some;
    for (s->chunk = 0; !e && s->chunk != CHUNK_END;) {
        e = take_step(r, f, s, FILE_RESERVE);
        if (!e) {
            r->p.bytes += s->bytes;
            r->batch->bytes += s->bytes;
            e = rotate_pace(r, s->bytes);
        }
    }
    return e;
}

static int run_batch(struct rotation *r);

static int reencrypt(struct rotation *r, struct node *n)
{
    struct reencrypt_batch *b = r->batch;
    struct step s = {.run = begin};
    struct file *f;
    int e = file_get(n, &f);
    if (e)
        return e;
    node_ref(n);
    e = take_step(r, f, &s, SMALL_RESERVE);
    if (!e && s.needed)
        e = content(r, f, &s);
    if (e || !s.needed) {
        file_put(f);
        node_unref(n, 1);
        return e;
    }
    b->f[b->count++] = f;
    r->changed++;
    r->p.changed++;
    return b->count == BATCH_FILES || b->bytes >= BATCH_BYTES ? run_batch(r) : rotate_pace(r, PAGE_BYTES);
}

/* ---- a batch whose content is written ---- */

static void batch_drop(struct reencrypt_batch *b)
{
    while (b->count) {
        struct file *f = b->f[--b->count];
        struct node *n = f->n;
        file_put(f);
        node_unref(n, 1);
    }
    b->bytes = 0;
}

static int file_xattrs(struct rotation *r, struct node *n)
{
    int e = rotate_enter(r);
    if (e)
        return e;
    int damage = atomic_load(&n->removed) ? 0 : node_rekey_xattrs(n);
    e = damage ? rotate_count_damage(r, damage) : 0;
    rotate_leave(r);
    return e ? e : damage ? 1 : 0;
}

/* Those that fail are damaged: they keep both places. */
static int batch_xattrs(struct rotation *r)
{
    struct reencrypt_batch *b = r->batch;
    int e = 0;
    for (size_t i = 0; e >= 0 && i < b->count;) {
        struct node *n = b->f[i]->n;
        e = file_xattrs(r, n);
        if (e == 0)
            i++;
        if (e <= 0)
            continue;
        r->changed--;
        r->p.changed--;
        file_put(b->f[i]);
        node_unref(n, 1);
        b->f[i] = b->f[--b->count];
    }
    return e < 0 ? e : 0;
}

static int run_batch(struct rotation *r)
{
    struct reencrypt_batch *b = r->batch;
    struct step s = {.run = end};
    int e = batch_xattrs(r);
    if (!e && b->count)
        e = rotate_settle(r);
    for (size_t i = 0; !e && i < b->count; i++) {
        e = take_step(r, b->f[i], &s, SMALL_RESERVE);
        rotate_found(r, r->active);
    }
    batch_drop(b);
    return e ? e : rotate_pace(r, 0);
}

int volume_reencrypt(struct volume *v, const struct rotate_options *o, struct rotate_progress *out)
{
    static const struct rotation_kind kind = {
        .changes = true, .is_right = is_done, .work = reencrypt, .finish = run_batch};
    struct rotation r = {.batch = calloc(1, sizeof *r.batch)};
    int e = r.batch ? rotate_run(v, o, &kind, &r, out) : -ENOMEM;
    if (r.batch)
        batch_drop(r.batch);
    free(r.batch);
    return e;
}
