/* Plaintext paths of an offline volume, and what to say about what can't be read. */
#include "offline.h"

#include "cli.h"

#include "latchfs/dirrec.h"
#include "latchfs/io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINK_PREFIX "latchfs.link."

/* "DIR/NAME" below the volume, without a slash in front when DIR is its root. */
static bool join(char *out, size_t size, const char *dir, const char *name)
{
    int n = snprintf(out, size, "%s%s%s", dir, *dir ? "/" : "", name);
    return n > 0 && (size_t)n < size;
}

static bool is_there(const struct offline *o, const char *cipher)
{
    struct stat st;
    return fstatat(o->files.dirfd, cipher, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* "VOLUME/CIPHER", escaped. */
static const char *place(const struct offline *o, const char *cipher, char out[static PATH_MAX])
{
    char path[2 * PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", o->files.path, cipher);
    return cli_quote(path, out, PATH_MAX);
}

static int restore_too(const struct offline *o, const char *plain, const char *cipher)
{
    char a[PATH_MAX], b[PATH_MAX];
    return cli_fail(LFS_EXIT_CORRUPT, "%s: needs %s, which is missing; restore it too",
                    cli_quote(*plain ? plain : "/", a, sizeof a), place(o, cipher, b));
}

/* ---- what is missing ---- */

/* The directory's record, if that is what lacks. */
static bool record_missing(struct offline *o, struct node *dir, char cipher[static PATH_MAX])
{
    char path[PATH_MAX];
    return node_cipher_path(dir, path, sizeof path) == 0 && join(cipher, PATH_MAX, path, DIRREC_NAME) &&
           !is_there(o, cipher);
}

/* The sidecar that the backing link at this ciphertext path points to. */
static bool target_missing(const struct offline *o, const char *link, char cipher[static PATH_MAX])
{
    char path[PATH_MAX], target[PATH_MAX];
    strcpy(path, link);
    ssize_t n = readlinkat(o->files.dirfd, path, target, sizeof target - 1);
    if (n < 0 || (size_t)n < sizeof LINK_PREFIX || strncmp(target, LINK_PREFIX, sizeof LINK_PREFIX - 1) != 0)
        return false;
    target[n] = '\0';
    char *slash = strrchr(path, '/');
    if (slash)
        *slash = '\0';
    return !strchr(target, '/') && join(cipher, PATH_MAX, slash ? path : "", target) && !is_there(o, cipher);
}

static const struct keyset *set_of(const struct offline *o, const uint8_t pd_id[static ID_BYTES])
{
    for (size_t i = 0; i < o->count; i++)
        if (memcmp(o->sets[i]->pd_id, pd_id, ID_BYTES) == 0)
            return o->sets[i];
    return NULL;
}

/* The encrypted form of a name in the directory at cipher_dir. */
static bool encrypt_name(const struct offline *o, const char *cipher_dir, const char *name,
                         struct cipher_name *out)
{
    char path[PATH_MAX];
    AUTO_FREE char *bytes = NULL;
    size_t len;
    struct dirrec d;
    if (!join(path, sizeof path, cipher_dir, DIRREC_NAME) ||
        io_read_file(o->files.dirfd, path, DIRREC_BYTES, &bytes, &len) || len != DIRREC_BYTES ||
        dirrec_parse((const uint8_t *)bytes, &d))
        return false;
    const struct keyset *set = set_of(o, d.pd_id);
    struct name_keys *keys = set ? locked_alloc(sizeof *keys) : NULL;
    if (!keys)
        return false;
    name_keys_derive(set->name_key, keys);
    int r = name_encrypt(keys, d.id, name, out);
    locked_free(keys);
    return r == 0;
}

/* There is no such entry, or it lacks its other half. */
static int no_entry(struct offline *o, struct node *dir, const char *plain, const char *name, int err)
{
    char path[PATH_MAX], cipher[PATH_MAX], sidecar[PATH_MAX + 8], a[PATH_MAX], b[PATH_MAX];
    struct cipher_name cn;
    cli_quote(plain, a, sizeof a);
    if (node_cipher_path(dir, path, sizeof path) || !encrypt_name(o, path, name, &cn) ||
        !join(cipher, sizeof cipher, path, cn.stored))
        return cli_fail(LFS_EXIT_IO, "%s: there is no such file or directory", a);
    snprintf(sidecar, sizeof sidecar, "%s.name", cipher);
    if (cn.is_long && is_there(o, cipher) && !is_there(o, sidecar))
        return restore_too(o, plain, sidecar);
    if (is_there(o, cipher) && target_missing(o, cipher, path))
        return restore_too(o, plain, path);
    if (is_there(o, cipher))
        return cli_fail(lfs_exit_code(err), "%s: %s (%s)", a, lfs_strerror(err), place(o, cipher, b));
    return cli_fail(LFS_EXIT_IO, "%s: not there; a backup that has it has %s%s", a, place(o, cipher, b),
                    cn.is_long ? " and the same with .name behind it" : "");
}

/* ---- explaining ---- */

int offline_explain(struct offline *o, struct node *n, const char *plain, int err)
{
    char cipher[PATH_MAX], path[PATH_MAX], a[PATH_MAX], b[PATH_MAX];
    cli_quote(*plain ? plain : "/", a, sizeof a);
    if (err == LFS_ERR_NOKEY)
        return cli_fail(
            LFS_EXIT_NOKEY,
            "%s: its keys are not here; latch-keyd holds them (--held-dir), or they were destroyed", a);
    if (err == LFS_ERR_ROLLBACK)
        return cli_fail(LFS_EXIT_CORRUPT,
                        "%s: older than the key store allows; give the " KEYSTORE_NAME
                        " of the same backup with --header",
                        a);
    bool damage = err == LFS_ERR_CORRUPT || err == LFS_ERR_AUTH || err == -ENOENT;
    if (damage && S_ISDIR(node_type(n)) && record_missing(o, n, cipher))
        return restore_too(o, plain, cipher);
    if (node_cipher_path(n, path, sizeof path))
        return cli_fail(lfs_exit_code(err), "%s: %s", a, lfs_strerror(err));
    if (damage && S_ISLNK(node_type(n)) && target_missing(o, path, cipher))
        return restore_too(o, plain, cipher);
    return cli_fail(lfs_exit_code(err), "%s: %s (%s)", a, lfs_strerror(err), place(o, path, b));
}

/* An opened file of size 0 whose backing file begins with a page of zeros. */
static bool never_arrived(const struct offline *o, struct node *n)
{
    char path[PATH_MAX];
    uint8_t page[PAGE_BYTES];
    if (node_cipher_path(n, path, sizeof path))
        return false;
    AUTO_CLOSE int fd = openat(o->files.dirfd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    ssize_t len = fd < 0 ? -1 : io_pread(fd, page, sizeof page, 0);
    return len > 0 && sodium_is_zero(page, (size_t)len);
}

int offline_seal(struct offline *o, struct node *n, const char *plain)
{
    char q[PATH_MAX];
    bool sealed = false;
    int r = file_verify_seal(n, &sealed);
    if (r == LFS_ERR_AUTH && sealed)
        return cli_fail(LFS_EXIT_CORRUPT,
                        "%s: its seal does not fit: some of it was changed or is older than the rest",
                        cli_quote(plain, q, sizeof q));
    return r ? offline_explain(o, n, plain, r) : LFS_EXIT_OK;
}

int offline_size(struct offline *o, struct node *n, const char *plain, uint64_t *size)
{
    char q[PATH_MAX];
    struct stat st;
    int r = node_getattr(n, &st);
    if (r)
        return r;
    if (st.st_size == 0 && never_arrived(o, n))
        fprintf(stderr, "latch: %s: its content never reached the disk; it reads as empty\n",
                cli_quote(plain, q, sizeof q));
    *size = (uint64_t)st.st_size;
    return 0;
}

/* ---- looking up ---- */

static int lookup_failed(struct offline *o, struct node *dir, const char *parent, const char *plain,
                         const char *name, int err)
{
    char cipher[PATH_MAX], a[PATH_MAX];
    bool damage = err == LFS_ERR_CORRUPT || err == LFS_ERR_AUTH;
    if (damage && record_missing(o, dir, cipher))
        return restore_too(o, plain, cipher);
    if (damage || err == -ENOENT)
        return damage && err == LFS_ERR_AUTH ? offline_explain(o, dir, parent, err)
                                             : no_entry(o, dir, plain, name, err);
    if (err == -ENOTDIR)
        return cli_fail(LFS_EXIT_IO, "%s: %s is no directory; symbolic links are not followed",
                        cli_quote(plain, a, sizeof a), parent);
    if (err == LFS_ERR_NOKEY)
        return offline_explain(o, dir, parent, err);
    return cli_fail_err(err, plain, NULL);
}

/* One component more: *n is replaced, plain extended. */
static int step(struct offline *o, struct node **n, char plain[static PATH_MAX], const char *name)
{
    char parent[PATH_MAX];
    struct node *next;
    struct stat st;
    strcpy(parent, plain);
    if (!join(plain, PATH_MAX, parent, name))
        return cli_fail_err(-ENAMETOOLONG, name, NULL);
    int r = node_lookup(*n, name, &st, &next);
    if (r)
        return lookup_failed(o, *n, parent, plain, name, r);
    node_unref(*n, 1);
    *n = next;
    return LFS_EXIT_OK;
}

int offline_explain_name(struct offline *o, const char *plain, int err)
{
    struct node *n;
    int code = offline_lookup(o, plain, &n);
    if (code != LFS_EXIT_OK)
        return code;
    node_unref(n, 1); /* now it is there */
    return cli_fail_err(err, plain, "run the same command again");
}

int offline_lookup(struct offline *o, const char *path, struct node **out)
{
    char copy[PATH_MAX], plain[PATH_MAX] = "", *save = NULL;
    if (strlen(path) >= sizeof copy)
        return cli_fail_err(-ENAMETOOLONG, path, NULL);
    strcpy(copy, path);
    struct node *n = volume_root(o->volume);
    int code = LFS_EXIT_OK;
    node_ref(n);
    for (char *name = strtok_r(copy, "/", &save); name && code == LFS_EXIT_OK;
         name = strtok_r(NULL, "/", &save)) {
        if (strcmp(name, "..") == 0)
            code = cli_fail(LFS_EXIT_USAGE, "paths in a volume are given without '..'");
        else if (strcmp(name, ".") != 0)
            code = step(o, &n, plain, name);
    }
    if (code == LFS_EXIT_OK)
        *out = n;
    else
        node_unref(n, 1);
    return code;
}
