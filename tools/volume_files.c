#include "volume_files.h"

#include "cli.h"

#include "latchfs/io.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_there(int dirfd, const char *name)
{
    struct stat st;
    return fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

bool volume_files_is_view(const struct volume_files *v)
{
    return strcmp(v->name, VIEW_KEYSTORE_NAME) == 0;
}

/* The previous good copy of the key store. */
static const char *bak_name(const struct volume_files *v)
{
    return volume_files_is_view(v) ? VIEW_KEYSTORE_BAK_NAME : KEYSTORE_BAK_NAME;
}

/* What to say when latchfs.ini is missing (err -ENOENT) or no key store. */
static int ini_fail(const struct volume_files *v, int err)
{
    char quoted[PATH_MAX];
    bool bak = is_there(v->dirfd, bak_name(v));
    cli_quote(v->path, quoted, sizeof quoted);
    if (err == -ENOENT && !bak && !is_there(v->dirfd, DIRREC_NAME) && !is_there(v->dirfd, JOURNAL_NAME))
        return cli_fail(LFS_EXIT_NOTVOLUME, "%s: not a latchfs volume: it has no " KEYSTORE_NAME, quoted);
    const char *what = err == -ENOENT ? "missing" : lfs_strerror(err);
    int code = err == -ENOENT ? LFS_EXIT_CORRUPT : lfs_exit_code(err);
    if (bak && code == LFS_EXIT_CORRUPT)
        return cli_fail(
            code,
            "%s/%s: %s; its previous good copy is %s/%s: check it with 'latch inspect' and copy it "
            "back",
            quoted, v->name, what, quoted, bak_name(v));
    return cli_fail(code, "%s/%s: %s%s", quoted, v->name, what,
                    code == LFS_EXIT_CORRUPT ? "; restore it from a backup" : "");
}

static void adopt(struct volume_files *v, char *ini, size_t len, struct keystore *ks)
{
    free(v->ini);
    keystore_free(v->ks);
    v->ini = ini;
    v->ini_len = len;
    v->ks = ks;
}

/* v is written only when it is a whole key store. */
static int take_ini(struct volume_files *v, int dirfd, const char *name)
{
    AUTO_FREE char *ini = NULL;
    size_t len = 0;
    CLEANUP(keystore_freep) struct keystore *ks = NULL;
    int r = io_read_file(dirfd, name, KEYSTORE_MAX_BYTES, &ini, &len);
    if (!r)
        r = keystore_parse(ini, len, &ks, NULL);
    if (!r && !keystore_signed_by(ini, len, ks->signing_public))
        r = LFS_ERR_AUTH;
    if (r)
        return r;
    adopt(v, ini, len, ks);
    ini = NULL;
    ks = NULL;
    return 0;
}

static int read_ini(struct volume_files *v)
{
    if (!is_there(v->dirfd, KEYSTORE_NAME) && is_there(v->dirfd, VIEW_KEYSTORE_NAME))
        v->name = VIEW_KEYSTORE_NAME;
    int r = take_ini(v, v->dirfd, v->name);
    return r ? ini_fail(v, r) : LFS_EXIT_OK;
}

static int open_dir(const char *path, struct volume_files *v)
{
    *v = (struct volume_files){.path = path, .name = KEYSTORE_NAME};
    v->dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (v->dirfd < 0 && (errno == ENOENT || errno == ENOTDIR)) {
        char quoted[PATH_MAX];
        return cli_fail(LFS_EXIT_NOTVOLUME, "%s: %s; name the directory of a volume",
                        cli_quote(path, quoted, sizeof quoted),
                        errno == ENOENT ? "there is no such directory" : "not a directory");
    }
    return v->dirfd < 0 ? cli_fail_err(-errno, path, NULL) : LFS_EXIT_OK;
}

int volume_files_open(const char *path, struct volume_files *v)
{
    int code = open_dir(path, v);
    return code == LFS_EXIT_OK ? read_ini(v) : code;
}

int volume_files_open_copy(const char *path, const char *header, struct volume_files *v)
{
    char quoted[PATH_MAX];
    int code = open_dir(path, v);
    if (code != LFS_EXIT_OK)
        return code;
    if (header) {
        int r = take_ini(v, AT_FDCWD, header);
        return r ? cli_fail_err(r, header, "not a whole key store") : LFS_EXIT_OK;
    }
    int r = take_ini(v, v->dirfd, KEYSTORE_NAME);
    bool absent = r == -ENOENT || r == LFS_ERR_CORRUPT || r == LFS_ERR_AUTH;
    if (!absent || take_ini(v, v->dirfd, KEYSTORE_BAK_NAME))
        return r ? ini_fail(v, r) : LFS_EXIT_OK;
    fprintf(stderr, "latch: %s/" KEYSTORE_NAME ": %s; " KEYSTORE_BAK_NAME ", the one before it, serves\n",
            cli_quote(path, quoted, sizeof quoted), r == -ENOENT ? "missing" : lfs_strerror(r));
    return LFS_EXIT_OK;
}

void volume_files_clear(struct volume_files *v)
{
    adopt(v, NULL, 0, NULL);
    lfs_close_fd(&v->dirfd);
}

int volume_files_lock(struct volume_files *v)
{
    if (flock(v->dirfd, LOCK_EX | LOCK_NB) == 0)
        return read_ini(v);
    if (errno != EWOULDBLOCK)
        return cli_fail_err(-errno, v->path, NULL);
    char quoted[PATH_MAX];
    return cli_fail(LFS_EXIT_BUSY,
                    "%s: another command is changing its key store; try again when it has ended",
                    cli_quote(v->path, quoted, sizeof quoted));
}

static int write_new(int dirfd, const char *tmp, const void *data, size_t len, unsigned mode, int uid,
                     int gid)
{
    AUTO_CLOSE int fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    struct stat st;
    if (fd < 0 || fstat(fd, &st))
        return -errno;
    int r = io_pwrite(fd, data, len, 0);
    bool other = (uid >= 0 && st.st_uid != (uid_t)uid) || (gid >= 0 && st.st_gid != (gid_t)gid);
    /* Who shares a volume by its group cannot give files away, but keeps the group. */
    if (!r && other && fchown(fd, (uid_t)uid, (gid_t)gid) &&
        (errno != EPERM || fchown(fd, (uid_t)-1, (gid_t)gid)))
        r = -errno;
    if (!r && fchmod(fd, mode))
        r = -errno;
    return r ? r : io_fsync(fd);
}

int volume_file_put(int dirfd, const char *name, const void *data, size_t len, unsigned mode, int uid,
                    int gid)
{
    char tmp[64];
    snprintf(tmp, sizeof tmp, TMP_PREFIX "%08x%08x", randombytes_random(), randombytes_random());
    int r = write_new(dirfd, tmp, data, len, mode, uid, gid);
    if (!r && renameat(dirfd, tmp, dirfd, name))
        r = -errno;
    if (r) {
        unlinkat(dirfd, tmp, 0);
        return r;
    }
    return io_fsync(dirfd);
}

int sync_parent_dir(const char *path)
{
    char copy[PATH_MAX];
    if (snprintf(copy, sizeof copy, "%s", path) >= (int)sizeof copy)
        return -ENAMETOOLONG;
    AUTO_CLOSE int dir = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return dir < 0 ? -errno : io_fsync(dir);
}

int volume_file_verify(int dirfd, const char *name, const void *data, size_t len)
{
    AUTO_FREE char *back = NULL;
    size_t back_len = 0;
    int r = io_read_file(dirfd, name, len, &back, &back_len);
    if (r)
        return r;
    return back_len == len && memcmp(back, data, len) == 0 ? 0 : -EIO;
}

/* The old bytes first become the .bak, so that at every moment one of the two names has a whole key store. */
static int put_both(struct volume_files *v, const char *ini, size_t len)
{
    struct stat st;
    if (fstatat(v->dirfd, v->name, &st, AT_SYMLINK_NOFOLLOW))
        return -errno;
    unsigned mode = st.st_mode & 0666;
    int uid = (int)st.st_uid, gid = (int)st.st_gid;
    int r = volume_file_put(v->dirfd, bak_name(v), v->ini, v->ini_len, mode, uid, gid);
    if (!r)
        r = volume_file_put(v->dirfd, v->name, ini, len, mode, uid, gid);
    return r ? r : volume_file_verify(v->dirfd, v->name, ini, len);
}

int volume_files_replace(struct volume_files *v, const char *ini, size_t len)
{
    CLEANUP(keystore_freep) struct keystore *ks = NULL;
    int r = keystore_parse(ini, len, &ks, NULL);
    if (r)
        return cli_fail_err(r, "latch-keyd's answer", "nothing was changed");
    r = put_both(v, ini, len);
    if (r)
        return cli_fail_err(r, v->path, "'latch slot list' shows whether the key store was changed");
    return read_ini(v);
}

int volume_files_drop_bak(const struct volume_files *v)
{
    char quoted[PATH_MAX];
    if ((unlinkat(v->dirfd, bak_name(v), 0) == 0 || errno == ENOENT) && fsync(v->dirfd) == 0)
        return LFS_EXIT_OK;
    return cli_fail(LFS_EXIT_IO, "%s/%s still has the keys: remove it",
                    cli_quote(v->path, quoted, sizeof quoted), bak_name(v));
}
