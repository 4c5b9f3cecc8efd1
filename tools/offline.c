#include "offline.h"

#include "cli.h"
#include "cred.h"
#include "mount_table.h"
#include "offline_held.h"

#include "latchfs/io.h"
#include "latchfs/jentry.h"
#include "latchfs/mountctl.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

void offline_clear(struct offline *o)
{
    if (o->volume)
        volume_close(o->volume);
    for (size_t i = 0; i < o->count; i++)
        keyset_free(o->sets[i]);
    free(o->sets);
    keystore_free(o->ks);
    volume_files_clear(&o->files);
    *o = (struct offline){.files.dirfd = -1};
}

bool offline_option(struct offline_options *opt, int c, const char *arg)
{
    switch (c) {
    case OPT_HEADER:
        opt->header = arg;
        return true;
    case OPT_HELD_DIR:
        opt->held = arg;
        return true;
    case OPT_IGNORE_JOURNAL:
        opt->ignore_journal = true;
        return true;
    default:
        return cred_source_option(&opt->cred, c, arg);
    }
}

int offline_worse(int a, int b)
{
    static const int order[] = {LFS_EXIT_CORRUPT, LFS_EXIT_NOKEY, LFS_EXIT_IO, LFS_EXIT_FAILURE};
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++)
        if (a == order[i] || b == order[i])
            return order[i];
    return a != LFS_EXIT_OK ? a : b;
}

/* ---- in use? ---- */

struct search {
    const char *volume;
    char mountpoint[PATH_MAX];
};

static int note_mount(const char *socket_path, const struct mount_status *st, void *arg)
{
    struct search *s = arg;
    (void)socket_path;
    if (strcmp(st->volume, s->volume) == 0)
        snprintf(s->mountpoint, sizeof s->mountpoint, "%s", st->mountpoint);
    return 0;
}

/* A mount of this user's answers; the kernel's table knows those of others, under the name they gave. */
static bool find_mount(const char *volume, char mountpoint[static PATH_MAX])
{
    struct search s = {.volume = volume};
    struct mount_entry e;
    mountctl_each(note_mount, &s);
    if (s.mountpoint[0])
        strcpy(mountpoint, s.mountpoint);
    else if (mount_table_of_volume(volume, &e) == 0)
        strcpy(mountpoint, e.mountpoint);
    else
        return false;
    return true;
}

static int say_busy(const char *path)
{
    char real[PATH_MAX], mountpoint[PATH_MAX], journal[PATH_MAX + 32], a[PATH_MAX], b[PATH_MAX];
    cli_quote(path, a, sizeof a);
    if (!realpath(path, real))
        snprintf(real, sizeof real, "%s", path);
    if (find_mount(real, mountpoint))
        return cli_fail(LFS_EXIT_BUSY,
                        "%s: mounted on %s; use it there, or unmount it, or take a copy under 'latch freeze'",
                        a, cli_quote(mountpoint, b, sizeof b));
    snprintf(journal, sizeof journal, "%s/" JOURNAL_NAME, real);
    pid_t holder = file_lock_holder(journal);
    if (holder > 0)
        return cli_fail(LFS_EXIT_BUSY, "%s: in use by process %d; try again when it has ended", a,
                        (int)holder);
    return cli_fail(LFS_EXIT_BUSY, "%s: in use by a mount or another command; try again when it has ended",
                    a);
}

/* Shared mounts have these bytes of the journal (docs/FORMAT.md, "Locks"). */
static bool is_shared(int fd)
{
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 3};
    return fcntl(fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
}

int offline_check_free(const char *path)
{
    AUTO_CLOSE int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO_CLOSE int fd =
        dir < 0 ? -1 : openat(dir, JOURNAL_NAME, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || (!is_shared(fd) && (flock(fd, LOCK_SH | LOCK_NB) == 0 || errno != EWOULDBLOCK)))
        return LFS_EXIT_OK;
    return say_busy(path);
}

