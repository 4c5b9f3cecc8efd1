/* Extended attributes: encrypted ones of files and directories, and POSIX ACLs passed through. */
#include "fs/store/tree.h"
#include "latchfs/xattr.h"

#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

#define VALUE_MAX 65536u /* of the system, stored form included */

static bool is_prefix(const char *name, const char *prefix)
{
    size_t len = strlen(prefix);
    return strncmp(name, prefix, len) == 0 && name[len] != '\0';
}

static bool is_acl(const char *name)
{
    return strcmp(name, "system.posix_acl_access") == 0 || strcmp(name, "system.posix_acl_default") == 0;
}

static bool is_encrypted(const char *name)
{
    return is_prefix(name, "user.") || is_prefix(name, "trusted.") || is_prefix(name, "security.");
}

static bool can_have(const struct node *n)
{
    return S_ISREG(n->type) || S_ISDIR(n->type);
}

/* ---- whose attributes they are ---- */

/* Locked memory: keys. */
struct owner {
    const struct pd_keys *pd;
    struct file_xattr_keys keys; /* of a directory: one, of epoch 1 */
    struct file *held;           /* a file stays locked as long as its keys are in use; NULL: a directory */
};

static struct xattr_owner binding(const struct node *n, const struct owner *o, int key)
{
    return (struct xattr_owner){
        .kind = S_ISDIR(n->type) ? KIND_DIR_XATTR : KIND_XATTR,
        .suite = n->vol->suite,
        .epoch = o->keys.k[key].epoch,
        .id = o->keys.id,
    };
}

static int owner_load(struct node *n, bool writing, struct owner *o)
{
    int r = S_ISDIR(n->type) ? node_dir_id(n, o->keys.id) : file_xattr_begin(n, writing, &o->keys, &o->held);
    o->pd = node_keys(n);
    if (!r && !o->pd)
        r = LFS_ERR_NOKEY;
    if (!r && S_ISDIR(n->type)) {
        o->keys.count = 1;
        o->keys.k[0].epoch = 1;
        memcpy(o->keys.k[0].key, o->pd->names.xattr, LFS_KEY_BYTES);
    }
    return r;
}

/* Attributes belong to the name as far as ACLs go; owner_load asks for the rest. The keys of a directory's
 * attributes change when it becomes a protected one, which locks it for writing. */
static int begin(struct node *n, bool change)
{
    int r = node_enter_named(n, false);
    if (!r && change && (r = volume_check_writable(n->vol)) != 0)
        volume_leave(n->vol);
    if (!r && S_ISDIR(n->type))
        dir_rdlock(n);
    return r;
}

static int end(struct node *n, int r)
{
    if (S_ISDIR(n->type))
        dir_unlock(n);
    return tree_end(n->vol, r);
}

static void owner_freep(struct owner **o)
{
    if (*o && (*o)->held)
        file_xattr_end((*o)->held);
    locked_free(*o);
}

/* ---- reading ---- */

/* Most files have no attribute of ours, and the header need not be read to know that. */
static bool has_none(int fd)
{
    char list[1024];
    ssize_t n = flistxattr(fd, list, sizeof list);
    for (ssize_t at = 0; at < n; at += (ssize_t)strlen(list + at) + 1)
        if (strncmp(list + at, XATTR_STORED_PREFIX, sizeof XATTR_STORED_PREFIX - 1) == 0)
            return false;
    return n >= 0;
}

static ssize_t open_value(struct node *n, const char *name, const uint8_t *stored, size_t len,
                          const struct owner *o, uint8_t *value)
{
    struct aead *a = thread_aead();
    int i = 0, epoch = xattr_value_epoch(stored, len);
    if (!a)
        return -ENOMEM;
    while (i < o->keys.count && o->keys.k[i].epoch != epoch)
        i++;
    if (i == o->keys.count)
        return LFS_ERR_CORRUPT;
    struct xattr_owner b = binding(n, o, i);
    int r = aead_set_key(a, n->vol->suite, o->keys.k[i].key);
    if (!r)
        r = xattr_value_open(a, &b, name, stored, len, value);
    aead_clear_key(a);
    return r ? r : (ssize_t)(len - XATTR_OVERHEAD);
}

