#include "fs/view/attributes.h"

#include "fs/view/source.h"
#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/header.h"
#include "latchfs/xattr.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#define VALUE_MAX 65536u /* of the system, for lists too */

static bool begins(const char *name, const char *prefix)
{
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

static bool is_acl(const char *name)
{
    return strcmp(name, "system.posix_acl_access") == 0 || strcmp(name, "system.posix_acl_default") == 0;
}

/* The same namespaces that a mount encrypts. */
static bool is_encrypted(const char *name)
{
    return begins(name, "user.") || begins(name, "trusted.") || begins(name, "security.");
}

static bool can_have(const struct vnode *n)
{
    return n->kind == V_FILE || n->kind == V_DIR;
}

struct place { /* a path by which the system reads attributes of what a descriptor stands for */
    int fd;
    char path[32];
};

static void place_clear(struct place *p)
{
    lfs_close_fd(&p->fd);
}

static int place_open(struct view *v, const struct vnode *n, struct place *p)
{
    p->fd = source_open(v, n, O_PATH | (n->kind == V_DIR ? O_DIRECTORY : 0));
    snprintf(p->path, sizeof p->path, "/proc/self/fd/%d", p->fd);
    if (p->fd < 0)
        return p->fd;
    return n->kind == V_DIR && source_is_foreign(v, p->fd) ? -ENODATA : 0;
}

/* ---- values ---- */

static int load_key(const struct view_keys *k, struct aead *a, const struct vnode *n)
{
    uint8_t file_key[LFS_KEY_BYTES], key[LFS_KEY_BYTES];
    if (n->kind == V_DIR)
        return aead_set_key(a, k->suite, k->names.xattr);
    view_file_key(k, n->id, file_key);
    file_subkey(file_key, FILE_SUB_XATTR, key);
    int r = aead_set_key(a, k->suite, key);
    sodium_memzero(file_key, sizeof file_key);
    sodium_memzero(key, sizeof key);
    return r;
}

static int seal(const struct view_keys *k, struct aead *a, const struct vnode *n, const char *name,
                const uint8_t *value, size_t len, uint8_t *out)
{
    uint8_t nonce[NONCE_BYTES];
    struct xattr_owner o = {
        .kind = n->kind == V_DIR ? KIND_DIR_XATTR : KIND_XATTR, .suite = k->suite, .epoch = 1, .id = n->id};
    view_nonce(k, o.kind, n->id, strlen(name), name, value, len, nonce);
    int r = load_key(k, a, n);
    if (!r)
        r = xattr_value_seal_with(a, &o, name, nonce, value, len, out);
    aead_clear_key(a);
    return r;
}

static ssize_t get_encrypted(const struct view_keys *k, struct aead *a, const struct vnode *n,
                             const struct place *p, const char *name, uint8_t *out, size_t size)
{
    AUTO_FREE uint8_t *value = malloc(VALUE_MAX);
    if (!value)
        return -ENOMEM;
    ssize_t len = getxattr(p->path, name, value, VALUE_MAX);
    if (len < 0)
        return -errno;
    size_t stored = (size_t)len + XATTR_OVERHEAD;
    if (stored > VALUE_MAX)
        return -E2BIG;
    if (size == 0)
        return (ssize_t)stored;
    if (stored > size)
        return -ERANGE;
    int r = seal(k, a, n, name, value, (size_t)len, out);
    return r ? r : (ssize_t)stored;
}

ssize_t attributes_get(struct view *v, const struct view_keys *k, struct aead *a, const struct vnode *n,
                       const char *stored, void *value, size_t size)
{
    CLEANUP(place_clear) struct place p = {.fd = -1};
    char name[XATTR_PLAIN_MAX + 1];
    if (!is_acl(stored) && !begins(stored, XATTR_STORED_PREFIX))
        return begins(stored, "user.") || begins(stored, "security.") ? -ENODATA : -EOPNOTSUPP;
    if (!can_have(n))
        return -ENODATA;
    if (!is_acl(stored) && (xattr_name_decrypt(&k->names, n->id, stored, name) || !is_encrypted(name)))
        return -ENODATA;
    int r = place_open(v, n, &p);
    if (r)
        return r;
    if (!is_acl(stored))
        return get_encrypted(k, a, n, &p, name, value, size);
    ssize_t len = getxattr(p.path, stored, value, size);
    return len < 0 ? -errno : len;
}

/* ---- listing ---- */

struct listing {
    char *list;
    size_t size, used;
};

static int add(struct listing *l, const char *name)
{
    size_t len = strlen(name) + 1;
    if (l->size > 0 && len > l->size - l->used)
        return -ERANGE;
    if (l->size > 0)
        memcpy(l->list + l->used, name, len);
    l->used += len;
    return 0;
}

/* Names too long for the format are left out. */
static int add_one(const struct view_keys *k, const struct vnode *n, const char *name, struct listing *l)
{
    char stored[256];
    if (is_acl(name))
        return add(l, name);
    if (!is_encrypted(name))
        return 0;
    int r = xattr_name_encrypt(&k->names, n->id, name, stored);
    return r == -ENAMETOOLONG ? 0 : r ? r : add(l, stored);
}

ssize_t attributes_list(struct view *v, const struct view_keys *k, const struct vnode *n, char *list,
                        size_t size)
{
    CLEANUP(place_clear) struct place p = {.fd = -1};
    struct listing l = {.list = list, .size = size};
    if (!can_have(n))
        return 0;
    int r = place_open(v, n, &p);
    if (r)
        return r == -ENODATA ? 0 : r;
    AUTO_FREE char *names = malloc(VALUE_MAX);
    ssize_t len = names ? listxattr(p.path, names, VALUE_MAX) : -1;
    if (len < 0)
        return !names ? -ENOMEM : errno == EOPNOTSUPP ? 0 : -errno;
    for (ssize_t at = 0; !r && at < len; at += (ssize_t)strlen(names + at) + 1)
        r = add_one(k, n, names + at, &l);
    return r ? r : (ssize_t)l.used;
}