/* ---- keys ---- */

/* Whoever can write the volume can make slots for a recipient or a command, so somebody has to know which key
 * may sign it: there is no latch-keyd here that remembers. */
static void say_signer(const struct cred *c, const struct volume_files *v)
{
    char hex[2 * KEYSTORE_PUBLIC_BYTES + 1], quoted[PATH_MAX];
    if ((c->c.type != CRED_RECIPIENT && c->c.type != CRED_COMMAND) || c->c.signing_public)
        return;
    sodium_bin2hex(hex, sizeof hex, v->ks->signing_public, KEYSTORE_PUBLIC_BYTES);
    fprintf(
        stderr,
        "latch: %s: signed by %s; compare it with what the volume's administrator says, or demand it with "
        "--signing-key\n",
        cli_quote(v->path, quoted, sizeof quoted), hex);
}

static int open_failed(const struct volume_files *v, int err, const struct key_why *why)
{
    char quoted[PATH_MAX];
    const char *hint =
        err == LFS_ERR_PASSPHRASE ? "check the passphrase or key; 'latch slot list' shows the slots" : NULL;
    if (!why->text[0])
        return cli_fail_err(err, v->path, hint);
    return cli_fail(lfs_exit_code(err), "%s: %s", cli_quote(v->path, quoted, sizeof quoted), why->text);
}

static int try_open(const struct cred_source *s, struct offline *o, bool last, struct keystore_keys **keys,
                    bool *again)
{
    AUTO_CRED struct cred cred = {0};
    struct key_why why;
    int code = cred_open(s, &o->files, &cred);
    if (code != LFS_EXIT_OK)
        return code;
    int r = keystore_open(o->files.ini, o->files.ini_len, &cred.c, &o->ks, keys, &why);
    *again = r == LFS_ERR_PASSPHRASE && !last;
    if (r)
        return open_failed(&o->files, r, &why);
    say_signer(&cred, &o->files);
    return LFS_EXIT_OK;
}

static int open_store(const struct cred_source *s, struct offline *o, struct keystore_keys **keys)
{
    int tries = cred_tries(s), code;
    bool again;
    do {
        again = false;
        code = try_open(s, o, --tries == 0, keys, &again);
    } while (again);
    return code;
}

/* One protected directory that does not open leaves the others readable. */
static int add_set(struct offline *o, const uint8_t *id, struct keystore_keys *keys,
                   const struct held_source *held)
{
    struct keyset *set;
    char hex[2 * ID_BYTES + 1];
    int r = keystore_unwrap_dir(o->ks, id, keystore_keys_lookup, keys, held, &set);
    if (!r) {
        o->sets[o->count++] = set;
        return 0;
    }
    if (!o->count || r == -ENOMEM)
        return r;
    o->without_keys++;
    id_to_hex(id, hex);
    if (r != LFS_ERR_NOKEY)
        cli_fail(lfs_exit_code(r), "keys of protected directory %s: %s; it can't be read", hex,
                 lfs_strerror(r));
    return 0;
}

static int unwrap_all(struct offline *o, struct keystore_keys *keys, const char *held_dir)
{
    CLEANUP(offline_held_clear) struct offline_held blobs = {.dirfd = -1};
    struct held_source held = {.find = offline_held_find, .arg = &blobs};
    if (held_dir) {
        int r = offline_held_open(held_dir, &blobs);
        if (r)
            return cli_fail_err(r, held_dir, "--held-dir wants the state directory of a latch-keyd");
    }
    o->sets = calloc(o->ks->dir_count, sizeof(struct keyset *));
    int r = o->sets ? add_set(o, o->ks->root_id, keys, &held) : -ENOMEM;
    for (uint32_t i = 0; !r && i < o->ks->dir_count; i++)
        if (memcmp(o->ks->dirs[i].id, o->ks->root_id, ID_BYTES) != 0)
            r = add_set(o, o->ks->dirs[i].id, keys, &held);
    return r ? cli_fail_err(r, o->files.path, NULL) : LFS_EXIT_OK;
}

