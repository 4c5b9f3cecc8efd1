/* From a path of ciphertext to the node that it belongs to, and its plaintext path. */
#include "fs/store/pd.h"
#include "fs/store/tree.h"
#include "latchfs/symlink.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* ---- one name ---- */

struct link_search {
    int fd;
    const char *sidecar;
    char stored[NAME_CIPHER_MAX + 1];
};

/* 1: this link keeps its target there. */
static int is_link_of(const char *name, unsigned char type, void *arg)
{
    struct link_search *s = arg;
    struct stat st;
    char sidecar[LINK_SIDECAR_MAX];
    if ((type != DT_LNK && type != DT_UNKNOWN) || strlen(name) > NAME_CIPHER_MAX ||
        fstatat(s->fd, name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISLNK(st.st_mode))
        return 0;
    link_sidecar(s->fd, name, &st, sidecar);
    if (strcmp(sidecar, s->sidecar) != 0)
        return 0;
    strcpy(s->stored, name);
    return 1;
}

static int owner_of_link_sidecar(int fd, const char *name, char stored[static NAME_CIPHER_MAX + 1])
{
    struct link_search s = {.fd = fd, .sidecar = name};
    int r = dir_scan(fd, is_link_of, &s);
    if (r <= 0)
        return r ? r : -ENOENT;
    strcpy(stored, s.stored);
    return 0;
}

/* The entry that a stored name belongs to; "" for the directory itself. */
static int entry_of(int fd, const char *name, char stored[static NAME_CIPHER_MAX + 1])
{
    enum stored_kind kind = name_stored_kind(name);
    stored[0] = '\0';
    if (strcmp(name, DIRREC_NAME) == 0)
        return 0;
    if (symlink_is_sidecar(name, strlen(name)))
        return owner_of_link_sidecar(fd, name, stored);
    if (kind != STORED_NAME && kind != STORED_LONG && kind != STORED_LONG_SIDECAR)
        return -ENOENT;
    strcpy(stored, name);
    if (kind == STORED_LONG_SIDECAR)
        stored[strlen(name) - strlen(LONG_NAME_SUFFIX)] = '\0';
    return 0;
}

static int decrypt(struct node *dir, int fd, const uint8_t id[static ID_BYTES], const char *stored,
                   char plain[static NAME_PLAIN_MAX + 1])
{
    char encoded[NAME_ENCODED_MAX + 1], expect[NAME_CIPHER_MAX + 1];
    const struct pd_keys *keys = node_keys(dir);
    int r = keys ? 0 : LFS_ERR_NOKEY;
    if (!r && name_stored_kind(stored) == STORED_LONG) {
        r = long_name_read(dir->vol, fd, stored, encoded);
        if (!r)
            name_long_stored(encoded, strlen(encoded), expect);
        if (!r && strcmp(expect, stored) != 0)
            r = LFS_ERR_AUTH;
    } else if (!r) {
        strcpy(encoded, stored);
    }
    return r ? r : name_decrypt(&keys->names, id, encoded, strlen(encoded), plain);
}

static int plain_in(struct node *dir, const char *name, char plain[static NAME_PLAIN_MAX + 1])
{
    uint8_t id[ID_BYTES];
    char stored[NAME_CIPHER_MAX + 1];
    int fd, r = node_dir_enter(dir, id);
    if (!r)
        r = node_fd_get(dir, false, &fd);
    if (r)
        return r;
    r = entry_of(fd, name, stored);
    plain[0] = '\0';
    if (!r && stored[0])
        r = decrypt(dir, fd, id, stored, plain);
    node_fd_put(dir);
    return r;
}

/* "" for what belongs to dir itself. */
static int plain_name(struct node *dir, const char *name, char plain[static NAME_PLAIN_MAX + 1])
{
    int r = tree_begin(dir);
    if (r)
        return r;
    r = plain_in(dir, name, plain);
    volume_leave(dir->vol);
    return r;
}

/* ---- paths ---- */

struct found {
    struct node *at;     /* referenced */
    char path[PATH_MAX]; /* of at */
    bool gone;           /* the last name is of no entry that is there */
};

static int append(struct found *f, const char *plain)
{
    size_t used = strlen(f->path);
    int n = snprintf(f->path + used, sizeof f->path - used, "%s%s", used ? "/" : "", plain);
    return (size_t)n < sizeof f->path - used ? 0 : -ENAMETOOLONG;
}

static int step(struct found *f, const char *name, bool last)
{
    char plain[NAME_PLAIN_MAX + 1];
    struct node *next;
    struct stat st;
    if (!S_ISDIR(node_type(f->at)))
        return -ENOTDIR;
    int r = plain_name(f->at, name, plain);
    if (!r && !plain[0])
        return last ? 0 : -ENOTDIR;
    if (!r)
        r = append(f, plain);
    if (r)
        return r;
    r = node_lookup(f->at, plain, &st, &next);
    f->gone = r == -ENOENT && last;
    if (r)
        return f->gone ? 0 : r;
    node_unref(f->at, 1);
    f->at = next;
    return 0;
}

static int walk(struct found *f, const char *path)
{
    char name[NAME_CIPHER_MAX + 1];
    int r = 0;
    while (!r && *path) {
        size_t len = strcspn(path, "/");
        if (len > NAME_CIPHER_MAX)
            return -ENAMETOOLONG;
        memcpy(name, path, len);
        name[len] = '\0';
        path += len + (path[len] == '/');
        r = len ? step(f, name, !*path) : -EINVAL;
    }
    return r;
}

int volume_find_cipher(struct volume *v, const char *cipher_path, struct node **out, char *plain, size_t size)
{
    struct found f = {.at = volume_root(v)};
    node_ref(f.at);
    int r = walk(&f, cipher_path);
    if (!r && f.gone && out)
        r = -ENOENT;
    if (!r && strlen(f.path) >= size)
        r = -ENAMETOOLONG;
    if (!r)
        strcpy(plain, f.path);
    if (!r && out)
        *out = f.at;
    else
        node_unref(f.at, 1);
    return r;
}
