#include "fs/view/entries.h"

#include "fs/view/content.h"
#include "fs/view/source.h"
#include "fs/view/walk.h"
#include "latchfs/buf.h"
#include "latchfs/dirrec.h"
#include "latchfs/err.h"
#include "latchfs/symlink.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Some file systems take no longer target than this (XFS: 1023), and the view does not know where a copy of
 * it will stand. */
#define LINK_STORED_MAX 1023u
#define SIV_BYTES 16u

static size_t b64_length(size_t n)
{
    return (n * 4 + 2) / 3;
}

bool link_is_long(size_t target_len)
{
    return b64_length(target_len + SYMLINK_OVERHEAD) > LINK_STORED_MAX;
}

size_t link_stored_length(size_t target_len)
{
    return link_is_long(target_len) ? strlen(LONG_LINK_PREFIX) + 2 * ID_BYTES
                                    : b64_length(target_len + SYMLINK_OVERHEAD);
}

void linkcar_name(const struct view_keys *k, const uint8_t dir_id[static ID_BYTES], const char *name,
                  char out[static LINKCAR_NAME_MAX])
{
    uint8_t id[ID_BYTES];
    int at = snprintf(out, LINKCAR_NAME_MAX, LONG_LINK_PREFIX);
    view_id(k, VIEW_ID_LINKCAR, dir_id, name, id);
    for (size_t i = 0; i < ID_BYTES; i++)
        at += snprintf(out + at, LINKCAR_NAME_MAX - (size_t)at, "%02x", id[i]);
}

static bool name_is_long(const char *name)
{
    return b64_length(SIV_BYTES + strlen(name)) > NAME_CIPHER_MAX;
}

/* ---- attributes ---- */

/* Files that follow from the path and the keys alone: their time is that of the key store, so that nobody
 * reads them again when the directory changes. Whoever may read the directory may read them. */
static void make_helper(const struct view *v, const struct stat *dir, uint64_t size, struct stat *st)
{
    struct stat made = {.st_mode = S_IFREG | 0600 | (dir->st_mode & 0044),
                        .st_uid = dir->st_uid,
                        .st_gid = dir->st_gid,
                        .st_nlink = 1,
                        .st_size = (off_t)size,
                        .st_blocks = 8};
    made.st_atim.tv_sec = made.st_mtim.tv_sec = made.st_ctim.tv_sec = v->created;
    *st = made;
}

size_t link_target_length(int dirfd, const char *name, const struct stat *st)
{
    char target[SYMLINK_PLAIN_MAX + 1];
    if (st->st_size > 0)
        return (size_t)st->st_size;
    ssize_t n = readlinkat(dirfd, name, target, sizeof target);
    return n > 0 ? (size_t)n : 0;
}

/* What kind and name say in the directory dirfd. */
static int see(const struct view *v, int dirfd, enum vkind kind, const char *name, struct sight *out)
{
    struct stat dir;
    int r = 0;
    *out = (struct sight){0};
    if (kind == V_KEYSTORE)
        return stat(v->config, &out->st) ? -errno : 0;
    if (kind != V_DIRREC && kind != V_NAMECAR && kind != V_JOURNAL) {
        r = source_stat(v, dirfd, name, &out->st);
        if (!r && S_ISLNK(out->st.st_mode))
            out->target_len = link_target_length(dirfd, name, &out->st);
        return r;
    }
    if (fstat(dirfd, &dir))
        return -errno;
    make_helper(v, &dir,
                kind == V_DIRREC    ? DIRREC_BYTES
                : kind == V_JOURNAL ? JOURNAL_RING_AT
                                    : b64_length(SIV_BYTES + strlen(name)),
                &out->st);
    return 0;
}

static bool type_fits(enum vkind kind, mode_t mode)
{
    return kind == V_LINKCAR ? S_ISLNK(mode) : kind > V_SPECIAL || vkind_of_mode(mode) == kind;
}

void entry_show(struct vnode *n, const struct sight *seen, struct stat *st)
{
    *st = seen->st;
    st->st_ino = vnode_ino(n);
    st->st_nlink = 1; /* other names of the file are files of their own here */
    if (n->kind == V_FILE) {
        uint64_t size = vnode_size(n, (uint64_t)st->st_size), length = content_length(size);
        st->st_blocks += (blkcnt_t)((length - size) / 512);
        st->st_size = (off_t)length;
    } else if (n->kind == V_LINK) {
        st->st_size = (off_t)link_stored_length(seen->target_len);
    } else if (n->kind == V_LINKCAR) {
        st->st_size = (off_t)b64_length(seen->target_len + SYMLINK_OVERHEAD);
        st->st_mode = S_IFREG | 0644;
    } else if (n->kind <= V_SPECIAL) {
        st->st_size = 0;
    }
}

int entry_stat(struct view *v, struct vnode *n, struct stat *st)
{
    struct sight seen = {0};
    AUTO_CLOSE int dirfd = source_open(v, n->parent ? n->parent : n, O_PATH | O_DIRECTORY);
    if (dirfd < 0)
        return dirfd;
    int r = n->parent ? see(v, dirfd, n->kind, n->name, &seen) : fstat(dirfd, &seen.st) ? -errno : 0;
    if (!r && !type_fits(n->kind, seen.st.st_mode))
        r = -ESTALE;
    if (!r)
        entry_show(n, &seen, st);
    return r;
}

