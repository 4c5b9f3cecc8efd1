/* latch inspect: what a ciphertext file is, by its name and its first bytes. */
#include "inspect.h"

#include "latchfs/buf.h"
#include "latchfs/dirrec.h"
#include "latchfs/io.h"
#include "latchfs/keystore.h"
#include "latchfs/name.h"
#include "latchfs/symlink.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAGIC_BYTES 8

int inspect_corrupt(const struct inspected *f, const char *why)
{
    fflush(stdout);
    return cli_fail(LFS_EXIT_CORRUPT, "%s: %s", f->path, why);
}

int inspect_fail(const struct inspected *f, int err)
{
    fflush(stdout);
    return cli_fail(lfs_exit_code(err), "%s: %s", f->path, lfs_strerror(err));
}

int inspect_fail_line(const struct inspected *f, int err, unsigned line)
{
    fflush(stdout);
    return cli_fail(lfs_exit_code(err), "%s: line %u: %s", f->path, line, lfs_strerror(err));
}

void inspect_line(const char *label, const char *fmt, ...)
{
    va_list ap;
    printf("%-20s ", label);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
}

void inspect_hex(const char *label, const uint8_t *bytes, size_t len)
{
    printf("%-20s ", label);
    for (size_t i = 0; i < len; i++)
        printf("%02x", bytes[i]);
    putchar('\n');
}

void inspect_id(const char *label, const uint8_t id[static 16])
{
    inspect_hex(label, id, ID_BYTES);
}

void inspect_time(const char *label, uint64_t seconds)
{
    time_t t = (time_t)seconds;
    struct tm tm;
    char text[64];
    if (seconds <= INT64_MAX && gmtime_r(&t, &tm) &&
        strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &tm))
        inspect_line(label, "%s", text);
    else
        inspect_line(label, "%llu", (unsigned long long)seconds);
}

/* ---- what is it ---- */

struct kind {
    const char *magic; /* 8 bytes at offset 0, or NULL: known by name only */
    int (*show)(const struct inspected *f);
};
static const struct kind content = {"LATCHFIL", inspect_file};
static const struct kind directory = {"LATCHDIR", inspect_dirrec};
static const struct kind journal = {"LATCHJNL", inspect_journal};
static const struct kind key_store = {"[volume]", inspect_keystore};
static const struct kind sidecar = {NULL, inspect_sidecar};
static const struct kind link_sidecar = {NULL, inspect_link_sidecar};

static const struct kind *kind_of_ours(const char *name)
{
    if (strcmp(name, KEYSTORE_NAME) == 0 || strcmp(name, KEYSTORE_BAK_NAME) == 0)
        return &key_store;
    if (strcmp(name, JOURNAL_NAME) == 0)
        return &journal;
    if (strcmp(name, DIRREC_NAME) == 0)
        return &directory;
    return strncmp(name, LONG_LINK_PREFIX, strlen(LONG_LINK_PREFIX)) == 0 ? &link_sidecar : NULL;
}

/* The name decides where it is one of a volume's; a file under another name (a copy) is known by its magic.
 */
static const struct kind *kind_of(const struct inspected *f)
{
    static const struct kind *const by_magic[] = {&content, &directory, &journal, &key_store};
    enum stored_kind stored = name_stored_kind(f->name);
    if (stored == STORED_NAME || stored == STORED_LONG)
        return &content;
    if (stored == STORED_LONG_SIDECAR)
        return &sidecar;
    const struct kind *ours = stored == STORED_OURS ? kind_of_ours(f->name) : NULL;
    for (size_t i = 0; !ours && i < sizeof by_magic / sizeof by_magic[0]; i++)
        if (memcmp(f->head, by_magic[i]->magic, MAGIC_BYTES) == 0)
            ours = by_magic[i];
    return ours;
}

static int show_regular(struct inspected *f)
{
    ssize_t n = io_pread(f->fd, f->head, sizeof f->head, 0);
    if (n < 0)
        return inspect_fail(f, (int)n);
    const struct kind *kind = kind_of(f);
    if (kind)
        return kind->show(f);
    return cli_fail(LFS_EXIT_NOTVOLUME, "%s: neither its name nor its first bytes are a latchfs volume's",
                    f->path);
}

static int show_opened(struct inspected *f)
{
    struct stat st;
    if (fstat(f->fd, &st))
        return inspect_fail(f, -errno);
    if (S_ISDIR(st.st_mode))
        return cli_fail(LFS_EXIT_USAGE, "%s: a directory; inspect the " DIRREC_NAME " in it", f->path);
    if (!S_ISREG(st.st_mode))
        return cli_fail(LFS_EXIT_USAGE, "%s: not a regular file or symbolic link", f->path);
    f->length = (uint64_t)st.st_size;
    return show_regular(f);
}

static int show(struct inspected *f, const char *dir)
{
    AUTO_CLOSE int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;
    if (dirfd < 0 || fstatat(dirfd, f->name, &st, AT_SYMLINK_NOFOLLOW))
        return inspect_fail(f, -errno);
    f->dirfd = dirfd;
    if (S_ISLNK(st.st_mode))
        return inspect_symlink(f);
    /* O_NONBLOCK: a FIFO must not hold us up before it is refused. */
    AUTO_CLOSE int fd = openat(dirfd, f->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return inspect_fail(f, -errno);
    f->fd = fd;
    return show_opened(f);
}

static int run(int argc, char **argv)
{
    static const struct option options[] = {{0}};
    char dir[PATH_MAX], base[PATH_MAX], quoted[PATH_MAX];
    int c = getopt_long(argc, argv, ":", options, NULL);
    if (c != -1)
        return cli_bad_option(&cmd_inspect, c, argv);
    int code = cli_want_args(&cmd_inspect, argc, 1, 1);
    if (code != LFS_EXIT_OK)
        return code;
    const char *path = argv[optind];
    if (strlen(path) >= sizeof dir)
        return cli_fail_err(-ENAMETOOLONG, "FILE", NULL);
    strcpy(dir, path);
    strcpy(base, path);
    struct inspected f = {.path = cli_quote(path, quoted, sizeof quoted), .name = basename(base), .fd = -1};
    return show(&f, dirname(dir));
}

const struct command cmd_inspect = {
    .name = "inspect",
    .synopsis = "FILE",
    .summary = "say what a file of a volume is, without any key",
    .help = "FILE is a file of the ciphertext directory or of a backup of it: an encrypted file or symbolic "
            "link,\n"
            "latchfs.dir, latchfs.ini, latchfs.journal or a sidecar. Nothing is authenticated: that needs "
            "keys.\n",
    .run = run,
};
