/* What is done while one call fails. Few and small operations: every one of their calls is tried. */
#include "run.h"

#include <linux/falloc.h>
#include <linux/fs.h>
#include <string.h>

#define KIB 1024u

/* 240 bytes: stored in a sidecar. */
#define LONG                                                                                               \
    "long-name-long-name-long-name-long-name-long-name-long-name-long-name-long-name-long-name-long-name-" \
    "long-name-long-name-long-name-long-name-long-name-long-name-long-name-long-name-long-name-long-name-"

static void nothing(struct run *t)
{
    (void)t;
}

static void file_of(struct run *t, const char *path, size_t len)
{
    do_create(t, path);
    do_write(t, path, 0, len);
}

/* ---- files ---- */

static void create_act(struct run *t)
{
    file_of(t, "inline", 100);
    do_fsync(t, "inline");
    do_create(t, "empty");
    do_dirsync(t, "");
    file_of(t, LONG "a", 3000);
    file_of(t, "unsynced", 30);
}

static void fresh_act(struct run *t)
{
    file_of(t, "paged", 20 * KIB);
    do_fsync(t, "paged");
    do_append(t, "paged", 100 * KIB);
    do_append(t, "paged", 37 * KIB + 5);
    do_fdatasync(t, "paged");
}

static void two_files(struct run *t)
{
    file_of(t, "f", 40 * KIB);
    file_of(t, "g", 500);
    do_checkpoint(t);
}

static void overwrite_act(struct run *t)
{
    do_write(t, "f", 8 * KIB, 8 * KIB);
    do_write(t, "f", 5000, 300);
    do_fsync(t, "f");
    do_write(t, "g", 100, 50);
    do_fdatasync(t, "g");
    do_round(t);
    do_write(t, "f", 39 * KIB, 3 * KIB);
    do_round(t);
}

static void append_act(struct run *t)
{
    do_append(t, "f", 100);
    do_fdatasync(t, "f");
    do_append(t, "f", 9000);
    do_append(t, "g", 200);
    do_round(t);
    do_append(t, "f", 10);
    do_fsync(t, "f");
    do_round(t);
    do_round(t);
}

static void grow_act(struct run *t)
{
    do_append(t, "g", 3300); /* out of inline */
    do_fsync(t, "g");
    do_truncate(t, "g", 90 * KIB);
    do_write(t, "g", 60 * KIB, 100);
    do_round(t);
    do_fsync(t, "g");
    do_round(t);
}

static void truncate_act(struct run *t)
{
    do_truncate(t, "f", 17 * KIB + 9);
    do_fsync(t, "f");
    do_round(t);
    do_append(t, "f", 6000);
    do_truncate(t, "g", 20);
    do_truncate(t, "f", 0);
    do_round(t);
    do_append(t, "f", 30 * KIB);
    do_fsync(t, "f");
    do_round(t);
}

static void punch_setup(struct run *t)
{
    file_of(t, "f", 500 * KIB); /* into the second group */
    do_checkpoint(t);
}

static void punch_act(struct run *t)
{
    do_fallocate(t, "f", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 5000, 30000);
    do_fallocate(t, "f", FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 440 * KIB, 20 * KIB);
    do_round(t);
    do_write(t, "f", 8 * KIB, 5000);
    do_fallocate(t, "f", 0, 490 * KIB, 30 * KIB);
    do_fsync(t, "f");
    do_round(t);
}

static void many_dirty(struct run *t)
{
    char name[8] = "d0";
    for (; name[1] < '6'; name[1]++)
        file_of(t, name, 12 * KIB);
    do_checkpoint(t);
    for (name[1] = '0'; name[1] < '6'; name[1]++)
        do_write(t, name, 3000, 5000);
}

static void checkpoint_act(struct run *t)
{
    do_round(t);
    do_append(t, "d1", 50 * KIB);
    do_round(t);
    do_write(t, "d1", 0, 100);
    do_checkpoint(t);
}

/* The ring fills up: a writer makes the checkpoint. */
static void lap_setup(struct run *t)
{
    file_of(t, "f", 500 * KIB);
    do_checkpoint(t);
}

