/* latch cat: files of a volume that is not mounted, to standard output. */
#include "cli.h"
#include "offline.h"
#include "offline_read.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

struct cat {
    const char *path;
    bool zero_damaged;
    bool stop; /* standard output takes no more */
};

static int put(void *arg, const void *buf, size_t len, uint64_t off)
{
    struct cat *c = arg;
    (void)off;
    if (fwrite(buf, 1, len, stdout) == len)
        return 0;
    c->stop = true;
    return -EPIPE;
}

static void damaged(void *arg, uint64_t off, uint64_t len, int err)
{
    const struct cat *c = arg;
    char q[PATH_MAX];
    cli_fail(LFS_EXIT_CORRUPT, "%s: bytes %" PRIu64 " to %" PRIu64 ": %s%s", cli_quote(c->path, q, sizeof q),
             off, off + len - 1, lfs_strerror(err), c->zero_damaged ? "; zeros stand in for them" : "");
}

static int cat_node(struct offline *o, struct cat *c, struct node *n)
{
    struct offline_read r = {.data = put, .damage = damaged, .zero_damaged = c->zero_damaged, .arg = c};
    uint64_t size, bad = 0;
    char q[PATH_MAX];
    if (!S_ISREG(node_type(n)))
        return cli_fail(LFS_EXIT_IO, "%s: %s, not a file", cli_quote(c->path, q, sizeof q),
                        S_ISDIR(node_type(n))   ? "a directory"
                        : S_ISLNK(node_type(n)) ? "a symbolic link"
                                                : "a special file");
    int e = file_open(n, false);
    if (e)
        return offline_explain(o, n, c->path, e);
    int code = offline_seal(o, n, c->path);
    if (code != LFS_EXIT_OK && !c->zero_damaged) {
        file_close(n);
        return code;
    }
    e = offline_size(o, n, c->path, &size);
    if (!e)
        e = offline_read(n, size, &r, &bad);
    file_close(n);
    if (c->stop)
        return LFS_EXIT_IO; /* main says it */
    if (e)
        return offline_explain(o, n, c->path, e);
    if (bad && !c->zero_damaged)
        cli_fail(LFS_EXIT_CORRUPT, "%s: cut at the first of them; --zero-damaged writes the rest too",
                 cli_quote(c->path, q, sizeof q));
    return bad ? LFS_EXIT_CORRUPT : code;
}

static int cat_all(const char *volume, const struct offline_options *opt, bool zero_damaged, char **paths)
{
    AUTO_OFFLINE struct offline o = {.files.dirfd = -1};
    struct cat c = {.zero_damaged = zero_damaged};
    int code = offline_open(volume, opt, &o);
    if (code != LFS_EXIT_OK)
        return code;
    for (; *paths && !c.stop; paths++) {
        struct node *n;
        c.path = *paths;
        int one = offline_lookup(&o, c.path, &n);
        if (one == LFS_EXIT_OK) {
            one = cat_node(&o, &c, n);
            node_unref(n, 1);
        }
        code = offline_worse(code, one);
    }
    return code;
}

static int run(int argc, char **argv)
{
    enum { OPT_ZERO = OPT_OFFLINE_NEXT };
    static const struct option options[] = {
        OFFLINE_OPTIONS,
        {"zero-damaged", no_argument, NULL, OPT_ZERO},
        {0},
    };
    struct offline_options opt = {0};
    bool zero = false;
    for (int c; (c = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        if (c == OPT_ZERO)
            zero = opt.salvage = true;
        else if (!offline_option(&opt, c, optarg))
            return cli_bad_option(&cmd_cat, c, argv);
    }
    int code = cli_want_args(&cmd_cat, argc, 2, INT_MAX);
    return code == LFS_EXIT_OK ? cat_all(argv[optind], &opt, zero, argv + optind + 1) : code;
}

const struct command cmd_cat = {
    .name = "cat",
    .synopsis = "[OPTION]... VOLUME PATH...",
    .summary = "write files of a volume, or of a copy of one, to standard output",
    .help = "PATH is a plaintext path below the volume's root. The volume is not mounted, and may be a "
            "backup of one\n"
            "or a part of that. A file that is damaged is written up to the damage.\n"
            "  --zero-damaged            write zeros for what can't be read, and the rest of the "
            "file\n" OFFLINE_HELP "\n" OPENING_HELP,
    .run = run,
};
