/* latch path: from plaintext paths to ciphertext paths and back. */
#include "cli.h"
#include "mount_ref.h"
#include "mount_table.h"
#include "offline.h"
#include "show_name.h"

#include "latchfs/buf.h"
#include "latchfs/keystore.h"
#include "latchfs/mountctl.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct translation {
    bool to_plain, zero, relative;
    const char *volume; /* --volume, or NULL: each path says where it is */
    struct offline_options opt;
    struct offline off;      /* of a volume that is not mounted */
    char off_path[PATH_MAX]; /* its path, "" until it is open */
    struct mount_ref at;     /* what --volume names, if that is mounted */
    bool at_mounted;
};

/* ---- paths ---- */

/* Names with one slash between them, out of what a user writes. 0, -EINVAL for "..", -ENAMETOOLONG. */
static int clean(const char *path, char out[static PATH_MAX])
{
    size_t used = 0;
    for (size_t len; *path; path += len + (path[len] == '/')) {
        len = strcspn(path, "/");
        if (len == 0 || (len == 1 && path[0] == '.'))
            continue;
        if (len == 2 && path[0] == '.' && path[1] == '.')
            return -EINVAL;
        if (used + len + 2 > PATH_MAX)
            return -ENAMETOOLONG;
        if (used)
            out[used++] = '/';
        memcpy(out + used, path, len);
        used += len;
    }
    out[used] = '\0';
    return 0;
}

/* What is behind top, or NULL. */
static const char *below(const char *path, const char *top)
{
    size_t n = strlen(top);
    if (strncmp(path, top, n) != 0 || (path[n] && path[n] != '/'))
        return NULL;
    return path + n;
}

static int bad_path(const char *path, const char *why)
{
    char quoted[PATH_MAX];
    return cli_fail(LFS_EXIT_USAGE, "%s: %s", cli_quote(path, quoted, sizeof quoted), why);
}

/* ---- output ---- */

static void show(const struct translation *t, const char *top, const char *rel)
{
    char path[2 * PATH_MAX];
    if (t->relative || !top)
        snprintf(path, sizeof path, "%s", *rel ? rel : ".");
    else
        snprintf(path, sizeof path, "%s%s%s", top, *rel ? "/" : "", rel);
    if (t->zero)
        fwrite(path, 1, strlen(path) + 1, stdout);
    else {
        show_name(path, stdout);
        putchar('\n');
    }
}

static int explain(const char *path, int err)
{
    const char *hint = err == LFS_ERR_NOKEY ? "unlock it first"
                       : err == LFS_ERR_AUTH || err == LFS_ERR_CORRUPT
                           ? "its name is not one that this volume gave in this directory"
                           : NULL;
    return cli_fail_err(err, path, hint);
}

/* ---- mounted ---- */

static int by_mount(const struct translation *t, const struct mount_ref *m, const char *path, const char *rel)
{
    char in[PATH_MAX], out[PATH_MAX];
    int r = clean(rel, in);
    if (!r)
        r = t->to_plain ? mountctl_plain_path(m->socket, in, out) : mountctl_cipher_path(m->socket, in, out);
    if (r)
        return explain(path, r);
    show(t, t->to_plain ? m->mountpoint : m->volume, out);
    return LFS_EXIT_OK;
}

/* ---- not mounted ---- */

static int open_offline(struct translation *t, const char *volume)
{
    if (t->off_path[0])
        return strcmp(t->off_path, volume) == 0
                   ? LFS_EXIT_OK
                   : bad_path(volume, "another volume than the one before; ask for it in a call of its own");
    int code = offline_open(volume, &t->opt, &t->off);
    if (code == LFS_EXIT_OK)
        snprintf(t->off_path, sizeof t->off_path, "%s", volume);
    return code;
}

static int offline_cipher(struct translation *t, const char *path)
{
    char in[PATH_MAX], out[PATH_MAX];
    struct node *n;
    int r = clean(path, in);
    if (r)
        return explain(path, r);
    int code = offline_lookup(&t->off, in, &n);
    if (code != LFS_EXIT_OK)
        return code;
    r = node_cipher_path(n, out, sizeof out);
    node_unref(n, 1);
    if (r)
        return explain(path, r);
    show(t, t->off_path, out);
    return LFS_EXIT_OK;
}

static int offline_plain(struct translation *t, const char *path, const char *rel)
{
    char in[PATH_MAX], out[PATH_MAX];
    int r = clean(rel, in);
    if (!r)
        r = volume_find_cipher(t->off.volume, in, NULL, out, sizeof out);
    if (r)
        return explain(path, r);
    show(t, NULL, out);
    return LFS_EXIT_OK;
}

/* ---- which volume ---- */

/* A directory with a key store, from path up. */
static bool find_volume(const char *path, char out[static PATH_MAX])
{
    char file[PATH_MAX + sizeof KEYSTORE_NAME];
    snprintf(out, PATH_MAX, "%s", path);
    for (char *slash = out; slash; *slash = '\0') {
        snprintf(file, sizeof file, "%s/" KEYSTORE_NAME, out);
        if (access(file, F_OK) == 0)
            return true;
        slash = strrchr(out, '/');
        if (!slash)
            break;
    }
    return false;
}