int offline_keys(const char *path, const struct offline_options *opt, struct offline *o)
{
    CLEANUP(keystore_keys_freep) struct keystore_keys *keys = NULL;
    *o = (struct offline){.files.dirfd = -1, .ignore_journal = opt->ignore_journal};
    int code = volume_files_open_copy(path, opt->header, &o->files);
    if (code == LFS_EXIT_OK)
        code = open_store(&opt->cred, o, &keys);
    return code == LFS_EXIT_OK ? unwrap_all(o, keys, opt->held) : code;
}

/* ---- the volume ---- */

static bool has(const struct offline *o, const char *name)
{
    struct stat st;
    return fstatat(o->files.dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static int volume_failed(const struct offline *o, int err)
{
    char quoted[PATH_MAX];
    cli_quote(o->files.path, quoted, sizeof quoted);
    if (err == LFS_ERR_BUSY)
        return say_busy(o->files.path);
    if (err == LFS_ERR_CORRUPT && !has(o, DIRREC_NAME))
        return cli_fail(LFS_EXIT_CORRUPT,
                        "%s/" DIRREC_NAME ": missing; restore it too, nothing is read without it", quoted);
    if (err == LFS_ERR_CORRUPT || err == LFS_ERR_AUTH)
        return cli_fail(LFS_EXIT_CORRUPT,
                        "%s/" DIRREC_NAME ": %s; restore it together with the " KEYSTORE_NAME
                        " of this volume",
                        quoted, lfs_strerror(err));
    if (err == LFS_ERR_JOURNAL)
        return cli_fail(LFS_EXIT_CORRUPT,
                        "%s/" JOURNAL_NAME ": %s; restore it, or go on without what it may hold with "
                        "--ignore-journal",
                        quoted, has(o, JOURNAL_NAME) ? lfs_strerror(err) : "missing");
    return cli_fail_err(err, o->files.path, NULL);
}

static int open_with(struct offline *o, const struct volume_options *want)
{
    int r = volume_open(o->files.path, o->sets[0], want, &o->replay, &o->volume);
    for (size_t i = 1; !r && i < o->count; i++)
        r = volume_pd_unlock(o->volume, o->sets[i]);
    return r;
}

static void say_what_lacks(const struct offline *o, bool no_journal)
{
    char quoted[PATH_MAX];
    cli_quote(o->files.path, quoted, sizeof quoted);
    if (no_journal)
        fprintf(stderr, "latch: %s/" JOURNAL_NAME ": missing; changes that only it had are not seen\n",
                quoted);
    if (o->replay.skipped)
        fprintf(stderr,
                "latch: %s/" JOURNAL_NAME
                ": %llu of its entries are of files that are not here, or newer; they "
                "were passed by\n",
                quoted, (unsigned long long)o->replay.skipped);
}

int offline_volume(struct offline *o, const struct volume_options *want)
{
    struct volume_options opt = *want;
    opt.ignore_journal = opt.ignore_journal || o->ignore_journal;
    bool no_journal = opt.read_only && !opt.ignore_journal && !has(o, JOURNAL_NAME);
    opt.ignore_journal = opt.ignore_journal || no_journal;
    int r = open_with(o, &opt);
    if (r)
        return volume_failed(o, r);
    if (opt.read_only)
        say_what_lacks(o, no_journal);
    return LFS_EXIT_OK;
}

int offline_open(const char *path, const struct offline_options *opt, struct offline *o)
{
    const struct volume_options want = {.read_only = true, .salvage = opt->salvage};
    int code = offline_check_free(path);
    if (code == LFS_EXIT_OK)
        code = offline_keys(path, opt, o);
    return code == LFS_EXIT_OK ? offline_volume(o, &want) : code;
}
