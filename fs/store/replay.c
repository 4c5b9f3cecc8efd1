/* Replay: the overlays of an unclean journal are built again from its valid entries, synced, and put in place
 * with the same code as any checkpoint. It may be cut anywhere and run again. */
#include "fs/store/replay.h"
#include "fs/store/seal.h"

#include "latchfs/crc32c.h"
#include "latchfs/io.h"
#include "latchfs/layout.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- collecting: entries by file, marks ---- */

static struct replay_file *find_file(struct replay *p, const uint8_t *id)
{
    for (size_t i = p->hash[id[0] | id[1] << 8]; i; i = p->files[i - 1].next)
        if (!memcmp(p->files[i - 1].id, id, ID_BYTES))
            return &p->files[i - 1];
    return NULL;
}

static struct replay_file *add_file(struct replay *p, const uint8_t *id)
{
    struct replay_file *f = find_file(p, id);
    if (f)
        return f;
    if (p->file_count == p->file_cap) {
        size_t cap = p->file_cap ? p->file_cap * 2 : 64;
        f = realloc(p->files, cap * sizeof *f);
        if (!f)
            return NULL;
        p->files = f;
        p->file_cap = cap;
    }
    f = &p->files[p->file_count++];
    *f = (struct replay_file){.next = p->hash[id[0] | id[1] << 8]};
    memcpy(f->id, id, ID_BYTES);
    p->hash[id[0] | id[1] << 8] = p->file_count;
    return f;
}

