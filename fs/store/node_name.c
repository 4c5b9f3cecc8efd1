/* The plaintext of a node's known name. */
#include "fs/store/pd.h"
#include "fs/store/tree.h"

#include <errno.h>
#include <string.h>

/* The stored name, while parent is where it is known. */
static int copy_stored(struct node *n, const struct node *parent, char stored[static NAME_CIPHER_MAX + 1])
{
    pthread_rwlock_rdlock(&n->vol->tree_lock);
    int r = n->parent == parent && strlen(n->stored) <= NAME_CIPHER_MAX ? 0 : -ESTALE;
    if (!r)
        strcpy(stored, n->stored);
    pthread_rwlock_unlock(&n->vol->tree_lock);
    return r;
}

static int read_long(struct node *dir, const char *stored, char encoded[static NAME_ENCODED_MAX + 1])
{
    int fd, r = node_fd_get(dir, false, &fd);
    if (r)
        return r;
    r = long_name_read(dir->vol, fd, stored, encoded);
    node_fd_put(dir);
    return r;
}

static int name_in(struct node *n, struct node *dir, char name[static NAME_PLAIN_MAX + 1])
{
    uint8_t id[ID_BYTES];
    char stored[NAME_CIPHER_MAX + 1], encoded[NAME_ENCODED_MAX + 1];
    int r = node_dir_id(dir, id);
    if (!r)
        r = copy_stored(n, dir, stored);
    if (!r && name_stored_kind(stored) == STORED_LONG)
        r = read_long(dir, stored, encoded);
    else if (!r)
        strcpy(encoded, stored);
    const struct pd_keys *keys = node_keys(dir);
    if (r || !keys)
        return r ? r : LFS_ERR_NOKEY;
    return name_decrypt(&keys->names, id, encoded, strlen(encoded), name);
}

int node_known_name(struct node *n, struct node **parent, char name[static NAME_PLAIN_MAX + 1])
{
    int r = node_enter_named(n, true);
    if (r)
        return r;
    struct node *dir = node_parent(n);
    r = dir ? name_in(n, dir, name) : -ESTALE;
    volume_leave(n->vol);
    if (r)
        node_unref(dir, 1);
    else
        *parent = dir;
    return r;
}