/* ---- from stored to plain ---- */

/* By a look at every long name of the directory; what is seen on the way is noted. */
static int find_long(struct view *v, const struct view_keys *k, const struct vnode *dir, const char *stored,
                     char plain[static NAME_PLAIN_MAX + 1])
{
    CLEANUP(walk_clear) struct walk w = {0};
    if (longnames_find(v->longnames, dir->id, stored, plain))
        return 0;
    struct cipher_name cn;
    int r = walk_begin(v, dir, &w), found = -ENOENT;
    while (!r && (r = walk_next(&w)) == 1) {
        r = 0;
        if (!name_is_long(w.at->d_name) || name_encrypt(&k->names, dir->id, w.at->d_name, &cn))
            continue;
        longnames_note(v->longnames, dir->id, cn.stored, w.at->d_name);
        if (strcmp(cn.stored, stored) == 0) {
            strcpy(plain, w.at->d_name);
            found = 0;
        }
    }
    return r ? r : found;
}

static int find_linkcar(struct view *v, const struct view_keys *k, const struct vnode *dir,
                        const char *stored, char plain[static NAME_PLAIN_MAX + 1])
{
    CLEANUP(walk_clear) struct walk w = {0};
    char sidecar[LINKCAR_NAME_MAX];
    int r = walk_begin(v, dir, &w);
    while (!r && (r = walk_next(&w)) == 1) {
        r = 0;
        if ((w.at->d_type != DT_LNK && w.at->d_type != DT_UNKNOWN) || strlen(w.at->d_name) > NAME_PLAIN_MAX)
            continue;
        linkcar_name(k, dir->id, w.at->d_name, sidecar);
        if (strcmp(sidecar, stored) == 0) {
            strcpy(plain, w.at->d_name);
            return 0;
        }
    }
    return r ? r : -ENOENT;
}

static bool begins(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

/* The plain name, and what kind of file beside the plain one is meant, or V_FILE: the plain one itself,
 * whatever it is. */
static int resolve(struct view *v, const struct view_keys *k, const struct vnode *dir, const char *stored,
                   enum vkind *kind, char plain[static NAME_PLAIN_MAX + 1])
{
    char name[NAME_CIPHER_MAX + 1];
    plain[0] = '\0';
    *kind = V_FILE;
    switch (name_stored_kind(stored)) {
    case STORED_NAME:
        return name_decrypt(&k->names, dir->id, stored, strlen(stored), plain) ? -ENOENT : 0;
    case STORED_LONG:
        return find_long(v, k, dir, stored, plain);
    case STORED_LONG_SIDECAR:
        *kind = V_NAMECAR;
        snprintf(name, sizeof name, "%.*s", (int)(strlen(stored) - strlen(LONG_NAME_SUFFIX)), stored);
        return find_long(v, k, dir, name, plain);
    case STORED_OURS:
        *kind = begins(stored, LONG_LINK_PREFIX)                     ? V_LINKCAR
                : strcmp(stored, DIRREC_NAME) == 0                   ? V_DIRREC
                : strcmp(stored, KEYSTORE_NAME) == 0 && !dir->parent ? V_KEYSTORE
                : strcmp(stored, JOURNAL_NAME) == 0 && !dir->parent  ? V_JOURNAL
                                                                     : V_FILE;
        if (*kind == V_LINKCAR)
            return find_linkcar(v, k, dir, stored, plain);
        return *kind == V_FILE ? -ENOENT : 0;
    default:
        return -ENOENT;
    }
}

/* What stands at the plain name: e->kind V_FILE becomes what it is. */
static int take_plain(struct view *v, const struct vnode *dir, int dirfd, struct entry *e)
{
    struct sight plain;
    if (source_is_foreign(v, dirfd))
        return -ENOENT;
    int r = see(v, dirfd, V_FILE, e->name, &plain);
    if (r)
        return r;
    if (source_hides(v, dir, e->name, S_ISDIR(plain.st.st_mode)))
        return -ENOENT;
    if (e->kind == V_LINKCAR && !(S_ISLNK(plain.st.st_mode) && link_is_long(plain.target_len)))
        return -ENOENT;
    if (e->kind == V_FILE)
        e->kind = vkind_of_mode(plain.st.st_mode);
    e->seen = plain;
    return 0;
}

int entry_find(struct view *v, const struct view_keys *k, const struct vnode *dir, const char *stored,
               struct entry *out)
{
    int r = resolve(v, k, dir, stored, &out->kind, out->name);
    if (r)
        return r;
    AUTO_CLOSE int dirfd = source_open(v, dir, O_PATH | O_DIRECTORY);
    if (dirfd < 0)
        return dirfd;
    if (out->name[0])
        r = take_plain(v, dir, dirfd, out);
    if (!r && (!out->name[0] || out->kind == V_NAMECAR))
        r = see(v, dirfd, out->kind, out->name, &out->seen);
    if (!r)
        view_id(k, vkind_id(out->kind), dir->id, out->name, out->id);
    return r;
}
