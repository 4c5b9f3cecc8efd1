/* latch protect: gives an empty directory of a mounted volume a key of its own. */
#include "admin.h"
#include "cli.h"
#include "target.h"

#include "latchfs/keyedit.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct protect_args {
    struct cred_source open;
    const char *name;
    const char *use; /* a key made before */
    bool held;
};

static int check_empty(const char *path)
{
    char quoted[PATH_MAX];
    struct stat st;
    cli_quote(path, quoted, sizeof quoted);
    if (lstat(path, &st))
        return cli_fail_err(-errno, path, NULL);
    if (!S_ISDIR(st.st_mode))
        return cli_fail(LFS_EXIT_USAGE, "%s: not a directory", quoted);
    DIR *d = opendir(path);
    if (!d)
        return cli_fail_err(-errno, path, NULL);
    bool empty = true;
    for (const struct dirent *e; empty && (e = readdir(d));)
        empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
    closedir(d);
    if (empty)
        return LFS_EXIT_OK;
    return cli_fail(LFS_EXIT_USAGE,
                    "%s: not empty; protect a new directory and move the files into it (mv copies them)",
                    quoted);
}

static int check(const struct target *t)
{
    char quoted[PATH_MAX];
    cli_quote(t->path, quoted, sizeof quoted);
    if (!t->mounted || !t->rel)
        return cli_fail(LFS_EXIT_USAGE, "%s: protect a directory inside a mount of the volume", quoted);
    if (!*t->rel)
        return cli_fail(LFS_EXIT_USAGE, "%s: the root of the volume has a key of its own already", quoted);
    if (t->top)
        return cli_fail(LFS_EXIT_USAGE, "%s: it has a key of its own already", quoted);
    if (t->locked)
        return cli_fail(LFS_EXIT_NOKEY, "%s: locked; unlock it with 'latch unlock'", quoted);
    return check_empty(t->path);
}

/* Without --name the directory's own name serves, if a key may be called so. */
static const char *default_name(const struct target *t)
{
    const char *last = strrchr(t->path, '/') + 1;
    return keystore_label_ok(last) ? last : NULL;
}

static int make_key(const struct protect_args *a, struct target *t, uint8_t pd_id[static ID_BYTES])
{
    AUTO_ADMIN struct admin admin = {0};
    CLEANUP(key_edit_result_clear) struct key_edit_result made = {0};
    const struct key_edit add = {
        .op = EDIT_DIR_ADD, .label = a->name ? a->name : default_name(t), .held = a->held};
    int code = admin_begin(&t->v, &a->open, &admin);
    if (code == LFS_EXIT_OK)
        code = admin_edit(&admin, &add, &made);
    if (code == LFS_EXIT_OK)
        memcpy(pd_id, made.pd, ID_BYTES);
    return code;
}

static int protect(const struct protect_args *a, struct target *t)
{
    char hex[2 * ID_BYTES + 1], quoted[PATH_MAX];
    uint8_t pd_id[ID_BYTES];
    int code = LFS_EXIT_OK;
    if (a->use) {
        code = target_choose(t, a->use);
        memcpy(pd_id, t->pd_id, ID_BYTES);
    } else {
        code = make_key(a, t, pd_id);
    }
    if (code != LFS_EXIT_OK)
        return code;
    id_to_hex(pd_id, hex);
    cli_quote(t->path, quoted, sizeof quoted);
    int r = mountctl_protect(t->socket, t->rel, pd_id);
    if (r)
        return cli_fail(lfs_exit_code(r),
                        "%s: %s; its key was made and not used: 'latch protect --use %s %s' takes it", quoted,
                        lfs_strerror(r), hex, quoted);
    printf("%s: protected with key %s\n", quoted, hex);
    return LFS_EXIT_OK;
}

static int run(int argc, char **argv)
{
    enum { OPT_NAME = OPT_NEXT, OPT_USE, OPT_HELD };
    static const struct option options[] = {
        OPENING_OPTIONS,
        {"name", required_argument, NULL, OPT_NAME},
        {"use", required_argument, NULL, OPT_USE},
        {"held", no_argument, NULL, OPT_HELD},
        {0},
    };
    struct protect_args a = {0};
    AUTO_TARGET struct target t = {.v.dirfd = -1};
    for (int c; (c = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        if (c == OPT_NAME)
            a.name = optarg;
        else if (c == OPT_USE)
            a.use = optarg;
        else if (c == OPT_HELD)
            a.held = true;
        else if (!cred_source_option(&a.open, c, optarg))
            return cli_bad_option(&cmd_protect, c, argv);
    }
    int code = cli_want_args(&cmd_protect, argc, 1, 1);
    if (code == LFS_EXIT_OK && a.name && !keystore_label_ok(a.name))
        code = cli_fail(LFS_EXIT_USAGE, "a name has 1 to %u of A-Z a-z 0-9 . _ @ + - and inner blanks",
                        KEYSTORE_LABEL_MAX);
    if (code == LFS_EXIT_OK)
        code = target_find(argv[optind], &t);
    if (code == LFS_EXIT_OK)
        code = check(&t);
    return code == LFS_EXIT_OK ? protect(&a, &t) : code;
}

const struct command cmd_protect = {
    .name = "protect",
    .synopsis = "[OPTION]... PATH",
    .summary = "give an empty directory of a mounted volume a key of its own",
    .help =
        "Its subdirectories inherit it. It can then be locked, rotated, leased and shredded by itself. "
        "Renames\n"
        "and links into or out of it are refused with EXDEV, so that mv copies.\n"
        "  --name NAME               what to call it, for keyd.ini and 'latch key list'; else its own name.\n"
        "                            Without the keys of the volume nobody can read it\n"
        "  --held                    part of the key stays with latch-keyd alone: 'latch shred' then ends "
        "every\n"
        "                            copy, backups too. Without latch-keyd's state directory, or a backup "
        "of\n"
        "                            it, a backup of the volume does not open this directory\n"
        "  --use ID                  take a key that was made and not used\n"
        "\n" OPENING_HELP,
    .run = run,
};
