/* Sidecars: files that hold what is too long for a name or for the target of a link. */
#include "fs/store/tree.h"
#include "latchfs/io.h"
#include "latchfs/symlink.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- of long names ---- */

#define SIDECAR_NAME_MAX (NAME_CIPHER_MAX + sizeof LONG_NAME_SUFFIX)

static void sidecar_name(const char *stored, char out[static SIDECAR_NAME_MAX])
{
    snprintf(out, SIDECAR_NAME_MAX, "%s" LONG_NAME_SUFFIX, stored);
}

/* A small file of ours into text[max + 1]; its length. LFS_ERR_CORRUPT if it is no such file. */
static ssize_t read_text(struct volume *v, int dirfd, const char *name, char *text, size_t max)
{
    struct stat st;
    AUTO_CLOSE int fd = fd_openat(v, dirfd, name, O_RDONLY | O_NONBLOCK, 0);
    if (fd < 0)
        return fd == -ENOENT || fd == -ELOOP ? LFS_ERR_CORRUPT : fd;
    if (fstat(fd, &st))
        return -errno;
    if (!S_ISREG(st.st_mode) || st.st_size < 1 || (uint64_t)st.st_size > max)
        return LFS_ERR_CORRUPT;
    ssize_t n = io_pread(fd, text, max, 0);
    if (n >= 0)
        text[n] = '\0';
    return n;
}

int long_name_read(struct volume *v, int dirfd, const char *stored, char encoded[static NAME_ENCODED_MAX + 1])
{
    char name[SIDECAR_NAME_MAX];
    sidecar_name(stored, name);
    ssize_t n = read_text(v, dirfd, name, encoded, NAME_ENCODED_MAX);
    return n < 0 ? (int)n : 0;
}

int long_name_check(const struct entry *e)
{
    char encoded[NAME_ENCODED_MAX + 1];
    int r = long_name_read(e->dir->vol, e->fd, e->cn.stored, encoded);
    if (r)
        return r;
    return strcmp(encoded, e->cn.encoded) == 0 ? 0 : LFS_ERR_CORRUPT;
}

/* Written under a temporary name: what may stand there already is not ours to write into. */
static int write_sidecar(const struct entry *e, const char *name)
{
    struct volume *v = e->dir->vol;
    char tmp[TMP_NAME_MAX];
    tmp_name(v, tmp);
    int r = small_file_write(v, e->fd, tmp, e->cn.encoded, strlen(e->cn.encoded));
    if (!r && renameat(e->fd, tmp, e->fd, name)) {
        r = -errno;
        unlinkat(e->fd, tmp, 0);
    }
    return r ? r : dir_fd_sync(v, e->fd);
}

int long_name_put(const struct entry *e, bool *made)
{
    char name[SIDECAR_NAME_MAX];
    *made = false;
    if (!e->cn.is_long || long_name_check(e) == 0)
        return 0;
    sidecar_name(e->cn.stored, name);
    int r = write_sidecar(e, name);
    *made = !r;
    return r;
}

void long_name_drop(const struct entry *e)
{
    char name[SIDECAR_NAME_MAX];
    if (!e->cn.is_long)
        return;
    sidecar_name(e->cn.stored, name);
    unlinkat(e->fd, name, 0);
}

/* ---- of long links ---- */

#define LINK_TEXT_LEN (sizeof LONG_LINK_PREFIX - 1 + 32) /* shorter than any encoding */

static int make_in_sidecar(struct volume *v, int dirfd, const char *encoded, const char *stored)
{
    char name[LINK_SIDECAR_MAX];
    snprintf(name, sizeof name, LONG_LINK_PREFIX "%08x%08x%08x%08x", randombytes_random(),
             randombytes_random(), randombytes_random(), randombytes_random());
    int r = small_file_write(v, dirfd, name, encoded, strlen(encoded));
    if (!r)
        r = dir_fd_sync(v, dirfd);
    if (!r && symlinkat(name, dirfd, stored)) {
        r = -errno;
        unlinkat(dirfd, name, 0);
    }
    return r;
}