static ssize_t get_stored(struct node *n, int fd, const char *name, const struct owner *o, uint8_t *value,
                          size_t size)
{
    char stored_name[256];
    uint8_t *stored = thread_scratch();
    int r = xattr_name_encrypt(&o->pd->names, o->keys.id, name, stored_name);
    if (r)
        return r == -ENAMETOOLONG ? -ENODATA : r;
    if (!stored)
        return -ENOMEM;
    ssize_t len = fgetxattr(fd, stored_name, stored, VALUE_MAX);
    r = len < 0 ? -errno : xattr_value_epoch(stored, (size_t)len);
    if (r < 0)
        return r;
    if (size == 0)
        return len - (ssize_t)XATTR_OVERHEAD;
    if ((size_t)len - XATTR_OVERHEAD > size)
        return -ERANGE;
    return open_value(n, name, stored, (size_t)len, o, value);
}

static ssize_t get_encrypted(struct node *n, int fd, const char *name, void *value, size_t size)
{
    if (n->bare || has_none(fd))
        return -ENODATA;
    CLEANUP(owner_freep) struct owner *o = locked_alloc(sizeof *o);
    int r = o ? owner_load(n, false, o) : -ENOMEM;
    return r ? r : get_stored(n, fd, name, o, value, size);
}

static ssize_t get(struct node *n, const char *name, void *value, size_t size)
{
    int fd, r = node_fd_get(n, false, &fd);
    if (r)
        return r;
    ssize_t got;
    if (is_acl(name)) {
        got = fgetxattr(fd, name, value, size);
        got = got < 0 ? -errno : got;
    } else {
        got = get_encrypted(n, fd, name, value, size);
    }
    node_fd_put(n);
    return got;
}

ssize_t node_getxattr(struct node *n, const char *name, void *value, size_t size)
{
    if (!is_acl(name) && !is_encrypted(name))
        return -EOPNOTSUPP;
    if (!can_have(n))
        return -ENODATA;
    int r = begin(n, false);
    if (r)
        return r;
    ssize_t got = get(n, name, value, size);
    r = end(n, got < 0 ? (int)got : 0);
    return r ? r : got;
}

/* ---- changing ---- */

static int set_sealed(struct node *n, int fd, const char *name, const void *value, size_t size, int flags,
                      struct owner *o)
{
    char stored_name[256];
    uint8_t *stored = thread_scratch();
    struct aead *a = thread_aead();
    struct xattr_owner b = binding(n, o, 0);
    if (!a || !stored)
        return -ENOMEM;
    int r = xattr_name_encrypt(&o->pd->names, o->keys.id, name, stored_name);
    if (!r)
        r = aead_set_key(a, n->vol->suite, o->keys.k[0].key);
    if (!r)
        r = xattr_value_seal(a, &b, name, value, size, stored);
    aead_clear_key(a);
    n->bare = false;
    if (!r && fsetxattr(fd, stored_name, stored, size + XATTR_OVERHEAD, flags))
        r = -errno;
    return r;
}

static int set(struct node *n, const char *name, const void *value, size_t size, int flags)
{
    if (size > VALUE_MAX - XATTR_OVERHEAD && !is_acl(name))
        return -ENOSPC;
    CLEANUP(owner_freep) struct owner *o = locked_alloc(sizeof *o);
    int fd, r = !o ? -ENOMEM : is_acl(name) ? 0 : owner_load(n, true, o);
    if (!r)
        r = node_fd_get(n, false, &fd);
    if (r)
        return r;
    if (is_acl(name))
        r = fsetxattr(fd, name, value, size, flags) ? -errno : 0;
    else
        r = set_sealed(n, fd, name, value, size, flags, o);
    node_fd_put(n);
    if (!r)
        n->meta_dirty = true;
    return r;
}

int node_setxattr(struct node *n, const char *name, const void *value, size_t size, int flags)
{
    if (!can_have(n) || (!is_acl(name) && !is_encrypted(name)))
        return -EOPNOTSUPP;
    VOLUME_CHANGE(n->vol);
    int r = begin(n, true);
    return r ? r : end(n, set(n, name, value, size, flags));
}

