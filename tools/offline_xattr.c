#include "offline_xattr.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"

#include <errno.h>
#include <linux/limits.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

static int give(struct node *n, const char *name, char *value, int *broken,
                int (*fn)(void *, const char *, const void *, size_t), void *arg)
{
    ssize_t len = node_getxattr(n, name, value, XATTR_SIZE_MAX);
    if (len == -ENODATA)
        return 0;
    if (len < 0) {
        *broken = (int)len;
        return 0;
    }
    int r = fn(arg, name, value, (size_t)len);
    sodium_memzero(value, (size_t)len);
    return r;
}

/* Names that do not decrypt are left out of the list, and only counted. */
static uint64_t failures(struct volume *v)
{
    struct volume_stats st;
    volume_stats(v, &st);
    return st.auth_failures;
}

int offline_xattrs(struct volume *v, struct node *n, bool trusted,
                   int (*fn)(void *arg, const char *name, const void *value, size_t len), void *arg)
{
    AUTO_FREE char *list = malloc(XATTR_LIST_MAX), *value = malloc(XATTR_SIZE_MAX);
    int r = 0, broken = 0;
    if (!list || !value)
        return -ENOMEM;
    uint64_t before = failures(v);
    ssize_t len = node_listxattr(n, list, XATTR_LIST_MAX, trusted);
    if (len >= 0 && failures(v) != before)
        broken = LFS_ERR_AUTH;
    if (len == -EOPNOTSUPP)
        return 0;
    for (ssize_t at = 0; !r && at < len; at += (ssize_t)strlen(list + at) + 1)
        r = give(n, list + at, value, &broken, fn, arg);
    return r ? r : len < 0 ? (int)len : broken;
}
