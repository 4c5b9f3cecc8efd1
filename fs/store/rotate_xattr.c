/* A file's attributes under its newest key. */
#include "fs/store/file.h"
#include "fs/store/tree.h"

#include "latchfs/xattr.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#define LIST_MAX 65536u  /* of the system */
#define VALUE_MAX 65536u /* the same */

/* Parts of the scratch buffer. */
struct xattr_room {
    char *names;
    uint8_t *old, *plain, *fresh;
};

/* For user attributes the kernel looks at the permission bits, whoever has the descriptor. */
static int replace_granted(struct node *n, int fd, const char *stored, const uint8_t *value, size_t len)
{
    struct stat st;
    int r = -EACCES;
    fd_grant_lock(n->vol);
    if (!fstat(fd, &st) && st.st_uid == geteuid() && !fchmod(fd, (st.st_mode & 07777) | S_IWUSR)) {
        r = fsetxattr(fd, stored, value, len, XATTR_REPLACE) ? -errno : 0;
        if (fchmod(fd, st.st_mode & 07777) && !r)
            r = -errno;
    }
    fd_grant_unlock(n->vol);
    return r;
}

static int replace(struct node *n, int fd, const char *stored, const uint8_t *value, size_t len)
{
    int r = fsetxattr(fd, stored, value, len, XATTR_REPLACE) ? -errno : 0;
    if (r == -EACCES)
        r = replace_granted(n, fd, stored, value, len);
    return r == -ENODATA ? 0 : r; /* removed meanwhile */
}

static int key_of(const struct file *f, int epoch)
{
    int i = 0;
    while (i < f->keys->count && f->keys->k[i].epoch != epoch)
        i++;
    return i < f->keys->count ? i : LFS_ERR_CORRUPT;
}

static int seal_again(struct file *f, int key, const char *name, const struct xattr_room *m, size_t len)
{
    struct aead *a = thread_aead();
    struct xattr_owner o = {KIND_XATTR, f->hdr.suite, f->keys->k[key].epoch, f->hdr.file_id};
    size_t plain_len = len - XATTR_OVERHEAD;
    int r = a ? aead_set_key(a, f->hdr.suite, f->keys->k[key].xattr) : -ENOMEM;
    if (!r)
        r = xattr_value_open(a, &o, name, m->old, len, m->plain);
    o.epoch = f->keys->k[0].epoch;
    if (!r)
        r = aead_set_key(a, f->hdr.suite, f->keys->k[0].xattr);
    if (!r)
        r = xattr_value_seal(a, &o, name, m->plain, plain_len, m->fresh);
    sodium_memzero(m->plain, plain_len);
    thread_forget_key();
    return r;
}

static int rekey_one(struct file *f, int fd, const char *stored, const struct xattr_room *m)
{
    char name[XATTR_PLAIN_MAX + 1];
    ssize_t len = fgetxattr(fd, stored, m->old, VALUE_MAX);
    if (len < 0)
        return errno == ENODATA ? 0 : -errno;
    int epoch = xattr_value_epoch(m->old, (size_t)len);
    int key = epoch < 0 ? epoch : key_of(f, epoch);
    if (key <= 0)
        return key; /* 0: it is the newest */
    const struct pd_keys *pd = node_keys(f->n);
    int r = pd ? xattr_name_decrypt(&pd->names, f->hdr.file_id, stored, name) : LFS_ERR_NOKEY;
    if (!r)
        r = seal_again(f, key, name, m, (size_t)len);
    sodium_memzero(name, sizeof name);
    return r ? r : replace(f->n, fd, stored, m->fresh, (size_t)len);
}

/* One that is damaged does not keep the others under the old key. */
static int rekey_all(struct file *f, int fd)
{
    struct xattr_room m;
    uint8_t *buf = thread_scratch();
    if (!buf)
        return -ENOMEM;
    m = (struct xattr_room){(char *)buf, buf + LIST_MAX, buf + LIST_MAX + VALUE_MAX,
                            buf + LIST_MAX + 2 * (size_t)VALUE_MAX};
    ssize_t len = flistxattr(fd, m.names, LIST_MAX);
    int r = len < 0 && errno != EOPNOTSUPP ? -errno : 0;
    for (ssize_t at = 0; at < len; at += (ssize_t)strlen(m.names + at) + 1) {
        if (strncmp(m.names + at, XATTR_STORED_PREFIX, sizeof XATTR_STORED_PREFIX - 1) != 0)
            continue;
        int e = rekey_one(f, fd, m.names + at, &m);
        f->n->meta_dirty = true;
        r = r ? r : e;
    }
    return r;
}

int node_rekey_xattrs(struct node *n)
{
    struct file *f;
    int fd, r = file_get(n, &f);
    if (r)
        return r;
    r = file_lock_write(f); /* who sets one holds it for reading */
    if (!r) {
        if (file_has_two_keys(f) && !(r = file_key_durable(f)) && !(r = node_fd_get(n, true, &fd))) {
            r = rekey_all(f, fd);
            node_fd_put(n);
        }
        file_unlock(f);
    }
    file_put(f);
    return r;
}