static int remove_encrypted(struct node *n, int fd, const char *name)
{
    char stored_name[256];
    if (has_none(fd))
        return -ENODATA;
    CLEANUP(owner_freep) struct owner *o = locked_alloc(sizeof *o);
    int r = o ? owner_load(n, false, o) : -ENOMEM;
    if (!r)
        r = xattr_name_encrypt(&o->pd->names, o->keys.id, name, stored_name);
    if (!r && fremovexattr(fd, stored_name))
        r = -errno;
    return r == -ENAMETOOLONG ? -ENODATA : r;
}

static int remove_attr(struct node *n, const char *name)
{
    int fd, r = node_fd_get(n, false, &fd);
    if (r)
        return r;
    if (is_acl(name))
        r = fremovexattr(fd, name) ? -errno : 0;
    else
        r = remove_encrypted(n, fd, name);
    node_fd_put(n);
    if (!r)
        n->meta_dirty = true;
    return r;
}

int node_removexattr(struct node *n, const char *name)
{
    if (!can_have(n) || (!is_acl(name) && !is_encrypted(name)))
        return -EOPNOTSUPP;
    VOLUME_CHANGE(n->vol);
    int r = begin(n, true);
    return r ? r : end(n, remove_attr(n, name));
}

/* ---- listing ---- */

struct listing {
    char *list;
    size_t size, used;
    bool with_trusted;
};

static int list_add(struct listing *l, const char *name)
{
    size_t len = strlen(name) + 1;
    if (!l->with_trusted && is_prefix(name, "trusted."))
        return 0;
    if (l->size > 0 && len > l->size - l->used)
        return -ERANGE;
    if (l->size > 0)
        memcpy(l->list + l->used, name, len);
    l->used += len;
    return 0;
}

/* Names that do not decrypt are counted and left out. */
static int list_one(struct node *n, const char *stored, const struct owner *o, struct listing *l)
{
    char name[XATTR_PLAIN_MAX + 1];
    if (is_acl(stored))
        return list_add(l, stored);
    if (!o || strncmp(stored, XATTR_STORED_PREFIX, sizeof XATTR_STORED_PREFIX - 1) != 0)
        return 0;
    int r = xattr_name_decrypt(&o->pd->names, o->keys.id, stored, name);
    if (r == LFS_ERR_AUTH || r == LFS_ERR_CORRUPT) {
        volume_note(n->vol, r);
        return 0;
    }
    return r ? r : list_add(l, name);
}

static int list_all(struct node *n, int fd, struct listing *l)
{
    CLEANUP(owner_freep) struct owner *o = locked_alloc(sizeof *o);
    int r = o ? 0 : -ENOMEM;
    bool none = has_none(fd);
    if (!r && !none)
        r = owner_load(n, false, o);
    /* Of a locked directory whose own name can be seen, the rest is shown. */
    if (r == -ENODATA || (r == LFS_ERR_NOKEY && S_ISDIR(n->type))) {
        none = true;
        r = 0;
    }
    char *stored = (char *)thread_scratch();
    if (r || !stored)
        return r ? r : -ENOMEM;
    ssize_t len = flistxattr(fd, stored, SCRATCH_BYTES);
    if (len < 0)
        return -errno;
    for (ssize_t at = 0; !r && at < len; at += (ssize_t)strlen(stored + at) + 1)
        r = list_one(n, stored + at, none ? NULL : o, l);
    return r;
}

static int list_node(struct node *n, struct listing *l)
{
    int fd, r = node_fd_get(n, false, &fd);
    if (r)
        return r;
    r = list_all(n, fd, l);
    node_fd_put(n);
    return r;
}

ssize_t node_listxattr(struct node *n, char *list, size_t size, bool with_trusted)
{
    struct listing l = {.list = list, .size = size, .with_trusted = with_trusted};
    if (!can_have(n))
        return 0;
    int r = begin(n, false);
    if (r)
        return r;
    r = end(n, list_node(n, &l));
    return r ? r : (ssize_t)l.used;
}
