/* Extended attributes: each name and value must be what its owner's keys made. */
#include "fs/store/check_int.h"
#include "latchfs/xattr.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <sys/xattr.h>

#define VALUE_MAX 65536u /* of the system; a list too */

static int open_value(const struct check *c, const char *name, const uint8_t *stored, size_t len,
                      const struct file_xattr_keys *k, enum content_kind kind, uint8_t *plain)
{
    struct aead *a = thread_aead();
    int i = 0, epoch = xattr_value_epoch(stored, len);
    while (i < k->count && k->k[i].epoch != epoch)
        i++;
    if (epoch < 0 || i == k->count)
        return epoch < 0 ? epoch : LFS_ERR_AUTH;
    if (!a)
        return -ENOMEM;
    struct xattr_owner owner = {(uint8_t)kind, c->v->suite, k->k[i].epoch, k->id};
    int r = aead_set_key(a, c->v->suite, k->k[i].key);
    if (!r)
        r = xattr_value_open(a, &owner, name, stored, len, plain);
    aead_clear_key(a);
    sodium_memzero(plain, len);
    return r;
}

/* 0 also for one that was removed meanwhile. buf has room for value and plaintext. */
static int check_one(const struct check *c, int fd, const char *stored, const struct pd_keys *keys,
                     const struct file_xattr_keys *k, enum content_kind kind, uint8_t *buf)
{
    char name[XATTR_PLAIN_MAX + 1];
    int r = xattr_name_decrypt(&keys->names, k->id, stored, name);
    if (r)
        return r;
    ssize_t len = fgetxattr(fd, stored, buf, VALUE_MAX);
    if (len < 0)
        return errno == ENODATA ? 0 : -errno;
    return open_value(c, name, buf, (size_t)len, k, kind, buf + VALUE_MAX);
}

void check_xattrs(struct check *c, int fd, const struct pd_keys *keys, const struct file_xattr_keys *k,
                  enum content_kind kind, struct hits *h)
{
    char *list = (char *)thread_scratch();
    ssize_t len = list ? flistxattr(fd, list, VALUE_MAX) : -1;
    if (len < 0) {
        if (list && errno != EOPNOTSUPP && errno != EBADF) /* EBADF: only a path */
            hits_add(h, CHECK_IO, -errno);
        return;
    }
    for (ssize_t at = 0; at < len; at += (ssize_t)strlen(list + at) + 1) {
        if (strncmp(list + at, XATTR_STORED_PREFIX, sizeof XATTR_STORED_PREFIX - 1) != 0)
            continue;
        int r = check_one(c, fd, list + at, keys, k, kind, (uint8_t *)list + VALUE_MAX);
        if (r) { /* one finding for all of an owner: their names can't be told */
            hits_add(h, r > -4096 ? CHECK_IO : CHECK_BAD_XATTR, r);
            return;
        }
    }
}
