#include "fs/view/small.h"

#include "fs/view/entries.h"
#include "fs/view/source.h"
#include "latchfs/buf.h"
#include "latchfs/dirrec.h"
#include "latchfs/err.h"
#include "latchfs/io.h"
#include "latchfs/keystore.h"
#include "latchfs/symlink.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int make_dirrec(const struct view_keys *k, const struct vnode *dir, char *out)
{
    struct dirrec d = {0};
    struct cipher_name cn;
    int r = dir->parent ? name_encrypt(&k->names, dir->parent->id, dir->name, &cn) : 0;
    if (r)
        return r;
    memcpy(d.id, dir->id, ID_BYTES);
    memcpy(d.parent[0], dir->parent ? dir->parent->id : dir->id, ID_BYTES);
    if (dir->parent)
        dirrec_name_tag(cn.stored, d.name[0]);
    memcpy(d.pd_id, k->pd_id, ID_BYTES);
    dirrec_encode(&d, &k->names, (uint8_t *)out);
    return 0;
}

/* Clean and without a ring, as a volume's journal that was never used. */
static void make_journal(const struct view_keys *k, char *out)
{
    struct journal_super s = {.counter = 2, .generation = 1};
    memcpy(s.volume_id, k->volume_id, ID_BYTES);
    view_id(k, VIEW_ID_JOURNAL, k->volume_id, "", s.incarnation);
    journal_super_encode(&s, &k->journal, (uint8_t *)out);
}

/* Of the link node, or of the link that a sidecar serves. */
static int encrypt_target(struct view *v, const struct view_keys *k, struct aead *a, const struct vnode *n,
                          char *encoded, size_t *target_len)
{
    char target[SYMLINK_PLAIN_MAX + 2];
    uint8_t link_id[ID_BYTES], nonce[NONCE_BYTES];
    AUTO_CLOSE int dirfd = source_open(v, n->parent, O_PATH | O_DIRECTORY);
    if (dirfd < 0)
        return dirfd;
    ssize_t len = readlinkat(dirfd, n->name, target, sizeof target - 1);
    if (len < 0)
        return errno == EINVAL ? -ESTALE : -errno; /* no link any more */
    target[len] = '\0';
    view_id(k, VIEW_ID_LINK, n->parent->id, n->name, link_id);
    view_nonce(k, KIND_SYMLINK, link_id, 0, NULL, target, (size_t)len, nonce);
    int r = symlink_encrypt_with(a, k->suite, &k->names, n->parent->id, link_id, nonce, target, encoded);
    aead_clear_key(a);
    *target_len = (size_t)len;
    return r;
}

int small_link(struct view *v, const struct view_keys *k, struct aead *a, const struct vnode *n, char *stored,
               size_t size)
{
    char encoded[SYMLINK_ENCODED_MAX + 1], sidecar[LINKCAR_NAME_MAX];
    size_t len = 0;
    int r = encrypt_target(v, k, a, n, encoded, &len);
    if (r)
        return r;
    linkcar_name(k, n->parent->id, n->name, sidecar);
    const char *from = link_is_long(len) ? sidecar : encoded;
    if (strlen(from) >= size)
        return -ENAMETOOLONG;
    strcpy(stored, from);
    return 0;
}

static int make_namecar(const struct view_keys *k, const struct vnode *n, char *out, size_t *len)
{
    struct cipher_name cn;
    int r = name_encrypt(&k->names, n->parent->id, n->name, &cn);
    if (r)
        return r;
    *len = strlen(cn.encoded);
    memcpy(out, cn.encoded, *len);
    return 0;
}

static int make_linkcar(struct view *v, const struct view_keys *k, struct aead *a, const struct vnode *n,
                        char *out, size_t *len)
{
    size_t target_len;
    int r = encrypt_target(v, k, a, n, out, &target_len);
    *len = r ? 0 : strlen(out);
    return r;
}

#define SMALL_MAX JOURNAL_RING_AT
_Static_assert(SMALL_MAX > SYMLINK_ENCODED_MAX && SMALL_MAX > NAME_ENCODED_MAX, "the longest");

int small_make(struct view *v, const struct view_keys *k, struct aead *a, const struct vnode *n, char **data,
               size_t *len)
{
    if (n->kind == V_KEYSTORE)
        return io_read_file(AT_FDCWD, v->config, KEYSTORE_MAX_BYTES, data, len);
    AUTO_FREE char *out = calloc(1, SMALL_MAX);
    size_t used = n->kind == V_JOURNAL ? SMALL_MAX : DIRREC_BYTES;
    int r = 0;
    if (!out)
        return -ENOMEM;
    if (n->kind == V_DIRREC)
        r = make_dirrec(k, n->parent, out);
    else if (n->kind == V_JOURNAL)
        make_journal(k, out);
    else if (n->kind == V_NAMECAR)
        r = make_namecar(k, n, out, &used);
    else
        r = make_linkcar(v, k, a, n, out, &used);
    if (r)
        return r;
    *data = out;
    *len = used;
    out = NULL;
    return 0;
}
