/* latch tar: a volume that is not mounted as a tar archive on standard output. */
#include "cli.h"
#include "extract_links.h"
#include "offline.h"
#include "offline_read.h"
#include "offline_walk.h"
#include "tar_entry.h"

#include "latchfs/buf.h"

#include <archive.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct tar {
    struct offline *o;
    struct archive *a;
    struct link_table links;
    struct offline_walk walk;
    const char *plain; /* of the member under way */
};

static void tar_clear(struct tar *t)
{
    link_table_clear(&t->links);
    if (t->a)
        archive_write_free(t->a);
}

static void entry_freep(struct archive_entry **e)
{
    archive_entry_free(*e);
}

/* Nothing can follow what could not be written. */
static int out_failed(struct tar *t)
{
    const char *why = archive_error_string(t->a);
    t->walk.stop = true;
    return cli_fail(LFS_EXIT_IO, "cannot write the archive: %s", why ? why : "no reason given");
}

static int put_data(void *arg, const void *buf, size_t len, uint64_t off)
{
    struct tar *t = arg;
    (void)off;
    if (archive_write_data(t->a, buf, len) >= 0)
        return 0;
    t->walk.stop = true;
    return -EPIPE;
}

static void damaged(void *arg, uint64_t off, uint64_t len, int err)
{
    const struct tar *t = arg;
    char q[PATH_MAX];
    cli_fail(LFS_EXIT_CORRUPT,
             "%s: bytes %" PRIu64 " to %" PRIu64 ": %s; zeros stand in for them in the archive",
             cli_quote(t->plain, q, sizeof q), off, off + len - 1, lfs_strerror(err));
}

/* A warning is about a name that is no UTF-8, which the archive then says of itself. */
static int put_header(struct tar *t, struct archive_entry *e)
{
    return archive_write_header(t->a, e) >= ARCHIVE_WARN ? LFS_EXIT_OK : out_failed(t);
}

static int put_content(struct tar *t, const struct walk_entry *e, struct archive_entry *entry)
{
    struct offline_read r = {.data = put_data, .damage = damaged, .zero_damaged = true, .arg = t};
    uint64_t size, bad = 0;
    int err = file_open(e->n, false);
    if (err)
        return offline_explain(t->o, e->n, e->plain, err);
    err = offline_size(t->o, e->n, e->plain, &size);
    if (err) {
        file_close(e->n);
        return offline_explain(t->o, e->n, e->plain, err);
    }
    int seal = offline_seal(t->o, e->n, e->plain);
    archive_entry_set_size(entry, (int64_t)size);
    tar_entry_map(entry, e->n, size);
    int code = put_header(t, entry);
    if (code == LFS_EXIT_OK)
        err = offline_read(e->n, size, &r, &bad);
    file_close(e->n);
    if (code != LFS_EXIT_OK)
        return code;
    if (t->walk.stop || archive_write_finish_entry(t->a) < ARCHIVE_WARN)
        return out_failed(t);
    if (err)
        return offline_explain(t->o, e->n, e->plain, err);
    return bad ? LFS_EXIT_CORRUPT : seal;
}

/* Another name of a member that is in the archive. */
static bool is_link(struct tar *t, const struct walk_entry *e, struct archive_entry *entry)
{
    const struct link_entry *l =
        e->st.st_nlink > 1 && !S_ISDIR(e->st.st_mode) ? link_table_find(&t->links, node_ino(e->n)) : NULL;
    if (!l)
        return false;
    archive_entry_copy_hardlink(entry, l->path);
    archive_entry_unset_size(entry);
    return true;
}

static int remember(struct tar *t, const struct walk_entry *e)
{
    if (e->st.st_nlink < 2 || S_ISDIR(e->st.st_mode))
        return LFS_EXIT_OK;
    int r = link_table_add(&t->links, node_ino(e->n), e->plain, NULL);
    return r ? cli_fail_err(r, e->plain, NULL) : LFS_EXIT_OK;
}

static int attribute_failed(const struct walk_entry *e, int err)
{
    char q[PATH_MAX];
    return cli_fail(lfs_exit_code(err),
                    "%s: an extended attribute can't be read: %s; the rest is in the archive",
                    cli_quote(e->plain, q, sizeof q), lfs_strerror(err));
}