static void lap_act(struct run *t)
{
    for (int i = 0; i < 16; i++)
        do_write(t, "f", 8 * KIB, 440 * KIB);
    do_fsync(t, "f");
}

/* ---- names ---- */

static void mkdir_act(struct run *t)
{
    do_mkdir(t, "d");
    file_of(t, "d/in", 600);
    do_fsync(t, "d/in");
    do_mkdir(t, "d/" LONG "d");
    do_rmdir(t, "d/" LONG "d");
    do_mkdir(t, "e");
    do_rmdir(t, "e");
    do_dirsync(t, "d");
}

static void names_setup(struct run *t)
{
    do_mkdir(t, "d");
    do_mkdir(t, "e");
    do_mkdir(t, "d/sub");
    file_of(t, "f", 9000);
    file_of(t, "g", 300);
    file_of(t, "d/h", 5000);
    file_of(t, LONG "a", 100);
    do_checkpoint(t);
    do_write(t, "f", 0, 4000);
}

static void rename_act(struct run *t)
{
    do_rename(t, "f", "g", 0);
    do_rename(t, "g", "d/g", 0);
    do_rename(t, "d/h", "d/g", RENAME_EXCHANGE);
    do_rename(t, LONG "a", LONG "b", 0);
    do_rename(t, LONG "b", "short", RENAME_NOREPLACE);
    do_dirsync(t, "d");
}

static void rename_dirs_act(struct run *t)
{
    do_rename(t, "d", "renamed", 0);
    do_rename(t, "renamed/sub", "sub", 0);
    do_rename(t, "sub", "e", 0);
    do_rename(t, "renamed", "e", RENAME_EXCHANGE);
    do_dirsync(t, "");
}

static void links_act(struct run *t)
{
    do_link(t, "f", "d/linked");
    do_link(t, "g", LONG "c");
    do_open_file(t, "g");
    do_unlink(t, "g");
    do_write(t, LONG "c", 100, 100);
    do_unlink(t, "f");
    do_fsync(t, "d/linked");
    do_unlink(t, "d/h");
    do_round(t);
    do_round(t);
}

static char long_target[1001];

static void symlinks_act(struct run *t)
{
    memset(long_target, 'x', sizeof long_target - 1);
    do_symlink(t, "short", "target");
    do_symlink(t, "long", long_target);
    do_symlink(t, LONG "s", "other");
    do_rename(t, "short", "d/moved", 0);
    do_rename(t, "long", "d/long", 0);
    do_symlink(t, "again", "x");
    do_rename(t, "again", "d/moved", 0);
    do_unlink(t, "d/long");
    do_dirsync(t, "d");
}

/* Targets that only fit into a file of their own. */
static char longest[2900];

static void sidecars_act(struct run *t)
{
    memset(longest, 'y', 1250);
    do_symlink(t, "l", longest);
    do_rename(t, "l", "d/l", 0);
    do_unlink(t, "d/l");
}

static void xattrs_act(struct run *t)
{
    do_setxattr(t, "f", "user.a", 20);
    do_fsync(t, "f");
    do_setxattr(t, "f", "user.a", 300);
    do_setxattr(t, "d", "user.dir", 50);
    do_removexattr(t, "f", "user.a");
    do_chmod(t, "f", 0600);
    do_create(t, "new");
    do_setxattr(t, "new", "user.b", 10);
    do_fsync(t, "new");
    do_dirsync(t, "d");
}

/* ---- reading ---- */

static void read_act(struct run *t)
{
    do_read(t, "by-inline");
    do_read(t, "by-paged");
    do_read(t, "by-pending");
    do_readdir(t, "");
    do_readdir(t, "by-dir");
    do_read(t, "f");
    do_copy(t, "f", "g");
}

/* ---- the life of the volume ---- */

static void close_act(struct run *t)
{
    plan->armed = false;
    do_write(t, "f", 100, 9000);
    do_append(t, "g", 40 * KIB);
    do_fsync(t, "g");
    plan->armed = true;
    run_close(t);
}

