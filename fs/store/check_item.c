/* Regular files on their way to the workers. */
#include "fs/store/check_int.h"
#include "latchfs/layout.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_CHUNKS (UINT64_C(128) * GROUP_RECORDS) /* 64 MiB */

static char *position_of(const struct check *c, uint64_t chunk)
{
    char *s = NULL;
    if (!chunk)
        return strdup(c->cipher.s);
    return asprintf(&s, "%s//%llu", c->cipher.s, (unsigned long long)chunk) < 0 ? NULL : s;
}

/* Where the file is: for one that was moved, by its node. */
static char *cipher_of(const struct check *c, const struct look *l)
{
    char path[PATH_MAX];
    if (l->moved && node_path(l->n, path, sizeof path) == 0)
        return strdup(path);
    return strdup(c->cipher.s);
}

static char *plain_of_file(const struct check *c, const struct look *l)
{
    if (l->moved)
        return l->moved_plain ? strdup(l->moved_plain) : NULL;
    return l->plain_known && l->f->plain_known ? strdup(c->plain.s) : NULL;
}

static struct check_item *item_new(struct check *c, const struct look *l)
{
    struct check_item *item = calloc(1, sizeof *item);
    struct frame *top = frame_top(l->f);
    if (!item)
        return NULL;
    node_ref(l->n);
    item->n = l->n;
    item->dir = node_parent(l->n);
    item->keyed = l->f->keyed;
    item->pd_known = l->f->pd_known;
    memcpy(item->pd_id, l->f->pd_id, ID_BYTES);
    item->length = (uint64_t)l->st.st_size;
    item->links = l->st.st_nlink;
    item->dir_known = l->f->id_known && !l->moved;
    memcpy(item->dir_id, l->f->id, ID_BYTES);
    item->lost = l->f->lost || l->moved;
    item->left = 1;
    item->stored = strdup(l->name);
    item->cipher = cipher_of(c, l);
    item->plain = plain_of_file(c, l);
    if (c->repairs && top->keyed && top->plain_known) {
        node_ref(top->n);
        item->top = top->n;
        item->top_plain = strndup(c->plain.s, top->plain_len);
    }
    return item;
}

/* Pieces end at groups, so that no tag page is read twice. */
static uint64_t piece_end(uint64_t first)
{
    return layout_group_first(first + PIECE_CHUNKS);
}

int check_push_file(struct check *c, const struct look *l, uint64_t from, bool again)
{
    uint64_t size = 0;
    struct check_item *item = item_new(c, l);
    if (!item || !item->stored || !item->cipher) {
        check_item_put(c, item);
        return -ENOMEM;
    }
    item->other_link = again;
    bool pieces = c->contents && item->keyed && !again && layout_size(item->length, &size) == LENGTH_PAGED;
    uint64_t chunks = pieces ? layout_chunks(size) : 0;
    item->resumed = from > 0;
    struct check_job job = {.item = item, .first = layout_group_first(from), .head = from == 0};
    int r = 0;
    do {
        uint64_t end = piece_end(job.first);
        bool last = end >= chunks;
        job.end = last ? UINT64_MAX : end;
        pthread_mutex_lock(&c->lock);
        item->left++;
        pthread_mutex_unlock(&c->lock);
        queue_push(c, &job, position_of(c, last ? 0 : end));
        job.first = end;
        job.head = false;
        r = check_stopped(c);
    } while (!r && job.first < chunks);
    if (job.first < chunks)
        atomic_store(&item->partial, true);
    check_item_put(c, item);
    queue_settle(c);
    return r;
}

static void item_free(struct check_item *item)
{
    node_unref(item->n, 1);
    node_unref(item->dir, 1);
    node_unref(item->top, 1);
    hits_clear(&item->hits);
    free(item->top_plain);
    free(item->stored);
    free(item->cipher);
    free(item->plain);
    free(item->bad);
    free(item);
}

void check_item_put(struct check *c, struct check_item *item)
{
    if (!item)
        return;
    pthread_mutex_lock(&c->lock);
    unsigned left = --item->left;
    pthread_mutex_unlock(&c->lock);
    if (left)
        return;
    if (item->cipher)
        check_file_end(c, item);
    item_free(item);
}
