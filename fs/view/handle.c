#include "fs/view/handle.h"

#include "fs/view/small.h"
#include "fs/view/source.h"
#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/io.h"
#include "latchfs/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Two changes within this time may leave one and the same time stamp. */
#define RACY_NS 100000000
/* A read of at most this much that follows no other one is made by itself, without its group. */
#define ALONE_BYTES (16 * PAGE_BYTES)
_Static_assert(ALONE_BYTES + 2 * PAGE_BYTES <= CIPHER_BYTES, "it may begin and end within a page");

struct handle {
    struct view *v;
    struct vnode *node;
    char *small; /* the whole content; NULL: a paged file */
    size_t small_len;

    struct content c;     /* fd -1 if small */
    struct stamp stamp;   /* at open */
    uint64_t serial;      /* of this handle, for groups that nobody else may have */
    bool alone;           /* the stamp says too little: no group is shared */
    pthread_mutex_t lock; /* guards all below */
    bool changed;         /* the plain file has another stamp now */
    uint64_t next;        /* offset behind the last read */
    uint8_t *given;       /* a bit for each group that something was given out of */
};

/* ---- opening ---- */

static bool is_racy(const struct stat *st)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t ago = (int64_t)(now.tv_sec - st->st_ctim.tv_sec) * 1000000000 + now.tv_nsec - st->st_ctim.tv_nsec;
    return ago < RACY_NS;
}

static int open_inline(struct handle *h, const struct view_keys *k, struct scratch *s)
{
    ssize_t n = io_pread(h->c.fd, s->plain, h->c.size, 0);
    if (n < 0)
        return (int)n;
    h->c.size = (uint64_t)n; /* less, if it was cut just now */
    h->small_len = (size_t)content_length(h->c.size);
    h->small = malloc(h->small_len);
    int r = h->small ? content_inline(&h->c, k, s->aead, s->plain, (uint8_t *)h->small) : -ENOMEM;
    lfs_close_fd(&h->c.fd);
    return r;
}

static int open_paged(struct handle *h, const struct stat *st)
{
    static _Atomic uint64_t last_serial;
    h->stamp = stamp_of(st);
    h->serial = atomic_fetch_add(&last_serial, 1) + 1;
    h->alone = is_racy(st);
    h->given = calloc(1, content_group_at(content_length(h->c.size) - 1) / 8 + 1);
    return h->given ? 0 : -ENOMEM;
}