int link_make(struct volume *v, int dirfd, const struct pd_keys *keys, const uint8_t id[static ID_BYTES],
              const char *target, const char *stored)
{
    char encoded[SYMLINK_ENCODED_MAX + 1];
    struct aead *a = thread_aead();
    if (!a)
        return -ENOMEM;
    int r = symlink_encrypt(a, v->suite, &keys->names, id, target, encoded);
    aead_clear_key(a);
    if (r)
        return r;
    if (strlen(encoded) <= SYMLINK_STORED_MAX) {
        if (symlinkat(encoded, dirfd, stored) == 0)
            return 0;
        /* The limit may be lower: 1024 on XFS. */
        if (errno != ENAMETOOLONG)
            return -errno;
    }
    return make_in_sidecar(v, dirfd, encoded, stored);
}

void link_sidecar(int dirfd, const char *stored, const struct stat *st, char out[static LINK_SIDECAR_MAX])
{
    char text[LINK_SIDECAR_MAX];
    out[0] = '\0';
    if (st->st_size != LINK_TEXT_LEN)
        return;
    ssize_t n = readlinkat(dirfd, stored, text, sizeof text - 1);
    if (n == LINK_TEXT_LEN && symlink_is_sidecar(text, LINK_TEXT_LEN)) {
        memcpy(out, text, LINK_TEXT_LEN);
        out[LINK_TEXT_LEN] = '\0';
    }
}

int link_remove(int dirfd, const char *stored)
{
    struct stat st;
    char sidecar[LINK_SIDECAR_MAX];
    if (fstatat(dirfd, stored, &st, AT_SYMLINK_NOFOLLOW))
        return -errno;
    link_sidecar(dirfd, stored, &st, sidecar);
    if (unlinkat(dirfd, stored, 0))
        return -errno;
    if (sidecar[0] && st.st_nlink == 1)
        unlinkat(dirfd, sidecar, 0);
    return 0;
}

int link_read(struct volume *v, int dirfd, const char *stored, const struct pd_keys *keys,
              const uint8_t id[static ID_BYTES], char target[static SYMLINK_PLAIN_MAX + 1])
{
    char encoded[SYMLINK_ENCODED_MAX + 1], name[LINK_SIDECAR_MAX];
    ssize_t n = readlinkat(dirfd, stored, encoded, SYMLINK_ENCODED_MAX);
    if (n < 0)
        return -errno;
    if (symlink_is_sidecar(encoded, (size_t)n)) {
        memcpy(name, encoded, (size_t)n);
        name[n] = '\0';
        n = read_text(v, dirfd, name, encoded, SYMLINK_ENCODED_MAX);
        if (n < 0)
            return (int)n;
    }
    struct aead *a = thread_aead();
    if (!a)
        return -ENOMEM;
    int r = symlink_decrypt(a, v->suite, &keys->names, id, encoded, (size_t)n, target);
    aead_clear_key(a);
    return r;
}

int link_fix_size(int dirfd, const char *stored, struct stat *st)
{
    struct stat side;
    char name[LINK_SIDECAR_MAX];
    off_t len = st->st_size;
    link_sidecar(dirfd, stored, st, name);
    if (name[0]) {
        if (fstatat(dirfd, name, &side, AT_SYMLINK_NOFOLLOW))
            return errno == ENOENT ? LFS_ERR_CORRUPT : -errno;
        len = side.st_size;
    }
    int plain = len > 0 ? symlink_plain_len((size_t)len) : LFS_ERR_CORRUPT;
    if (plain < 0)
        return plain;
    st->st_size = plain;
    return 0;
}

void link_copy_attributes(int dirfd, const char *stored, const struct stat *st)
{
    struct timespec t[2] = {st->st_atim, st->st_mtim};
    if (fchownat(dirfd, stored, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) == 0 || errno == EPERM)
        utimensat(dirfd, stored, t, AT_SYMLINK_NOFOLLOW);
}
