#include "fs/mount/control_path.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int control_walk(struct daemon *d, const char *path, struct node **out)
{
    struct node *at = volume_root(d->vol), *next;
    char name[NAME_PLAIN_MAX + 1];
    struct stat st;
    node_ref(at);
    for (size_t len; *path; path += len + (path[len] == '/')) {
        len = strcspn(path, "/");
        snprintf(name, sizeof name, "%.*s", (int)len, path);
        int r = S_ISDIR(node_type(at)) ? node_lookup(at, name, &st, &next) : -ENOTDIR;
        node_unref(at, 1);
        if (r)
            return r;
        at = next;
    }
    *out = at;
    return 0;
}

int control_cipher_path(struct daemon *d, const char *plain, char *out)
{
    struct node *n;
    int r = control_walk(d, plain, &n);
    if (r)
        return r;
    r = node_cipher_path(n, out, PATH_MAX);
    node_unref(n, 1);
    return r;
}

int control_plain_path(struct daemon *d, const char *cipher, char *out)
{
    return volume_find_cipher(d->vol, cipher, NULL, out, PATH_MAX);
}