/* Everything that a replay has to do: overwrites, cuts, holes, files moved and removed, fresh data with and
 * without a mark, long names. */
static void replay_setup(struct run *t)
{
    two_files(t);
    do_mkdir(t, "d");
    file_of(t, "gone", 6000);
    file_of(t, "moved", 6000);
    file_of(t, LONG "r", 6000);
    do_checkpoint(t);
    do_write(t, "f", 100, 9000);
    do_fsync(t, "f");
    do_append(t, "g", 60 * KIB);
    do_fsync(t, "g");
    do_append(t, "g", 60 * KIB);
    do_truncate(t, "f", 20000);
    do_write(t, "gone", 10, 10);
    do_unlink(t, "gone");
    do_write(t, "moved", 4096, 100);
    do_rename(t, "moved", "d/moved", 0);
    do_write(t, LONG "r", 0, 5000);
    do_fallocate(t, "f", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 8192);
    do_fsync(t, "f");
}

static void rotate_setup(struct run *t)
{
    do_mkdir(t, "d");
    file_of(t, "d/f", 30 * KIB);
    file_of(t, "g", 200);
    do_create(t, "empty");
    do_setxattr(t, "g", "user.a", 30);
    do_checkpoint(t);
    do_append(t, "g", 10);
}

/* Sealed files that are changed, and sealed again. */
static void seal_act(struct run *t)
{
    do_seal(t);
    do_append(t, "f", 50 * KIB);
    do_fsync(t, "f");
    do_write(t, "d1", 100, 100);
    do_truncate(t, "d2", 5000);
    do_checkpoint(t);
    do_seal(t);
    do_read(t, "f");
}

static void seal_setup(struct run *t)
{
    two_files(t);
    many_dirty(t);
    do_checkpoint(t);
}

static void ballast_act(struct run *t)
{
    do_append(t, "f", 9000);
    do_round(t);
    do_write(t, "f", 100, 100);
    do_fsync(t, "f");
}

static void freeze_act(struct run *t)
{
    do_write(t, "f", 100, 9000);
    do_freeze(t);
    do_append(t, "f", 100);
    do_fsync(t, "f");
}

static void protect_setup(struct run *t)
{
    do_mkdir(t, "p");
    do_setxattr(t, "p", "user.a", 30);
    do_checkpoint(t);
}

static void protect_act(struct run *t)
{
    do_protect(t, "p");
    do_dirsync(t, "p");
}

const struct scenario scenarios[] = {
    {"create", nothing, create_act, false, false},
    {"fresh", nothing, fresh_act, false, false},
    {"overwrite", two_files, overwrite_act, false, false},
    {"append", two_files, append_act, false, false},
    {"grow", two_files, grow_act, false, false},
    {"truncate", two_files, truncate_act, false, false},
    {"punch", punch_setup, punch_act, false, false},
    {"checkpoint", many_dirty, checkpoint_act, false, false},
    {"lap", lap_setup, lap_act, false, false},
    {"mkdir", nothing, mkdir_act, false, false},
    {"rename", names_setup, rename_act, false, false},
    {"rename-dirs", names_setup, rename_dirs_act, false, false},
    {"links", names_setup, links_act, false, false},
    {"symlinks", names_setup, symlinks_act, false, false},
    {"sidecars", names_setup, sidecars_act, false, false},
    {"xattrs", names_setup, xattrs_act, false, false},
    {"read", two_files, read_act, false, false},
    {"close", two_files, close_act, false, false},
    {"open", two_files, NULL, false, false},
    {"replay", replay_setup, NULL, true, false},
    {"rewrap", rotate_setup, do_rewrap, false, false},
    {"reencrypt", rotate_setup, do_reencrypt, false, false},
    {"seal", seal_setup, seal_act, false, false},
    {"freeze", two_files, freeze_act, false, false},
    {"protect", protect_setup, protect_act, false, false},
    {"ballast", two_files, ballast_act, false, true},
    {NULL, NULL, NULL, false, false},
};
