/* latch shred: ends a protected directory by ending its keys. */
#include "admin.h"
#include "cli.h"
#include "target.h"

#include "latchfs/keyedit.h"

#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char reach[] = "This destroys the keys of the protected directory. Its files stay as ciphertext "
                            "that the volume cannot open\n"
                            "any more.\n";
static const char reach_held[] = "Part of its key was with this latch-keyd alone and is overwritten, so "
                                 "every copy of the directory ends:\n"
                                 "snapshots and backups too.\n"
                                 "It does not reach: copies of latch-keyd's state directory (a backup of it, "
                                 "a snapshot, blocks that a solid\n"
                                 "state disk or a copy-on-write file system kept), plaintext that programs "
                                 "read or copied elsewhere, and what\n"
                                 "is in the memory of programs now.\n";
static const char reach_plain[] =
    "It does not reach: older copies of latchfs.ini (latchfs.ini.bak, header backups, backups of the "
    "volume), which\n"
    "open the directory still for whoever has a slot of that time; plaintext that programs read or copied\n"
    "elsewhere; and what is in the memory of programs now.\n";

struct shred_args {
    struct cred_source open;
    const char *dir;
    bool yes;
};

/* What is meant: the path of the top, or the id where the volume was given. */
static const char *words(const struct target *t, char *out, size_t len)
{
    char hex[2 * ID_BYTES + 1];
    id_to_hex(t->pd_id, hex);
    if (t->rel)
        return cli_quote(t->path, out, len);
    snprintf(out, len, "directory %s", hex);
    return out;
}

static int confirm(const struct target *t)
{
    char answer[16] = "", quoted[PATH_MAX];
    printf("Type 'shred' to destroy the keys of %s: ", words(t, quoted, sizeof quoted));
    fflush(stdout);
    if (isatty(STDIN_FILENO) && fgets(answer, sizeof answer, stdin) && strcmp(answer, "shred\n") == 0)
        return LFS_EXIT_OK;
    return cli_fail(LFS_EXIT_USAGE, "nothing was done%s",
                    isatty(STDIN_FILENO) ? "" : ": without a terminal, --yes confirms");
}

/* Where its ciphertext is: the plaintext directory has the inode number of the ciphertext's. */
static struct {
    ino_t ino;
    char found[PATH_MAX];
} search;

static int visit(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)ftw;
    if (type != FTW_D || st->st_ino != search.ino)
        return 0;
    snprintf(search.found, sizeof search.found, "%s", path);
    return 1;
}

static void say_ciphertext(const struct target *t)
{
    struct stat st;
    char quoted[PATH_MAX];
    if (stat(t->path, &st))
        return;
    search.ino = st.st_ino;
    if (nftw(t->volume, visit, 64, FTW_PHYS | FTW_MOUNT) == 1)
        printf("its ciphertext is %s; once the volume is unmounted, rm -r removes it\n",
               cli_quote(search.found, quoted, sizeof quoted));
}

static int not_the_top(struct target *t)
{
    char quoted[PATH_MAX], top[PATH_MAX];
    cli_quote(t->path, quoted, sizeof quoted);
    target_to_top(t);
    return cli_fail(LFS_EXIT_USAGE,
                    "%s is a part of a protected directory, and only all of it can be shredded: %s", quoted,
                    cli_quote(t->path, top, sizeof top));
}

static int shred(const struct shred_args *a, struct target *t)
{
    AUTO_ADMIN struct admin admin = {0};
    char quoted[PATH_MAX];
    struct key_edit e = {.op = EDIT_DIR_SHRED};
    const struct keystore_dir *d = keystore_dir(t->v.ks, t->pd_id);
    if (t->rel && !t->top && !target_is_root(t))
        return not_the_top(t);
    if (target_is_root(t) || !d)
        return cli_fail(LFS_EXIT_USAGE,
                        "%s: not in a protected directory; the root's own keys can't be shredded",
                        cli_quote(t->path, quoted, sizeof quoted));
    if (d->shredded) /* it may have been cut before the last step */
        return volume_files_drop_bak(&t->v) == LFS_EXIT_OK
                   ? cli_fail(LFS_EXIT_USAGE, "its keys were shredded before")
                   : LFS_EXIT_IO;
    bool held = d->held;
    memcpy(e.pd, t->pd_id, ID_BYTES);
    printf("%s%s", reach, held ? reach_held : reach_plain);
    fflush(stdout);
    int code = a->yes ? LFS_EXIT_OK : confirm(t);
    if (code == LFS_EXIT_OK)
        code = admin_begin(&t->v, &a->open, &admin);
    if (code == LFS_EXIT_OK)
        code = admin_edit(&admin, &e, NULL);
    if (code == LFS_EXIT_OK)
        code = volume_files_drop_bak(&t->v);
    if (code == LFS_EXIT_OK)
        printf("%s: shredded\n", words(t, quoted, sizeof quoted));
    if (code == LFS_EXIT_OK && t->rel)
        say_ciphertext(t);
    return code;
}

static int run(int argc, char **argv)
{
    enum { OPT_DIR = OPT_NEXT, OPT_YES };
    static const struct option options[] = {
        OPENING_OPTIONS, {"dir", required_argument, NULL, OPT_DIR}, {"yes", no_argument, NULL, OPT_YES}, {0}};
    struct shred_args a = {0};
    AUTO_TARGET struct target t = {.v.dirfd = -1};
    for (int c; (c = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        if (c == OPT_DIR)
            a.dir = optarg;
        else if (c == OPT_YES)
            a.yes = true;
        else if (!cred_source_option(&a.open, c, optarg))
            return cli_bad_option(&cmd_shred, c, argv);
    }
    int code = cli_want_args(&cmd_shred, argc, 1, 1);
    if (code == LFS_EXIT_OK)
        code = target_find(argv[optind], &t);
    if (code == LFS_EXIT_OK && a.dir)
        code = target_choose(&t, a.dir);
    return code == LFS_EXIT_OK ? shred(&a, &t) : code;
}

const struct command cmd_shred = {
    .name = "shred",
    .synopsis = "[OPTION]... PATH | --dir NAME|ID VOLUME",
    .summary = "destroy the keys of a protected directory for good",
    .help = "Says what it reaches and what not, and asks. Policy may demand the approval of others.\n"
            "  --dir NAME|ID             a protected directory of VOLUME\n"
            "  --yes                     do not ask\n"
            "\n" OPENING_HELP,
    .run = run,
};
