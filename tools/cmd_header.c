/* latch header: copies of latchfs.ini, and putting one back. */
#include "cli.h"
#include "header_compare.h"
#include "keyd_conn.h"
#include "volume_files.h"

#include "latchfs/io.h"
#include "latchfs/jentry.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* A key store that was read from some file. */
struct header {
    char *ini;
    size_t len;
    struct keystore *ks;
};

static void header_clear(struct header *h)
{
    lfs_free_ptr(&h->ini);
    keystore_freep(&h->ks);
}
#define AUTO_HEADER CLEANUP(header_clear)

/* 0 only for a whole key store whose signature fits. */
static int header_read(int dirfd, const char *name, struct header *h)
{
    int r = io_read_file(dirfd, name, KEYSTORE_MAX_BYTES, &h->ini, &h->len);
    if (!r)
        r = keystore_parse(h->ini, h->len, &h->ks, NULL);
    if (!r && !keystore_signed_by(h->ini, h->len, h->ks->signing_public))
        r = LFS_ERR_AUTH;
    return r;
}

/* ---- backup ---- */

static int put_backup(const char *path, const struct volume_files *v, bool force)
{
    char copy[PATH_MAX], quoted[PATH_MAX];
    if (snprintf(copy, sizeof copy, "%s", path) >= (int)sizeof copy)
        return cli_fail_err(-ENAMETOOLONG, path, NULL);
    AUTO_CLOSE int dir = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return cli_fail_err(-errno, path, NULL);
    snprintf(copy, sizeof copy, "%s", path);
    const char *name = basename(copy);
    struct stat st;
    if (!force && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return cli_fail(LFS_EXIT_USAGE, "%s: exists already; --force replaces it",
                        cli_quote(path, quoted, sizeof quoted));
    int r = volume_file_put(dir, name, v->ini, v->ini_len, 0600, -1, -1);
    if (!r)
        r = volume_file_verify(dir, name, v->ini, v->ini_len);
    if (r)
        return cli_fail_err(r, path, NULL);
    printf("%s: generation %" PRIu64 " of the key store, %u slot%s\n", cli_quote(path, quoted, sizeof quoted),
           v->ks->generation, v->ks->slot_count, v->ks->slot_count == 1 ? "" : "s");
    return LFS_EXIT_OK;
}

static int run_backup(const char *volume, const char *path, bool force)
{
    AUTO_VOLUME struct volume_files v = {.dirfd = -1};
    int code = volume_files_open(volume, &v);
    return code == LFS_EXIT_OK ? put_backup(path, &v, force) : code;
}

/* ---- restore ---- */

struct restore {
    const char *volume, *path;       /* as given */
    char vq[PATH_MAX], pq[PATH_MAX]; /* quoted */
    int dirfd, journal;
    bool force;
    struct header backup, present; /* present.ks NULL: missing or damaged */
};

static void restore_clear(struct restore *r)
{
    header_clear(&r->backup);
    header_clear(&r->present);
    lfs_close_fd(&r->journal);
    lfs_close_fd(&r->dirfd);
}

/* The lock of the directory keeps out other commands, that of the journal a mount. */
static int take_locks(struct restore *r)
{
    r->dirfd = open(r->volume, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r->dirfd < 0)
        return cli_fail_err(-errno, r->volume, NULL);
    if (flock(r->dirfd, LOCK_EX | LOCK_NB))
        return cli_fail(LFS_EXIT_BUSY,
                        "%s: another command is changing its key store; try again when it "
                        "has ended",
                        r->vq);
    r->journal = openat(r->dirfd, JOURNAL_NAME, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (r->journal < 0 && errno == ENOENT)
        return LFS_EXIT_OK;
    if (r->journal < 0)
        return cli_fail_err(-errno, r->volume, JOURNAL_NAME " cannot be opened");
    if (flock(r->journal, LOCK_EX | LOCK_NB) == 0)
        return LFS_EXIT_OK;
    return cli_fail(LFS_EXIT_BUSY, "%s: mounted; unmount it first", r->vq);
}

/* Keys that latch-keyd has now would go on serving what the restored store does not know. */
static int refuse_unlocked(const struct restore *r)
{
    AUTO_KEYCLIENT struct keyclient *kc = NULL;
    struct keyclient_options o = {0};
    bool unlocked = false;
    if (keyclient_connect(&o, &kc)) /* none runs, or it is not ours: nothing is unlocked there */
        return LFS_EXIT_OK;
    int err = keyd_conn_is_unlocked(kc, r->backup.ks->volume_id, &unlocked);
    if (err)
        return keyd_conn_fail(kc, err, r->volume);
    return unlocked ? cli_fail(LFS_EXIT_BUSY, "%s: unlocked; lock it first with 'latch lock'", r->vq)
                    : LFS_EXIT_OK;
}

static int other_volume(const struct restore *r)
{
    return cli_fail(LFS_EXIT_USAGE, "%s: the key store of another volume", r->pq);
}

/* Without a present key store the journal's superblock says which volume this is. */
static int check_journal(const struct restore *r)
{
    uint8_t bytes[JOURNAL_SUPER_BYTES];
    struct journal_super super;
    bool found = false;
    for (unsigned slot = 0; r->journal >= 0 && slot < 2; slot++) {
        uint64_t at = (uint64_t)slot * JOURNAL_SLOT_BYTES;
        if (io_pread(r->journal, bytes, sizeof bytes, at) != sizeof bytes ||
            journal_super_decode(bytes, NULL, &super))
            continue;
        if (memcmp(super.volume_id, r->backup.ks->volume_id, ID_BYTES) != 0)
            return other_volume(r);
        found = true;
    }
    if (found || r->force)
        return LFS_EXIT_OK;
    return cli_fail(LFS_EXIT_USAGE,
                    "%s: nothing there says which volume it is; --force takes %s all the same", r->vq, r->pq);
}

static int check_present(const struct restore *r)
{
    const struct keystore *now = r->present.ks, *then = r->backup.ks;
    if (memcmp(now->volume_id, then->volume_id, ID_BYTES) != 0)
        return other_volume(r);
    if (memcmp(now->signing_public, then->signing_public, sizeof now->signing_public) != 0 && !r->force)
        return cli_fail(LFS_EXIT_CORRUPT,
                        "%s: signed by another key than the present key store: one of them "
                        "is not genuine; --force takes it all the same",
                        r->pq);
    header_compare_print(now, then, stdout);
    if (!header_would_lose(now, then) || r->force)
        return LFS_EXIT_OK;
    fflush(stdout);
    return cli_fail(LFS_EXIT_USAGE,
                    "%s: has not all keys that files may need now; what is lost above could "
                    "not be read any more. --force restores it all the same",
                    r->pq);
}

/* The bytes that are to become the .bak: those of a whole present store; damaged ones only where there is no
 * whole .bak that they would push out. */
static int keep_present(const struct restore *r)
{
    AUTO_HEADER struct header bak = {0};
    if (!r->present.ini || (!r->present.ks && header_read(r->dirfd, KEYSTORE_BAK_NAME, &bak) == 0))
        return 0;
    return volume_file_put(r->dirfd, KEYSTORE_BAK_NAME, r->present.ini, r->present.len, 0600, -1, -1);
}

static int put_back(const struct restore *r)
{
    struct stat st = {.st_mode = 0600, .st_uid = (uid_t)-1, .st_gid = (gid_t)-1};
    if (fstatat(r->dirfd, KEYSTORE_NAME, &st, AT_SYMLINK_NOFOLLOW) && errno != ENOENT)
        return -errno;
    int err = keep_present(r);
    if (!err)
        err = volume_file_put(r->dirfd, KEYSTORE_NAME, r->backup.ini, r->backup.len, st.st_mode & 0666,
                              (int)st.st_uid, (int)st.st_gid);
    return err ? err : volume_file_verify(r->dirfd, KEYSTORE_NAME, r->backup.ini, r->backup.len);
}

static int read_backup(struct restore *r)
{
    int err = header_read(AT_FDCWD, r->path, &r->backup);
    if (err == LFS_ERR_CORRUPT || err == LFS_ERR_AUTH)
        return cli_fail(LFS_EXIT_CORRUPT, "%s: %s; not a whole key store", r->pq, lfs_strerror(err));
    return err ? cli_fail_err(err, r->path, NULL) : LFS_EXIT_OK;
}

/* Damaged bytes stay in r->present.ini; the store itself is then missing. */
static int read_present(struct restore *r)
{
    int err = header_read(r->dirfd, KEYSTORE_NAME, &r->present);
    if (!err || err == -ENOENT || err == LFS_ERR_UNSUPPORTED || err == LFS_ERR_CORRUPT || err == -E2BIG)
        return LFS_EXIT_OK;
    if (err != LFS_ERR_AUTH)
        return cli_fail_err(err, r->volume, NULL);
    keystore_freep(&r->present.ks);
    return LFS_EXIT_OK;
}

static int restore(struct restore *r)
{
    int code = read_backup(r);
    if (code == LFS_EXIT_OK)
        code = take_locks(r);
    if (code == LFS_EXIT_OK)
        code = refuse_unlocked(r);
    if (code == LFS_EXIT_OK)
        code = read_present(r);
    if (code == LFS_EXIT_OK)
        code = r->present.ks ? check_present(r) : check_journal(r);
    int err = code == LFS_EXIT_OK ? put_back(r) : 0;
    if (err)
        return cli_fail_err(err, r->volume, "'latch slot list' shows whether the key store was changed");
    return code;
}

static int run_restore(const char *volume, const char *path, bool force)
{
    CLEANUP(restore_clear)
    struct restore r = {.volume = volume, .path = path, .dirfd = -1, .journal = -1, .force = force};
    cli_quote(volume, r.vq, sizeof r.vq);
    cli_quote(path, r.pq, sizeof r.pq);
    int code = restore(&r);
    if (code != LFS_EXIT_OK)
        return code;
    printf("%s: generation %" PRIu64 " of the key store is back%s\n", r.vq, r.backup.ks->generation,
           r.present.ks ? "; the other one is " KEYSTORE_BAK_NAME : "");
    if (!r.present.ks || r.backup.ks->generation < r.present.ks->generation)
        puts("latch-keyd may have seen a newer one: then unlock it with --accept-older");
    return LFS_EXIT_OK;
}

/* ---- command line ---- */

static int run(int argc, char **argv)
{
    static const struct option options[] = {{"force", no_argument, NULL, 'f'}, {0}};
    bool force = false;
    for (int c; (c = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        if (c != 'f')
            return cli_bad_option(&cmd_header, c, argv);
        force = true;
    }
    int code = cli_want_args(&cmd_header, argc, 3, 3);
    if (code != LFS_EXIT_OK)
        return code;
    char **words = argv + optind;
    if (strcmp(words[0], "backup") == 0)
        return run_backup(words[1], words[2], force);
    if (strcmp(words[0], "restore") == 0)
        return run_restore(words[1], words[2], force);
    return cli_fail(LFS_EXIT_USAGE, "usage: latch header %s", cmd_header.synopsis);
}

const struct command cmd_header = {
    .name = "header",
    .synopsis = "backup|restore [--force] VOLUME FILE",
    .summary = "copy the key store of a volume, or put a copy back",
    .help =
        "  latch header backup VOLUME FILE    copies latchfs.ini into FILE; needs no key\n"
        "  latch header restore VOLUME FILE   puts FILE back as latchfs.ini, in a volume that is neither\n"
        "                                     mounted nor unlocked; says what that brings back and loses\n"
        "  --force                            replace FILE; restore although keys are lost that files may\n"
        "                                     need, or although it cannot be told which volume this is\n"
        "\n"
        "A copy opens with the slots that the volume had when it was made, whatever was changed since.\n",
    .run = run,
};
