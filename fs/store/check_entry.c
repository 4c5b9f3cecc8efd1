/* What stands under a name: looked at under the lock of its directory, so that a mount's own changes are seen
 * whole or not at all. */
#include "fs/store/check_int.h"
#include "latchfs/io.h"
#include "latchfs/keystore.h"
#include "latchfs/symlink.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void hit(struct look *l, enum check_kind kind, int err)
{
    hits_add(&l->hits, kind, err);
}

/* Damage of what was read, or the system's own trouble. Gone things are none of both. */
static void hit_for(struct look *l, enum check_kind kind, int err)
{
    if (err == -ENOENT || err == -ESTALE)
        return;
    hit(l, err > -4096 ? CHECK_IO : kind, err);
}

/* ---- small files of ours ---- */

/* The text of a sidecar into text[max + 1]; its length. *kind is what is wrong with it. */
static ssize_t read_sidecar(struct look *l, const char *name, char *text, size_t max, enum check_kind *kind)
{
    struct stat st;
    *kind = CHECK_BAD_SIDECAR;
    if (fstatat(l->fd, name, &st, AT_SYMLINK_NOFOLLOW)) {
        *kind = errno == ENOENT ? CHECK_MISSING_SIDECAR : CHECK_IO;
        return errno == ENOENT ? LFS_ERR_CORRUPT : -errno;
    }
    if (!S_ISREG(st.st_mode)) {
        *kind = CHECK_FOREIGN_TYPE;
        return LFS_ERR_CORRUPT;
    }
    if (st.st_size < 1 || (uint64_t)st.st_size > max)
        return LFS_ERR_CORRUPT;
    AUTO_CLOSE int fd = fd_openat(l->c->v, l->fd, name, O_RDONLY | O_NONBLOCK, 0);
    ssize_t n = fd < 0 ? fd : io_pread(fd, text, max, 0);
    if (n < 0)
        *kind = CHECK_IO;
    else
        text[n] = '\0';
    return n;
}

/* ---- names ---- */

static void decrypt_name(struct look *l, const char *encoded)
{
    if (!l->keys)
        return;
    int r = name_decrypt(&l->keys->names, l->f->id, encoded, strlen(encoded), l->plain);
    l->plain_known = r == 0;
    if (r)
        hit(l, CHECK_UNDECRYPTABLE_NAME, r);
}

#define SIDECAR_NAME_MAX (NAME_CIPHER_MAX + sizeof LONG_NAME_SUFFIX)

static void look_long_name(struct look *l)
{
    char name[SIDECAR_NAME_MAX], encoded[NAME_ENCODED_MAX + 1], expect[NAME_CIPHER_MAX + 1];
    enum check_kind kind;
    snprintf(name, sizeof name, "%s" LONG_NAME_SUFFIX, l->name);
    ssize_t n = read_sidecar(l, name, encoded, NAME_ENCODED_MAX, &kind);
    if (n < 0) {
        hit(l, kind, (int)n);
        return;
    }
    name_long_stored(encoded, (size_t)n, expect);
    if (strlen(encoded) != (size_t)n || strcmp(expect, l->name) != 0)
        hit(l, CHECK_BAD_SIDECAR, LFS_ERR_CORRUPT);
    else
        decrypt_name(l, encoded);
}

/* A long name's sidecar: its entry must be there. */
static void look_name_sidecar(struct look *l)
{
    char entry[NAME_CIPHER_MAX + 1];
    struct stat st;
    size_t len = strlen(l->name) - strlen(LONG_NAME_SUFFIX);
    memcpy(entry, l->name, len);
    entry[len] = '\0';
    if (fstatat(l->fd, entry, &st, AT_SYMLINK_NOFOLLOW) && errno == ENOENT)
        hit(l, CHECK_ORPHAN_SIDECAR, 0);
}

/* ---- symbolic links ---- */

static bool is_b64(const char *text, size_t len)
{
    uint8_t blob[SYMLINK_BLOB_MAX + 8];
    size_t n;
    return symlink_plain_len(len) >= 0 && b64_decode(text, len, blob, &n) == 0;
}

static void open_target(struct look *l, const char *encoded, size_t len)
{
    char target[SYMLINK_PLAIN_MAX + 1];
    struct aead *a = thread_aead();
    if (!is_b64(encoded, len)) {
        hit(l, CHECK_BAD_LINK, LFS_ERR_CORRUPT);
        return;
    }
    if (!l->keys || !a)
        return;
    int r = symlink_decrypt(a, l->c->v->suite, &l->keys->names, l->f->id, encoded, len, target);
    aead_clear_key(a);
    sodium_memzero(target, sizeof target);
    if (r)
        hit(l, CHECK_BAD_LINK, r);
}

void check_link(struct look *l)
{
    char encoded[SYMLINK_ENCODED_MAX + 1], name[LINK_SIDECAR_MAX];
    enum check_kind kind;
    ssize_t n = readlinkat(l->fd, l->name, encoded, SYMLINK_ENCODED_MAX);
    if (n < 0) {
        hit_for(l, CHECK_IO, -errno);
        return;
    }
    if (symlink_is_sidecar(encoded, (size_t)n)) {
        memcpy(name, encoded, (size_t)n);
        name[n] = '\0';
        n = read_sidecar(l, name, encoded, SYMLINK_ENCODED_MAX, &kind);
        if (n < 0) {
            hit(l, kind, (int)n);
            return;
        }
    }
    open_target(l, encoded, (size_t)n);
}