static int add_entry(struct replay *p, const struct journal_entry *e)
{
    struct replay_file *f = add_file(p, e->head.file_id);
    if (!f)
        return -ENOMEM;
    if (f->entry_count == f->entry_cap) {
        size_t cap = f->entry_cap ? f->entry_cap * 2 : 4;
        struct replay_entry *grown = realloc(f->entries, cap * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        f->entries = grown;
        f->entry_cap = cap;
    }
    f->ino = e->head.ino;
    f->entries[f->entry_count++] = (struct replay_entry){
        .seq = e->head.seq,
        .items_at = e->data_at - jentry_data_offset(e->head.item_bytes) + JENTRY_HEAD_BYTES,
        .item_bytes = e->head.item_bytes,
        .data_at = e->data_at,
    };
    return 0;
}

static uint16_t chunk_length(const uint8_t *record)
{
    return (uint16_t)(record[NONCE_BYTES + TAG_BYTES] | record[NONCE_BYTES + TAG_BYTES + 1] << 8);
}

static uint32_t chunk_crc(const uint8_t *chunk)
{
    struct rcur c = rcur_over(chunk + RECORD_BYTES, 4);
    return rcur_u32(&c);
}

/* One piece of data of an entry: 1 when it is there, within bounds, and as its CRC says. */
static int piece_whole(struct journal *j, const struct journal_entry *e, uint64_t *used, size_t len,
                       uint32_t crc)
{
    uint8_t buf[PAGE_BYTES];
    if (len > sizeof buf || *used + len > e->head.data_bytes)
        return 0;
    int r = len ? journal_look(j, buf, len, e->data_at + *used) : 1;
    *used += len;
    return r <= 0 ? r : crc32c(0, buf, len) == crc;
}

/* 1 when the items parse, and all data is as its CRC says: the entry reached the disk whole. */
static int entry_whole(struct journal *j, const struct journal_entry *e)
{
    struct rcur c = rcur_over(e->items, e->head.item_bytes);
    struct jitem it;
    uint64_t used = 0;
    int r, whole = 1;
    while ((r = jitem_next(&c, &it)) == 1) {
        if (it.type == JITEM_INLINE)
            whole = piece_whole(j, e, &used, (size_t)it.length, it.crc);
        for (uint64_t i = 0; whole == 1 && it.type == JITEM_CHUNKS && !it.fresh && i < it.count; i++) {
            const uint8_t *chunk = it.chunks + i * JCHUNK_BYTES;
            whole = piece_whole(j, e, &used, chunk_length(chunk), chunk_crc(chunk));
        }
        if (whole <= 0)
            return whole;
    }
    return r == 0 && used == e->head.data_bytes;
}

static int take_marks_and_path(struct replay *p, const struct journal_entry *e)
{
    struct rcur c = rcur_over(e->items, e->head.item_bytes);
    struct jitem it;
    while (jitem_next(&c, &it) == 1) {
        struct replay_file *f = NULL;
        if (it.type == JITEM_MARK)
            f = add_file(p, it.file_id);
        else if (it.type == JITEM_PATH || it.type == JITEM_REMOVED)
            f = add_file(p, e->head.file_id);
        else
            continue;
        if (!f)
            return -ENOMEM;
        if (it.type == JITEM_PATH) {
            free(f->path);
            f->path = strndup((const char *)it.path, it.length);
        } else if (it.type == JITEM_REMOVED) {
            f->removed = true;
        } else if (it.seq > f->marked) {
            f->marked = it.seq;
        }
    }
    return 0;
}

/* The next whole entry: 1, or 0 behind the last. With the override what can't be read ends the journal. */
static int next_whole(struct replay *p, struct journal_cursor *c, struct journal_entry *e)
{
    int r = journal_next(p->v->journal, c, e);
    if (r == 1)
        r = entry_whole(p->v->journal, e);
    return r < 0 && p->v->opt.ignore_journal ? 0 : r;
}

static int collect(struct replay *p)
{
    static const uint8_t no_file[ID_BYTES];
    struct journal *j = p->v->journal;
    struct journal_cursor c;
    struct journal_entry e;
    int r = journal_begin(j, &c);
    if (r)
        return r;
    p->end = c.at;
    while (!r && (r = next_whole(p, &c, &e)) == 1) {
        r = 0;
        p->end = c.at;
        if (memcmp(e.head.file_id, no_file, ID_BYTES)) {
            p->report->entries++;
            r = add_entry(p, &e);
        }
        if (!r)
            r = take_marks_and_path(p, &e);
    }
    journal_end(&c);
    return r;
}

/* ---- rebuilding one file's overlay ---- */

/* Fresh chunks without a mark count only if what lies in place is what the entry speaks of: 1 then. */
static int fresh_whole(int fd, const struct jitem *it)
{
    uint8_t buf[PAGE_BYTES];
    for (uint64_t i = 0; i < it->count; i++) {
        const uint8_t *chunk = it->chunks + i * JCHUNK_BYTES;
        size_t len = chunk_length(chunk);
        ssize_t n = len <= sizeof buf ? io_pread(fd, buf, len, layout_data_offset(it->first + i)) : 0;
        if (n < 0)
            return (int)n;
        if (len > sizeof buf || n != (ssize_t)len || crc32c(0, buf, len) != chunk_crc(chunk))
            return 0;
    }
    return 1;
}

/* 1 if the entry has fresh data that neither a mark nor its CRC vouches for. *unmarked: it has some without a
 * mark. */
static int entry_torn(struct rcur c, int fd, uint64_t seq, uint64_t marked, bool *unmarked)
{
    struct jitem it;
    while (jitem_next(&c, &it) == 1) {
        if (it.type != JITEM_CHUNKS || !it.fresh || seq <= marked)
            continue;
        int whole = fresh_whole(fd, &it);
        if (whole <= 0)
            return whole < 0 ? whole : 1;
        *unmarked = true;
    }
    return 0;
}

static uint64_t cut_first_chunk(uint64_t length)
{
    uint64_t size = 0;
    return layout_size(length, &size) == LENGTH_PAGED ? layout_chunks(size) : 0;
}

static int apply_item(struct file *f, const struct jitem *it, uint64_t *data_at)
{
    int r = 0;
    switch (it->type) {
    case JITEM_HEADER:
        r = header_decode(it->image, &f->hdr);
        if (!r)
            f->state = f->hdr.state == FILE_PAGED ? CONTENT_PAGED : CONTENT_INLINE;
        f->ov.changed = true;
        break;
    case JITEM_CUT:
        r = overlay_punch(&f->ov, cut_first_chunk(it->length), CHUNK_END);
        f->ov.inline_at = 0;
        break;
    case JITEM_PUNCH:
        r = overlay_punch(&f->ov, it->first, it->first + it->count);
        break;
    case JITEM_INLINE:
        f->ov.inline_at = *data_at;
        *data_at += it->length;
        break;
    case JITEM_CHUNKS:
        r = overlay_reserve(&f->ov, it->count);
        for (uint64_t i = 0; !r && i < it->count; i++) {
            const uint8_t *chunk = it->chunks + i * JCHUNK_BYTES;
            overlay_put(&f->ov, it->first + i, chunk, it->fresh ? 0 : *data_at);
            *data_at += it->fresh ? 0 : chunk_length(chunk);
        }
        break;
    default:
        break;
    }
    return r;
}

static int apply_items(struct file *f, struct rcur c, uint64_t data_at)
{
    struct jitem it;
    int r;
    while ((r = jitem_next(&c, &it)) == 1)
        if ((r = apply_item(f, &it, &data_at)))
            return r;
    return r;
}

/* What lies in place, by its header alone. 1: the file bears the id and may be changed; 0: not. */
static int read_place(struct replay *p, struct file *f, int fd, const uint8_t *id)
{
    uint8_t image[HEADER_BYTES];
    struct file_header h;
    struct stat st;
    if (fstat(fd, &st))
        return -errno;
    ssize_t n = io_pread(fd, image, sizeof image, 0);
    if (n < 0)
        return (int)n;
    if (n < (ssize_t)sizeof image || header_decode(image, &h) || memcmp(h.file_id, id, ID_BYTES))
        return 0;
    if (h.generation > journal_generation(p->v->journal))
        return 0;
    f->hdr = h;
    f->state = f->placed_state = h.state == FILE_PAGED ? CONTENT_PAGED : CONTENT_INLINE;
    file_cut_space(f, 0);
    f->placed_length = f->reserved_to = (uint64_t)st.st_size;
    /* A putting in place that was cut may have left records up to the end of the file, and stale ones behind
     * it up to the end of its tag page. */
    uint64_t size = 0;
    layout_size(f->placed_length, &size);
    uint64_t chunks = layout_chunks(size > h.size ? size : h.size);
    f->placed_chunks = f->placed_state == CONTENT_PAGED ? layout_group_next(chunks ? chunks - 1 : 0) : 0;
    f->mtime = st.st_mtim;
    f->mtime_known = true;
    return 1;
}

static int rebuild(struct replay *p, struct replay_file *rf, struct file *f, int fd)
{
    struct journal *j = p->v->journal;
    uint64_t last = 0;
    int behind = replay_is_behind(p, rf, &f->hdr), r = behind < 0 ? behind : 0;
    for (size_t i = 0; !r && i < rf->entry_count; i++) {
        const struct replay_entry *e = &rf->entries[i];
        uint8_t *items = malloc(e->item_bytes + 1);
        r = items ? journal_read(j, items, e->item_bytes, e->items_at) : -ENOMEM;
        int torn = r ? 0 : entry_torn(rcur_over(items, e->item_bytes), fd, e->seq, rf->marked, &rf->unmarked);
        r = torn < 0 ? torn : r;
        if (!r && !torn) {
            r = apply_items(f, rcur_over(items, e->item_bytes), e->data_at);
            last = e->seq;
        }
        free(items);
        if (torn > 0) {
            p->report->torn += rf->entry_count - i;
            break;
        }
    }
    if (!r && behind && last)
        r = replay_spoil(f, fd);
    if (!rf->found || last < rf->last) /* of several copies, a mark may only say what holds for all */
        rf->last = last;
    return r;
}

/* Builds the overlay over one backing file and keeps it (with its node) in p->targets. */
static int add_target(struct replay *p, size_t file, struct file *f)
{
    if (p->target_count == p->target_cap) {
        size_t cap = p->target_cap ? p->target_cap * 2 : 64;
        struct replay_target *grown = realloc(p->targets, cap * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        p->targets = grown;
        p->target_cap = cap;
    }
    node_ref(f->n);
    p->targets[p->target_count++] = (struct replay_target){f, file};
    p->files[file].found = true;
    return 0;
}

/* n->file alone does not say it: others may have the file open on a shared volume. */
static bool is_target(const struct replay *p, const struct node *n)
{
    for (size_t i = 0; n->file && i < p->target_count; i++)
        if (p->targets[i].f->n == n)
            return true;
    return false;
}

int replay_take(struct replay *p, size_t file, struct node *n)
{
    struct file *f;
    int fd, ours, r;
    if (n->type != S_IFREG || is_target(p, n)) /* by another name */
        return 0;
    r = node_fd_get(n, false, &fd);
    if (r)
        return r;
    r = file_get(n, &f);
    if (!r) {
        ours = r = read_place(p, f, fd, p->files[file].id);
        if (ours > 0)
            r = rebuild(p, &p->files[file], f, fd);
        if (ours > 0 && !r)
            r = add_target(p, file, f);
        if (ours <= 0 || r)
            file_put(f);
    }
    node_fd_put(n);
    return r;
}

/* ---- putting in place ---- */

static int append_marks(struct replay *p)
{
    struct file_mark *todo = malloc((p->target_count + 1) * sizeof *todo);
    uint64_t seq;
    size_t n = 0;
    if (!todo)
        return -ENOMEM;
    for (size_t i = 0; i < p->target_count; i++) {
        const struct replay_file *rf = &p->files[p->targets[i].file];
        if (!rf->unmarked)
            continue;
        todo[n++] = (struct file_mark){p->targets[i].f, rf->last};
    }
    int r = n ? file_mark(p->v, todo, n, &seq) : 0;
    free(todo);
    return r ? r : journal_flush(p->v->journal);
}

static int put_in_place(struct replay *p)
{
    if (syncfs(p->v->root_fd))
        return -errno;
    journal_continue(p->v->journal, &p->end);
    int r = append_marks(p);
    for (size_t i = 0; !r && i < p->target_count; i++)
        r = file_apply(p->targets[i].f);
    if (!r && syncfs(p->v->root_fd))
        r = -errno;
    atomic_store(&p->v->pending_chunks, 0);
    return r;
}

/* Ends the targets: dropped, or (read-only) kept as overlays over an unclean volume. placed: all is in place
 * and on disk. */
static void release(struct replay *p, bool keep, bool placed)
{
    for (size_t i = 0; i < p->target_count; i++) {
        struct file *f = p->targets[i].f;
        struct node *n = f->n;
        if (keep) {
            f->replayed = true; /* stays until the volume is closed */
            continue;
        }
        bool seal = placed && seal_is_wanted(f);
        f->state = CONTENT_NONE;
        f->synced_gen = f->placed_gen;
        file_put(f);
        if (seal)
            seal_wait(n, NULL, true);
        node_unref(n, 1);
    }
    for (size_t i = 0; i < p->file_count; i++) {
        free(p->files[i].entries);
        free(p->files[i].path);
    }
    free(p->files);
    free(p->targets);
    free(p->hash);
}

int replay_run(struct volume *v, struct replay_report *report)
{
    struct replay p = {.v = v, .report = report, .hash = calloc(65536, sizeof(size_t))};
    int r = p.hash ? 0 : -ENOMEM;
    if (!r && journal_ring(v->journal))
        r = collect(&p);
    report->unclean = report->entries > 0;
    if (!r && report->unclean)
        r = replay_find(&p);
    for (size_t i = 0; i < p.file_count; i++)
        if (!p.files[i].found && !p.files[i].removed)
            report->skipped += p.files[i].entry_count;
    report->files = p.target_count;
    if (!r && report->unclean && !v->opt.read_only)
        r = put_in_place(&p);
    release(&p, !r && v->opt.read_only, !r && !v->opt.read_only);
    return r;
}
