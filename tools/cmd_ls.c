/* latch ls: names of a volume that is not mounted. */
#include "cli.h"
#include "offline.h"
#include "offline_walk.h"
#include "show_name.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

struct ls {
    struct offline *o;
    bool details, recursive, all;
    bool begun; /* something was printed */
};

/* ---- one line ---- */

static void mode_text(mode_t m, char out[static 11])
{
    static const char types[] = "?pc?d?b?-?l?s???";
    static const char bits[] = "rwxrwxrwx";
    out[0] = types[(m & S_IFMT) >> 12];
    for (int i = 0; i < 9; i++)
        out[1 + i] = m & (0400u >> i) ? bits[i] : '-';
    if (m & S_ISUID)
        out[3] = m & S_IXUSR ? 's' : 'S';
    if (m & S_ISGID)
        out[6] = m & S_IXGRP ? 's' : 'S';
    if (m & S_ISVTX)
        out[9] = m & S_IXOTH ? 't' : 'T';
    out[10] = '\0';
}

/* Numbers for owners: names here may be others than where the volume comes from. */
static void print_details(const struct stat *st)
{
    char mode[11], when[32], size[32];
    mode_text(st->st_mode, mode);
    cli_time(st->st_mtime, when, sizeof when);
    if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode))
        snprintf(size, sizeof size, "%u,%u", major(st->st_rdev), minor(st->st_rdev));
    else
        snprintf(size, sizeof size, "%lld", (long long)st->st_size);
    printf("%s %3lu %5u %5u %12s %s ", mode, (unsigned long)st->st_nlink, st->st_uid, st->st_gid, size, when);
}

static int print_target(struct offline *o, struct node *n, const char *plain)
{
    char target[SYMLINK_PLAIN_MAX + 1];
    int r = node_readlink(n, target);
    if (r) {
        fputc('\n', stdout);
        fflush(stdout);
        return offline_explain(o, n, plain, r);
    }
    fputs(" -> ", stdout);
    show_name(target, stdout);
    fputc('\n', stdout);
    return LFS_EXIT_OK;
}

static int print_entry(struct ls *l, struct node *n, const struct stat *st, const char *name,
                       const char *plain)
{
    if (l->details)
        print_details(st);
    show_name(name, stdout);
    if (l->details && S_ISLNK(st->st_mode))
        return print_target(l->o, n, plain);
    fputc('\n', stdout);
    return LFS_EXIT_OK;
}

/* ---- directories ---- */

static void plain_of(char out[static PATH_MAX], const char *dir, const char *name)
{
    int n = snprintf(out, PATH_MAX, "%s%s%s", dir, *dir ? "/" : "", name);
    (void)n; /* for messages: may be cut */
}

static int list_names(struct ls *l, struct node *dir, const char *plain, const struct name_list *names)
{
    int code = LFS_EXIT_OK;
    for (size_t i = 0; i < names->count; i++) {
        char path[PATH_MAX];
        struct node *n;
        struct stat st;
        if (!l->all && names->name[i][0] == '.')
            continue;
        if (!l->details) {
            show_name(names->name[i], stdout);
            fputc('\n', stdout);
            continue;
        }
        plain_of(path, plain, names->name[i]);
        fflush(stdout);
        int r = node_lookup(dir, names->name[i], &st, &n);
        if (r) {
            code = offline_worse(code, offline_explain_name(l->o, path, r));
            continue;
        }
        code = offline_worse(code, print_entry(l, n, &st, names->name[i], path));
        node_unref(n, 1);
    }
    return code;
}

static int list_dir(struct ls *l, struct node *dir, const char *plain)
{
    AUTO_NAMES struct name_list names = {0};
    int r = name_list_read(l->o, dir, &names);
    if (r)
        return offline_explain(l->o, dir, plain, r);
    if (l->recursive) {
        fputs(l->begun ? "\n" : "", stdout);
        show_name(*plain ? plain : "/", stdout);
        fputs(":\n", stdout);
    }
    l->begun = true;
    int code = list_names(l, dir, plain, &names);
    fflush(stdout);
    return l->recursive ? code : offline_worse(code, name_list_complain(&names, plain));
}

static int enter(void *arg, const struct walk_entry *e)
{
    struct ls *l = arg;
    if (!S_ISDIR(e->st.st_mode) || (e->depth && !l->all && e->name[0] == '.'))
        return WALK_SKIP;
    return list_dir(l, e->n, e->plain);
}

static int list(struct ls *l, const char *path)
{
    struct offline_walk walk = {.enter = enter, .arg = l};
    struct node *n;
    struct stat st;
    int code = offline_lookup(l->o, path, &n);
    if (code != LFS_EXIT_OK)
        return code;
    int r = node_getattr(n, &st);
    if (r)
        code = offline_explain(l->o, n, path, r);
    else if (!S_ISDIR(st.st_mode))
        code = print_entry(l, n, &st, path, path);
    else
        code = l->recursive ? offline_walk(l->o, path, &walk) : list_dir(l, n, path);
    node_unref(n, 1);
    return code;
}

static int run(int argc, char **argv)
{
    static const struct option options[] = {
        OFFLINE_OPTIONS,
        {"long", no_argument, NULL, 'l'},
        {"recursive", no_argument, NULL, 'R'},
        {"all", no_argument, NULL, 'a'},
        {0},
    };
    struct offline_options opt = {0};
    AUTO_OFFLINE struct offline o = {.files.dirfd = -1};
    struct ls l = {.o = &o};
    for (int c; (c = getopt_long(argc, argv, ":lRa", options, NULL)) != -1;) {
        if (c == 'l')
            l.details = true;
        else if (c == 'R')
            l.recursive = true;
        else if (c == 'a')
            l.all = true;
        else if (!offline_option(&opt, c, optarg))
            return cli_bad_option(&cmd_ls, c, argv);
    }
    int code = cli_want_args(&cmd_ls, argc, 1, 2);
    if (code == LFS_EXIT_OK)
        code = offline_open(argv[optind], &opt, &o);
    return code == LFS_EXIT_OK ? list(&l, argc - optind > 1 ? argv[optind + 1] : "") : code;
}

const struct command cmd_ls = {
    .name = "ls",
    .synopsis = "[-l] [-R] [-a] [OPTION]... VOLUME [PATH]",
    .summary = "list names of a volume, or of a copy of one, that is not mounted",
    .help = "PATH is a plaintext path below the volume's root. The volume may be a backup of one or a part "
            "of that.\n"
            "On a terminal, bytes that could steer it are shown as \\xNN.\n"
            "  -l, --long                mode, links, owner and group as numbers, size, time\n"
            "  -R, --recursive           everything below\n"
            "  -a, --all                 names that begin with a dot, too\n" OFFLINE_HELP "\n" OPENING_HELP,
    .run = run,
};