/* The random part of a sidecar's name, as an id. */
static bool link_id(const char *name, size_t len, struct id_seen *out)
{
    *out = (struct id_seen){0};
    return symlink_is_sidecar(name, len) && id_from_hex(name + strlen(LONG_LINK_PREFIX), out->id);
}

static int note_link(const char *name, unsigned char type, void *arg)
{
    struct look *l = arg;
    char text[LINK_SIDECAR_MAX];
    struct id_seen seen;
    ssize_t n = type == DT_LNK || type == DT_UNKNOWN ? readlinkat(l->fd, name, text, sizeof text) : -1;
    if (n > 0 && (size_t)n < sizeof text && (text[n] = '\0', link_id(text, (size_t)n, &seen)))
        id_set_add(&l->f->links, &seen);
    return 0;
}

/* A scan has its own descriptor: it moves the position. */
static int scan_links(struct look *l)
{
    AUTO_CLOSE int own = fd_openat(l->c->v, l->fd, ".", O_RDONLY | O_DIRECTORY, 0);
    id_set_clear(&l->f->links);
    return own < 0 ? own : dir_scan(own, note_link, l);
}

/* A link's sidecar: some link here must name it. What is not in a set that may be old is looked for again. */
static void look_link_sidecar(struct look *l)
{
    struct id_seen seen;
    int r = 0;
    if (!link_id(l->name, strlen(l->name), &seen))
        return;
    for (int i = l->f->links_known; !r && i < 2 && !id_set_has(&l->f->links, seen.id); i++)
        r = scan_links(l);
    l->f->links_known = !r;
    if (r)
        hit_for(l, CHECK_IO, r);
    else if (!id_set_has(&l->f->links, seen.id))
        hit(l, CHECK_ORPHAN_SIDECAR, 0);
}

/* ---- by kind ---- */

static void look_dir(struct look *l)
{
    check_record(l, l->n, l->f->id_known ? l->f->id : NULL, l->name);
}

/* An entry with a name. */
static int look_named(struct look *l, bool is_long)
{
    int r = 0;
    if (is_long)
        look_long_name(l);
    else
        decrypt_name(l, l->name);
    if (S_ISDIR(l->st.st_mode) || S_ISREG(l->st.st_mode))
        r = node_obtain(l->f->n, &l->st, l->name, &l->n);
    if (r == LFS_ERR_AUTH || r == LFS_ERR_CORRUPT || r == LFS_ERR_NOKEY) {
        hit(l, S_ISDIR(l->st.st_mode) ? CHECK_BAD_RECORD : CHECK_WRONG_DIRECTORY, LFS_ERR_AUTH);
        return 0;
    }
    if (r)
        return r;
    if (S_ISDIR(l->st.st_mode))
        look_dir(l);
    else if (S_ISLNK(l->st.st_mode))
        check_link(l);
    return 0;
}

/* Looked at elsewhere: a record with its directory, the root's own files first of all, and not at all what a
 * repair has put away. */
static bool is_known(const struct look *l)
{
    static const char *const own[] = {KEYSTORE_NAME, KEYSTORE_BAK_NAME, JOURNAL_NAME, BURIED_NAME};
    if (strcmp(l->name, DIRREC_NAME) == 0)
        return true;
    for (size_t i = 0; l->f->n == l->c->v->root && i < sizeof own / sizeof own[0]; i++)
        if (strcmp(l->name, own[i]) == 0)
            return true;
    return false;
}

static void look_reserved(struct look *l)
{
    if (is_known(l))
        return;
    if (!S_ISREG(l->st.st_mode))
        hit(l, CHECK_FOREIGN_TYPE, 0);
    else if (strncmp(l->name, LONG_LINK_PREFIX, strlen(LONG_LINK_PREFIX)) == 0)
        look_link_sidecar(l);
    else
        hit(l, CHECK_BAD_NAME, 0);
}

static int look_kind(struct look *l)
{
    const struct volume *v = l->c->v;
    switch (name_stored_kind(l->name)) {
    case STORED_NAME:
        return look_named(l, false);
    case STORED_LONG:
        return look_named(l, true);
    case STORED_LONG_SIDECAR:
        if (S_ISREG(l->st.st_mode))
            look_name_sidecar(l);
        else
            hit(l, CHECK_FOREIGN_TYPE, 0);
        return 0;
    case STORED_TMP:
        if (!tmp_is_ours(v, l->name))
            hit(l, CHECK_LEFTOVER, 0);
        return 0;
    case STORED_OURS:
        look_reserved(l);
        return 0;
    default:
        hit(l, CHECK_BAD_NAME, 0);
        return 0;
    }
}

static int look_locked(struct look *l)
{
    if (fstatat(l->fd, l->name, &l->st, AT_SYMLINK_NOFOLLOW)) {
        if (errno == ENOENT || errno == ENOTDIR)
            return -errno;
        hit(l, CHECK_IO, -errno);
        return 0;
    }
    /* A directory may have become a protected one since the walk came into it. */
    if (l->f->keyed)
        l->keys = node_keys(l->f->n);
    return look_kind(l);
}

int check_entry(struct look *l)
{
    struct volume *v = l->c->v;
    int r = volume_enter(v, false);
    if (r)
        return r;
    r = node_fd_get(l->f->n, false, &l->fd);
    if (!r) {
        dir_rdlock(l->f->n);
        r = look_locked(l);
        dir_unlock(l->f->n);
        node_fd_put(l->f->n);
    }
    if (!r)
        check_dir_attributes(l);
    volume_leave(v);
    return r;
}