/* The path alone says it. */
static int by_place(struct translation *t, const char *path)
{
    char full[PATH_MAX], top[PATH_MAX];
    struct mount_ref m;
    const char *rel;
    int r = mount_point_path(path, full);
    if (r)
        return cli_fail_err(r, path, NULL);
    r = t->to_plain ? mount_ref_of_volume(full, &m, &rel) : mount_ref_of_path(full, &m, &rel);
    if (!r)
        return by_mount(t, &m, path, rel);
    if (r != -ENOENT)
        return cli_fail_err(r, "the mounts", NULL);
    if (!t->to_plain)
        return bad_path(path, "in no mount of yours that answers; name an unmounted volume with --volume");
    if (!find_volume(full, top))
        return bad_path(path, "in no volume; name it with --volume");
    int code = open_offline(t, top);
    return code != LFS_EXIT_OK ? code : offline_plain(t, path, full + strlen(top));
}

/* Relative to the volume, and absolute below it or below its mount point. */
static int by_volume(struct translation *t, const char *path)
{
    char full[PATH_MAX];
    const char *volume = t->at_mounted ? t->at.volume : t->off_path, *rel = path;
    if (path[0] == '/' && t->to_plain) {
        int r = mount_point_path(path, full);
        rel = r ? NULL : below(full, volume);
        if (!rel)
            return r ? cli_fail_err(r, path, NULL) : bad_path(path, "not in the volume");
    } else if (path[0] == '/' && t->at_mounted && below(path, t->at.mountpoint)) {
        rel = below(path, t->at.mountpoint);
    }
    if (t->at_mounted)
        return by_mount(t, &t->at, path, rel);
    return t->to_plain ? offline_plain(t, path, rel) : offline_cipher(t, rel);
}

static int translate(struct translation *t, const char *path)
{
    return t->volume ? by_volume(t, path) : by_place(t, path);
}

static int find_named_volume(struct translation *t)
{
    char path[PATH_MAX];
    const char *rel;
    if (!realpath(t->volume, path))
        return cli_fail_err(-errno, t->volume, NULL);
    t->at_mounted = (mount_ref_of_path(path, &t->at, &rel) == 0 && !*rel) ||
                    (mount_ref_of_volume(path, &t->at, &rel) == 0 && !*rel);
    return t->at_mounted ? LFS_EXIT_OK : open_offline(t, path);
}

/* ---- the command ---- */

static int translate_input(struct translation *t, int code)
{
    AUTO_FREE char *line = NULL;
    size_t cap = 0;
    for (ssize_t n; (n = getdelim(&line, &cap, t->zero ? '\0' : '\n', stdin)) > 0;) {
        if (line[n - 1] == (t->zero ? '\0' : '\n'))
            line[n - 1] = '\0';
        if (*line)
            code = offline_worse(code, translate(t, line));
    }
    return ferror(stdin) ? cli_fail(LFS_EXIT_IO, "cannot read standard input") : code;
}

static int translate_all(struct translation *t, char **paths)
{
    int code = t->volume ? find_named_volume(t) : LFS_EXIT_OK;
    if (code != LFS_EXIT_OK)
        return code;
    for (; *paths; paths++)
        code =
            strcmp(*paths, "-") == 0 ? translate_input(t, code) : offline_worse(code, translate(t, *paths));
    return code;
}

static void translation_clear(struct translation *t)
{
    offline_clear(&t->off);
}

static int run(int argc, char **argv)
{
    enum { OPT_CIPHER = OPT_OFFLINE_NEXT, OPT_PLAIN, OPT_VOLUME, OPT_RELATIVE };
    static const struct option options[] = {
        OFFLINE_OPTIONS,
        {"cipher", no_argument, NULL, OPT_CIPHER},
        {"plain", no_argument, NULL, OPT_PLAIN},
        {"volume", required_argument, NULL, OPT_VOLUME},
        {"relative", no_argument, NULL, OPT_RELATIVE},
        {0},
    };
    CLEANUP(translation_clear) struct translation t = {.off.files.dirfd = -1};
    bool cipher = false;
    for (int c; (c = getopt_long(argc, argv, ":0", options, NULL)) != -1;) {
        if (c == OPT_CIPHER)
            cipher = true;
        else if (c == OPT_PLAIN)
            t.to_plain = true;
        else if (c == OPT_VOLUME)
            t.volume = optarg;
        else if (c == OPT_RELATIVE)
            t.relative = true;
        else if (c == '0')
            t.zero = true;
        else if (!offline_option(&t.opt, c, optarg))
            return cli_bad_option(&cmd_path, c, argv);
    }
    if (cipher == t.to_plain)
        return cli_fail(LFS_EXIT_USAGE, "say --cipher for plaintext paths, or --plain for ciphertext paths");
    int code = cli_want_args(&cmd_path, argc, 1, INT_MAX);
    return code == LFS_EXIT_OK ? translate_all(&t, argv + optind) : code;
}

const struct command cmd_path = {
    .name = "path",
    .synopsis = "--cipher|--plain [OPTION]... PATH...|-",
    .summary = "translate between plaintext and ciphertext paths",
    .help =
        "A path below a mount or in the volume of one is translated by that mount. For a volume that is not\n"
        "mounted a slot is opened. The record of a directory stands for the directory, the file beside a "
        "long\n"
        "name or link for what it belongs to. '-' reads paths from standard input, one a line.\n"
        "  --cipher                  print the ciphertext path of each plaintext path\n"
        "  --plain                   print the plaintext path of each ciphertext path\n"
        "  --volume VOLUME           the volume (or its mount point) that relative paths begin in\n"
        "  --relative                print paths relative to the volume or the mount point\n"
        "  -0                        paths end with NUL, in input and output\n" OFFLINE_HELP OPENING_HELP,
    .run = run,
};