static int open_file(struct handle *h, const struct view_keys *k, struct scratch *s)
{
    struct stat st;
    h->c.fd = source_open(h->v, h->node, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOATIME);
    if (h->c.fd == -EPERM) /* only the owner may leave the access time alone */
        h->c.fd = source_open(h->v, h->node, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (h->c.fd < 0)
        return h->c.fd;
    if (fstat(h->c.fd, &st))
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -ESTALE;
    h->c.size = (uint64_t)st.st_size;
    memcpy(h->c.id, h->node->id, ID_BYTES);
    memcpy(h->c.home, h->node->parent->id, ID_BYTES);
    if (h->c.size > FILE_SIZE_MAX)
        return -EFBIG;
    int r = content_is_inline(h->c.size) ? open_inline(h, k, s) : open_paged(h, &st);
    if (!r)
        vnode_pin(h->node, h->c.size);
    return r;
}

static void handle_free(struct handle *h)
{
    lfs_close_fd(&h->c.fd);
    pthread_mutex_destroy(&h->lock);
    free(h->small);
    free(h->given);
    free(h);
}

int handle_open(struct view *v, const struct view_keys *k, struct scratch *s, struct vnode *n,
                struct handle **out)
{
    struct handle *h = calloc(1, sizeof *h);
    if (!h)
        return -ENOMEM;
    h->v = v;
    h->node = n;
    h->c.fd = -1;
    pthread_mutex_init(&h->lock, NULL);
    int r = n->kind == V_FILE ? open_file(h, k, s) : small_make(v, k, s->aead, n, &h->small, &h->small_len);
    if (r) {
        handle_free(h);
        return r;
    }
    vnode_hold(v->nodes, n); /* the kernel's forgetting may overtake its release */
    atomic_fetch_add(&v->open_files, 1);
    *out = h;
    return 0;
}

void handle_close(struct handle *h)
{
    if (h->node->kind == V_FILE)
        vnode_unpin(h->node);
    vnode_forget(h->v->nodes, h->node, 1);
    atomic_fetch_sub(&h->v->open_files, 1);
    handle_free(h);
}

/* ---- what was given out ---- */

/* After something of a group was made anew: -EIO if the file has changed since open and parts of the group
 * were given out before, which need not fit any more. Else the group counts as given out. */
static int account(struct handle *h, uint64_t group)
{
    struct stat st;
    if (fstat(h->c.fd, &st))
        return -errno;
    if ((uint64_t)st.st_size < h->c.size)
        return -EIO; /* what is cut off would look like a hole */
    struct stamp now = stamp_of(&st);
    uint8_t bit = (uint8_t)(1u << (group % 8));
    pthread_mutex_lock(&h->lock);
    bool first = !h->changed && !stamp_same(&now, &h->stamp);
    h->changed |= first;
    int r = h->changed && (h->given[group / 8] & bit) ? -EIO : 0;
    if (!r)
        h->given[group / 8] |= bit;
    pthread_mutex_unlock(&h->lock);
    if (first)
        log_warn("inode %llu of the view: its file changes while it is read",
                 (unsigned long long)vnode_ino(h->node));
    return r;
}

static bool has_changed(struct handle *h)
{
    pthread_mutex_lock(&h->lock);
    bool changed = h->changed;
    pthread_mutex_unlock(&h->lock);
    return changed;
}

static void mark_given(struct handle *h, uint64_t group)
{
    pthread_mutex_lock(&h->lock);
    h->given[group / 8] |= (uint8_t)(1u << (group % 8));
    pthread_mutex_unlock(&h->lock);
}

/* ---- groups ---- */

static int make_group(struct handle *h, const struct view_keys *k, struct scratch *s, struct group *made)
{
    int r = content_group(&h->c, k, s->aead, made->key.group, s->plain, made->image);
    if (!r)
        r = account(h, made->key.group);
    /* What was read while the file changed is good for this reader alone. */
    groups_made(h->v->groups, made, has_changed(h) ? h->serial : made->key.owner, r == 0);
    return r;
}

/* The group, held. Of a file that changed: first what this reader had of it, then what was made before the
 * change. made NULL: none is made, and 0 with *out NULL says that none is there. */
static int get_group(struct handle *h, const struct view_keys *k, struct scratch *s, uint64_t group,
                     bool make, struct group **out)
{
    struct group *place = NULL;
    struct group_key key = {.stamp = h->stamp,
                            .size = h->c.size,
                            .owner = h->serial,
                            .group = group,
                            .dir_version = k->dir_version};
    memcpy(key.id, h->c.id, ID_BYTES);
    bool own = h->alone || has_changed(h);
    *out = own ? groups_get(h->v->groups, &key, NULL) : NULL;
    if (!*out && !h->alone) {
        key.owner = 0;
        *out = groups_get(h->v->groups, &key, !own && make ? &place : NULL);
    }
    if (!*out && own && make) {
        key.owner = h->serial;
        *out = groups_get(h->v->groups, &key, &place);
    }
    if (*out || !make) {
        if (*out)
            mark_given(h, group);
        return 0;
    }
    if (!place)
        return -ENOMEM;
    int r = make_group(h, k, s, place);
    *out = r ? NULL : place;
    return r;
}

/* ---- reading ---- */

/* Data pages by themselves, for a reader that jumps about. from, to: offsets in the view within the group's
 * data pages. */
static int read_alone(struct handle *h, const struct view_keys *k, struct scratch *s, uint64_t group,
                      uint64_t from, size_t len, uint8_t *out)
{
    uint8_t records[CIPHER_BYTES / PAGE_BYTES * RECORD_BYTES];
    uint64_t data = content_group_offset(group) + PAGE_BYTES;
    uint64_t page = (from - data) / PAGE_BYTES, last = (from + len - 1 - data) / PAGE_BYTES;
    int r = content_chunks(&h->c, k, s->aead, content_group_first(group) + page, (unsigned)(last - page + 1),
                           s->plain, s->cipher, records);
    if (!r)
        r = account(h, group);
    if (!r)
        memcpy(out, s->cipher + (from - data - page * PAGE_BYTES), len);
    return r;
}

static int read_in_group(struct handle *h, const struct view_keys *k, struct scratch *s, uint64_t offset,
                         size_t len, bool jumped, uint8_t *out)
{
    uint64_t group = content_group_at(offset), base = content_group_offset(group);
    bool alone = jumped && offset >= base + PAGE_BYTES && len <= ALONE_BYTES;
    struct group *g;
    int r = get_group(h, k, s, group, !alone, &g);
    if (r)
        return r;
    if (!g)
        return read_alone(h, k, s, group, offset, len, out);
    memcpy(out, g->image + (offset - base), len);
    groups_put(h->v->groups, g);
    return 0;
}

static bool note_position(struct handle *h, uint64_t offset, size_t len)
{
    pthread_mutex_lock(&h->lock);
    bool jumped = h->next != offset;
    h->next = offset + len;
    pthread_mutex_unlock(&h->lock);
    return jumped;
}

static ssize_t read_paged(struct handle *h, const struct view_keys *k, struct scratch *s, uint64_t offset,
                          size_t len, uint8_t *out)
{
    bool jumped = note_position(h, offset, len);
    for (size_t done = 0; done < len;) {
        uint64_t at = offset + done, end = content_group_offset(content_group_at(at) + 1);
        size_t n = end - at < len - done ? (size_t)(end - at) : len - done;
        int r = read_in_group(h, k, s, at, n, jumped, out + done);
        if (r)
            return r;
        done += n;
    }
    return (ssize_t)len;
}

ssize_t handle_read(struct handle *h, const struct view_keys *k, struct scratch *s, uint64_t offset,
                    size_t len, uint8_t *out)
{
    uint64_t length = h->small ? h->small_len : content_length(h->c.size);
    if (offset >= length)
        return 0;
    if (len > length - offset)
        len = (size_t)(length - offset);
    if (!h->small)
        return read_paged(h, k, s, offset, len, out);
    memcpy(out, h->small + offset, len);
    return (ssize_t)len;
}

int64_t handle_seek(const struct handle *h, uint64_t offset, bool hole)
{
    if (!h->small)
        return content_seek(&h->c, offset, hole);
    if (offset >= h->small_len)
        return -ENXIO;
    return hole ? (int64_t)h->small_len : (int64_t)offset;
}