static int put_member(struct tar *t, const struct walk_entry *e, struct archive_entry *entry)
{
    char target[SYMLINK_PLAIN_MAX + 1];
    int r = tar_entry_attributes(entry, t->o->volume, e->n);
    int code = r ? attribute_failed(e, r) : LFS_EXIT_OK;
    if (S_ISLNK(e->st.st_mode)) {
        r = node_readlink(e->n, target);
        if (r)
            return offline_explain(t->o, e->n, e->plain, r);
        archive_entry_copy_symlink(entry, target);
    }
    int put = S_ISREG(e->st.st_mode) ? put_content(t, e, entry) : put_header(t, entry);
    return offline_worse(code, put == LFS_EXIT_OK ? remember(t, e) : put);
}

static int enter(void *arg, const struct walk_entry *e)
{
    struct tar *t = arg;
    CLEANUP(entry_freep) struct archive_entry *entry = archive_entry_new();
    char q[PATH_MAX];
    t->plain = e->plain;
    if (!*e->plain) /* the root is where it is unpacked */
        return LFS_EXIT_OK;
    if (!entry)
        return cli_fail_err(-ENOMEM, e->plain, NULL);
    if (S_ISSOCK(e->st.st_mode)) {
        fprintf(stderr, "latch: %s: a socket; archives have none, left out\n",
                cli_quote(e->plain, q, sizeof q));
        return LFS_EXIT_OK;
    }
    tar_entry_stat(entry, &e->st, e->plain);
    int code = is_link(t, e, entry) ? put_header(t, entry) : put_member(t, e, entry);
    /* A directory of which an attribute could not be read is in the archive all the same. */
    return S_ISDIR(e->st.st_mode) && !t->walk.stop && code != LFS_EXIT_OK ? offline_walk_note(&t->walk, code)
                                                                          : code;
}

static int open_archive(struct tar *t)
{
    t->a = archive_write_new();
    /* Names are bytes; those that are UTF-8 are written as such whatever the locale is. */
    setlocale(LC_CTYPE, "C.UTF-8");
    if (!t->a || archive_write_set_format_pax(t->a) != ARCHIVE_OK ||
        archive_write_add_filter_none(t->a) != ARCHIVE_OK ||
        archive_write_open_fd(t->a, STDOUT_FILENO) != ARCHIVE_OK)
        return t->a ? out_failed(t) : cli_fail_err(-ENOMEM, "tar", NULL);
    return LFS_EXIT_OK;
}

static int write_tar(struct tar *t, const char *volume, const struct offline_options *opt, char **paths)
{
    static char *all[] = {(char *)(uintptr_t) "", NULL};
    int code = offline_open(volume, opt, t->o);
    if (code == LFS_EXIT_OK)
        code = open_archive(t);
    if (code != LFS_EXIT_OK)
        return code;
    t->walk = (struct offline_walk){.enter = enter, .arg = t};
    for (char **p = *paths ? paths : all; *p && !t->walk.stop; p++)
        code = offline_worse(code, offline_walk(t->o, *p, &t->walk));
    if (!t->walk.stop && archive_write_close(t->a) != ARCHIVE_OK)
        code = offline_worse(code, out_failed(t));
    return code;
}

static int run(int argc, char **argv)
{
    static const struct option options[] = {OFFLINE_OPTIONS, {0}};
    struct offline_options opt = {.salvage = true}; /* what is damaged is in the archive, and reported */
    AUTO_OFFLINE struct offline o = {.files.dirfd = -1};
    CLEANUP(tar_clear) struct tar t = {.o = &o};
    for (int c; (c = getopt_long(argc, argv, ":", options, NULL)) != -1;)
        if (!offline_option(&opt, c, optarg))
            return cli_bad_option(&cmd_tar, c, argv);
    int code = cli_want_args(&cmd_tar, argc, 1, INT_MAX);
    if (code != LFS_EXIT_OK)
        return code;
    if (isatty(STDOUT_FILENO))
        return cli_fail(LFS_EXIT_USAGE,
                        "an archive is not for a terminal; write it into a file with '> out.tar'");
    return write_tar(&t, argv[optind], &opt, argv + optind + 1);
}

const struct command cmd_tar = {
    .name = "tar",
    .synopsis = "[OPTION]... VOLUME [PATH]... > out.tar",
    .summary = "write files of a volume, or of a copy of one, as a tar archive",
    .help = "The archive goes to standard output, in pax format, with extended attributes, ACLs and holes. "
            "Each PATH\n"
            "is a plaintext path below the volume's root; without one, everything is taken. What can't be "
            "read of a\n"
            "file is zeros in the archive and reported.\n" OFFLINE_HELP "\n" OPENING_HELP,
    .run = run,
};
