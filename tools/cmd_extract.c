/* latch extract: files and trees of a volume that is not mounted, into a directory. */
#include "cli.h"
#include "extract_links.h"
#include "extract_put.h"
#include "offline.h"
#include "offline_read.h"
#include "offline_walk.h"

#include "latchfs/io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

struct level {
    int fd;
    bool made; /* not there before: it gets the attributes of the volume's */
};

struct extract {
    struct offline *o;
    const char *to;
    int top;
    bool top_made, force, zero_damaged;
    struct level *level; /* [d]: the directory that entries at depth d go to */
    size_t levels;
    struct link_table links;
    struct offline_walk walk;
    unsigned unset; /* attributes that the filesystem does not take */
};

static void extract_clear(struct extract *x)
{
    link_table_clear(&x->links);
    free(x->level);
    lfs_close_fd(&x->top);
}

/* ---- errors ---- */

static int out_failed(struct extract *x, const char *plain, int err)
{
    char path[2 * PATH_MAX], q[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", x->to, plain);
    cli_quote(path, q, sizeof q);
    if (err == -ENOSPC || err == -EDQUOT || err == -EROFS || err == -EIO)
        x->walk.stop = true;
    if (err == -EEXIST || err == -ENOTDIR || err == -EISDIR)
        return cli_fail(LFS_EXIT_FAILURE, "%s: there is %s already%s", q,
                        err == -EEXIST   ? "something"
                        : err == -EISDIR ? "a directory"
                                         : "something that is no directory",
                        x->force ? "; remove it first" : "; --force replaces it");
    return cli_fail_err(err, path, NULL);
}

/* ---- what is made ---- */

static int attributes(struct extract *x, const struct walk_entry *e, int fd, int dirfd, const char *name)
{
    char q[PATH_MAX];
    int r = put_attributes(x->o->volume, e->n, &e->st, fd, dirfd, name, &x->unset);
    if (r == LFS_ERR_AUTH || r == LFS_ERR_CORRUPT)
        return cli_fail(LFS_EXIT_CORRUPT,
                        "%s: an extended attribute can't be read: %s; the rest was extracted",
                        cli_quote(*e->plain ? e->plain : "/", q, sizeof q), lfs_strerror(r));
    return r ? out_failed(x, e->plain, r) : LFS_EXIT_OK;
}

struct writing {
    struct extract *x;
    const struct walk_entry *e;
    int fd, err;
};

static int put_data(void *arg, const void *buf, size_t len, uint64_t off)
{
    struct writing *w = arg;
    return w->err = io_pwrite(w->fd, buf, len, off);
}

static int put_hole(void *arg, uint64_t off, uint64_t len)
{
    (void)arg, (void)off, (void)len;
    return 0; /* a new file is one hole */
}

static void damaged(void *arg, uint64_t off, uint64_t len, int err)
{
    const struct writing *w = arg;
    char q[PATH_MAX];
    cli_fail(LFS_EXIT_CORRUPT, "%s: bytes %" PRIu64 " to %" PRIu64 ": %s%s",
             cli_quote(w->e->plain, q, sizeof q), off, off + len - 1, lfs_strerror(err),
             w->x->zero_damaged ? "; zeros stand in for them" : "");
}

/* The content, whole or with zeros for what is damaged. */
static int fill(struct writing *w)
{
    struct extract *x = w->x;
    struct offline_read r = {
        .data = put_data, .hole = put_hole, .damage = damaged, .zero_damaged = x->zero_damaged, .arg = w};
    uint64_t size, bad = 0;
    char q[PATH_MAX];
    int code = offline_seal(x->o, w->e->n, w->e->plain);
    if (code != LFS_EXIT_OK && !x->zero_damaged)
        return code;
    int err = offline_size(x->o, w->e->n, w->e->plain, &size);
    if (!err)
        err = offline_read(w->e->n, size, &r, &bad);
    if (!err)
        err = w->err = io_ftruncate(w->fd, size);
    if (err)
        return w->err ? out_failed(x, w->e->plain, w->err) : offline_explain(x->o, w->e->n, w->e->plain, err);
    if (!bad)
        return code;
    if (!x->zero_damaged)
        cli_fail(LFS_EXIT_CORRUPT, "%s: damaged, left out; --zero-damaged keeps the rest of it",
                 cli_quote(w->e->plain, q, sizeof q));
    return LFS_EXIT_CORRUPT;
}

/* These make tmp. *keep: it is worth its name. */

static int make_file(struct extract *x, const struct walk_entry *e, int dirfd, const char *tmp, bool *keep)
{
    int r = file_open(e->n, false);
    if (r)
        return offline_explain(x->o, e->n, e->plain, r);
    AUTO_CLOSE int fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    struct writing w = {.x = x, .e = e, .fd = fd};
    int code = fd < 0 ? out_failed(x, e->plain, -errno) : fill(&w);
    file_close(e->n);
    *keep = code == LFS_EXIT_OK || (code == LFS_EXIT_CORRUPT && x->zero_damaged);
    return *keep ? offline_worse(code, attributes(x, e, fd, dirfd, tmp)) : code;
}

static int make_link(struct extract *x, const struct walk_entry *e, int dirfd, const char *tmp, bool *keep)
{
    char target[SYMLINK_PLAIN_MAX + 1];
    int r = node_readlink(e->n, target);
    if (r)
        return offline_explain(x->o, e->n, e->plain, r);
    *keep = symlinkat(target, dirfd, tmp) == 0;
    return *keep ? attributes(x, e, -1, dirfd, tmp) : out_failed(x, e->plain, -errno);
}

static int make_special(struct extract *x, const struct walk_entry *e, int dirfd, const char *tmp, bool *keep)
{
    *keep = mknodat(dirfd, tmp, e->st.st_mode & (S_IFMT | 0777), e->st.st_rdev) == 0;
    return *keep ? attributes(x, e, -1, dirfd, tmp) : out_failed(x, e->plain, -errno);
}

/* Another name of what was extracted before. False: make it anew. */
static bool make_hard_link(struct extract *x, const struct walk_entry *e, int dirfd, const char *tmp)
{
    const struct link_entry *l = e->st.st_nlink > 1 ? link_table_find(&x->links, node_ino(e->n)) : NULL;
    return l && put_link(x->top, l->path, &l->made, dirfd, tmp) == 0;
}

static int remember(struct extract *x, const struct walk_entry *e, int dirfd)
{
    struct stat st;
    if (e->st.st_nlink < 2 || link_table_find(&x->links, node_ino(e->n)) ||
        fstatat(dirfd, e->name, &st, AT_SYMLINK_NOFOLLOW))
        return LFS_EXIT_OK;
    int r = link_table_add(&x->links, node_ino(e->n), e->plain, &st);
    return r ? cli_fail_err(r, e->plain, NULL) : LFS_EXIT_OK;
}

/* Everything but directories. */
static int put_entry(struct extract *x, const struct walk_entry *e, int dirfd)
{
    char tmp[PUT_TMP_MAX];
    struct stat st;
    int code = LFS_EXIT_OK;
    if (!x->force && fstatat(dirfd, e->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return out_failed(x, e->plain, -EEXIST);
    put_tmp(tmp);
    bool keep = make_hard_link(x, e, dirfd, tmp);
    if (!keep)
        code = S_ISREG(e->st.st_mode)   ? make_file(x, e, dirfd, tmp, &keep)
               : S_ISLNK(e->st.st_mode) ? make_link(x, e, dirfd, tmp, &keep)
                                        : make_special(x, e, dirfd, tmp, &keep);
    if (!keep) {
        unlinkat(dirfd, tmp, 0);
        return code;
    }
    int r = put_place(dirfd, tmp, e->name, x->force);
    return offline_worse(code, r ? out_failed(x, e->plain, r) : remember(x, e, dirfd));
}

/* ---- directories ---- */

static int push(struct extract *x, size_t depth, int fd, bool made)
{
    if (depth >= x->levels) {
        size_t more = x->levels ? x->levels * 2 : 32;
        struct level *grown = realloc(x->level, more * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        x->level = grown;
        x->levels = more;
    }
    x->level[depth] = (struct level){fd, made};
    return 0;
}

static int enter_dir(struct extract *x, const struct walk_entry *e)
{
    bool made = x->top_made;
    int fd = *e->plain ? put_dir(x->level[e->depth].fd, e->name, x->force, &made)
                       : openat(x->top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return out_failed(x, e->plain, *e->plain ? fd : -errno);
    int r = push(x, e->depth + 1, fd, made);
    if (!r)
        return LFS_EXIT_OK;
    close(fd);
    return out_failed(x, e->plain, r);
}

static int enter(void *arg, const struct walk_entry *e)
{
    struct extract *x = arg;
    return S_ISDIR(e->st.st_mode) ? enter_dir(x, e) : put_entry(x, e, x->level[e->depth].fd);
}

/* Attributes and times last: what is put in it changes them, and they may forbid it. */
static int leave(void *arg, const struct walk_entry *e)
{
    struct extract *x = arg;
    struct level *l = &x->level[e->depth + 1];
    int code = LFS_EXIT_OK;
    if (l->made || x->force)
        code = attributes(x, e, l->fd, -1, "");
    lfs_close_fd(&l->fd);
    return code;
}

/* ---- paths ---- */

static int within(struct extract *x, char *path, size_t at, int dirfd);

/* The directory that path is now cut to, then what rest names in it. */
static int within_dir(struct extract *x, const struct walk_entry *e, char *path, char *slash, int dirfd)
{
    bool made;
    int fd = put_dir(dirfd, e->name, x->force, &made);
    if (fd < 0)
        return out_failed(x, path, fd);
    *slash = '/';
    int code = within(x, path, (size_t)(slash - path) + 1, fd);
    *slash = '\0';
    if (made)
        code = offline_worse(code, attributes(x, e, fd, -1, ""));
    close(fd);
    return code;
}

/* The directories above a path are made as the volume has them; the last one is level 0. Goes in before it
 * sets their attributes, which may forbid to. */
static int within(struct extract *x, char *path, size_t at, int dirfd)
{
    char *slash = strchr(path + at, '/');
    struct walk_entry e = {.plain = path, .name = path + at};
    if (!slash) {
        int r = push(x, 0, dirfd, false);
        return r ? out_failed(x, path, r) : offline_walk(x->o, path, &x->walk);
    }
    *slash = '\0';
    int code = offline_lookup(x->o, path, &e.n);
    if (code == LFS_EXIT_OK) {
        int r = node_getattr(e.n, &e.st);
        code = r ? offline_explain(x->o, e.n, path, r) : within_dir(x, &e, path, slash, dirfd);
        node_unref(e.n, 1);
    }
    *slash = '/';
    return code;
}

static int extract_path(struct extract *x, const char *path)
{
    char tidy[PATH_MAX];
    if (strlen(path) >= sizeof tidy)
        return cli_fail_err(-ENAMETOOLONG, path, NULL);
    offline_tidy(path, tidy);
    return within(x, tidy, 0, x->top);
}

/* ---- the directory it goes to ---- */

/* Not into the volume itself: nothing else belongs there. */
static int check_outside(const struct extract *x, const char *volume)
{
    char to[PATH_MAX], vol[PATH_MAX];
    size_t n;
    if (!realpath(x->to, to) || !realpath(volume, vol) || (n = strlen(vol), strncmp(to, vol, n) != 0) ||
        (to[n] != '/' && to[n] != '\0'))
        return LFS_EXIT_OK;
    return cli_fail(LFS_EXIT_USAGE, "--to names a directory in the volume; name one outside of it");
}

static int open_top(struct extract *x, const char *volume)
{
    char q[PATH_MAX];
    struct rlimit files;
    x->top_made = mkdir(x->to, 0700) == 0;
    x->top = open(x->to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (x->top < 0)
        return cli_fail(LFS_EXIT_IO, "%s: %s; --to wants a directory", cli_quote(x->to, q, sizeof q),
                        lfs_strerror(-errno));
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) { /* one for each level of a deep tree */
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    return check_outside(x, volume);
}

static int finish(struct extract *x, int code)
{
    if (x->unset)
        code = offline_worse(code, cli_fail(LFS_EXIT_IO,
                                            "%s: %u extended attributes were not taken by its filesystem",
                                            x->to, x->unset));
    if (syncfs(x->top))
        code = offline_worse(code, cli_fail_err(-errno, x->to, NULL));
    return code;
}

static int extract(struct extract *x, const char *volume, const struct offline_options *opt, char **paths)
{
    static char *all[] = {(char *)(uintptr_t) "", NULL};
    int code = offline_open(volume, opt, x->o);
    if (code == LFS_EXIT_OK)
        code = open_top(x, volume);
    if (code != LFS_EXIT_OK)
        return code;
    x->walk = (struct offline_walk){.enter = enter, .leave = leave, .arg = x};
    umask(0);
    for (char **p = *paths ? paths : all; *p && !x->walk.stop; p++)
        code = offline_worse(code, extract_path(x, *p));
    return finish(x, code);
}

/* ---- command line ---- */

static int run(int argc, char **argv)
{
    enum { OPT_TO = OPT_OFFLINE_NEXT, OPT_FORCE, OPT_ZERO };
    static const struct option options[] = {
        OFFLINE_OPTIONS,
        {"to", required_argument, NULL, OPT_TO},
        {"force", no_argument, NULL, OPT_FORCE},
        {"zero-damaged", no_argument, NULL, OPT_ZERO},
        {0},
    };
    struct offline_options opt = {0};
    AUTO_OFFLINE struct offline o = {.files.dirfd = -1};
    CLEANUP(extract_clear) struct extract x = {.o = &o, .top = -1};
    for (int c; (c = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        if (c == OPT_TO)
            x.to = optarg;
        else if (c == OPT_FORCE)
            x.force = true;
        else if (c == OPT_ZERO)
            x.zero_damaged = opt.salvage = true;
        else if (!offline_option(&opt, c, optarg))
            return cli_bad_option(&cmd_extract, c, argv);
    }
    int code = cli_want_args(&cmd_extract, argc, 1, INT_MAX);
    if (code != LFS_EXIT_OK)
        return code;
    if (!x.to)
        return cli_fail(LFS_EXIT_USAGE, "--to DIR says where the files go");
    return extract(&x, argv[optind], &opt, argv + optind + 1);
}

const struct command cmd_extract = {
    .name = "extract",
    .synopsis = "--to DIR [OPTION]... VOLUME [PATH]...",
    .summary = "copy files out of a volume, or out of a copy of one, that is not mounted",
    .help =
        "Each PATH, a plaintext path below the volume's root, goes to the same path below DIR; without one,\n"
        "everything does. The volume may be a backup of one or a part of that. Owners are set as root. A "
        "file\n"
        "that is damaged is reported with what can't be read of it and left out; the others are extracted.\n"
        "  --to DIR                  made if it is not there\n"
        "  --force                   replace what is there\n"
        "  --zero-damaged            keep damaged files, with zeros for what can't be read\n" OFFLINE_HELP
        "\n" OPENING_HELP,
    .run = run,
};
