#include "fs/view/options.h"

#include "latchfs/err.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char options_usage[] =
    "usage: latchfs-view [OPTION]... PLAIN-DIR MOUNTPOINT\n"
    "\n"
    "Mounts a read-only encrypted view of the directory PLAIN-DIR on MOUNTPOINT. Its keys are unlocked at\n"
    "latch-keyd already; 'latch view' does both.\n"
    "\n"
    "      --config FILE         the key store (default: PLAIN-DIR/.latchfs-view.ini)\n"
    "      --exclude PATTERN     leave out what fits; may be given again\n"
    "      --exclude-from FILE   the same for every line of FILE\n"
    "      --one-file-system     show directories of other file systems as empty\n"
    "  -o allow_other            let other users in\n"
    "  -o inodes=N               give back inodes that nobody uses above this many (default: 131072)\n"
    "  -o keyd-socket=PATH       socket of latch-keyd\n"
    "  -o fsname=NAME            name in the mount table (default: PLAIN-DIR)\n"
    "  -f, --foreground          do not go into the background\n"
    "  -h, --help\n"
    "  -V, --version\n";

struct parser {
    struct options *o;
    char *error;
    size_t size;
};

__attribute__((format(printf, 3, 4))) static int refuse(struct parser *p, int err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(p->error, p->size, fmt, ap);
    va_end(ap);
    return err;
}

static int set_text(char **to, const char *value)
{
    char *copy = strdup(value);
    if (!copy)
        return -ENOMEM;
    free(*to);
    *to = copy;
    return 0;
}

static int set_inodes(struct parser *p, const char *value)
{
    char *end;
    unsigned long n = strtoul(value, &end, 10);
    if (value[0] < '1' || value[0] > '9' || *end || n > 1000000000)
        return refuse(p, LFS_ERR_MISUSE, "inodes: a number from 1 to 1000000000 is needed");
    p->o->inodes = n;
    return 0;
}

static int take_mount_option(struct parser *p, char *word)
{
    char *value = strchr(word, '=');
    if (value)
        *value++ = '\0';
    if (value && *value && strcmp(word, "keyd-socket") == 0)
        return set_text(&p->o->keyd_socket, value);
    if (value && *value && strcmp(word, "fsname") == 0)
        return set_text(&p->o->fsname, value);
    if (value && strcmp(word, "inodes") == 0)
        return set_inodes(p, value);
    if (!value && strcmp(word, "allow_other") == 0)
        p->o->allow_other = true;
    else if (value || strcmp(word, "ro") != 0) /* it is in any case */
        return refuse(p, LFS_ERR_MISUSE, "unknown mount option, or one without its value: '%s'", word);
    return 0;
}

static int take_mount_options(struct parser *p, char *list)
{
    char *save = NULL;
    int r = 0;
    for (char *word = strtok_r(list, ",", &save); word && !r; word = strtok_r(NULL, ",", &save))
        r = take_mount_option(p, word);
    return r;
}

static int take_pattern(struct parser *p, const char *pattern)
{
    int r = exclude_add(&p->o->exclude, pattern);
    return r == LFS_ERR_MISUSE
               ? refuse(p, r, "--exclude: a pattern has no '!' in front, no '**', no '.' or '..': '%s'",
                        pattern)
               : r;
}

static int take_patterns(struct parser *p, const char *path)
{
    unsigned line;
    int r = exclude_add_file(&p->o->exclude, path, &line);
    if (r && line)
        return refuse(p, r, "%s: line %u: %s", path, line,
                      r == LFS_ERR_MISUSE ? "a pattern has no '!' in front, no '**', no '.' or '..'"
                                          : lfs_strerror(r));
    return r ? refuse(p, r, "%s: %s", path, lfs_strerror(r)) : 0;
}

enum { OPT_CONFIG = 256, OPT_EXCLUDE, OPT_EXCLUDE_FROM, OPT_ONE_FS };

static int take(struct parser *p, int c, char **argv)
{
    struct options *o = p->o;
    switch (c) {
    case OPT_CONFIG:
        o->config = optarg;
        return 0;
    case OPT_EXCLUDE:
        return take_pattern(p, optarg);
    case OPT_EXCLUDE_FROM:
        return take_patterns(p, optarg);
    case OPT_ONE_FS:
        o->one_file_system = true;
        return 0;
    case 'o':
        return take_mount_options(p, optarg);
    case 'f':
        o->foreground = true;
        return 0;
    case 'h':
        o->act = OPTIONS_HELP;
        return 0;
    case 'V':
        o->act = OPTIONS_VERSION;
        return 0;
    default:
        return refuse(p, LFS_ERR_MISUSE, "unknown option, or one without its value: '%s'; see --help",
                      argv[optind - 1]);
    }
}

int options_parse(int argc, char **argv, struct options *out, char *error, size_t size)
{
    static const struct option table[] = {
        {"config", required_argument, NULL, OPT_CONFIG},
        {"exclude", required_argument, NULL, OPT_EXCLUDE},
        {"exclude-from", required_argument, NULL, OPT_EXCLUDE_FROM},
        {"one-file-system", no_argument, NULL, OPT_ONE_FS},
        {"foreground", no_argument, NULL, 'f'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {0},
    };
    *out = (struct options){0};
    struct parser p = {out, error, size};
    int r = 0;
    opterr = 0;
    error[0] = '\0';
    for (int c; !r && (c = getopt_long(argc, argv, ":o:fhV", table, NULL)) != -1;)
        r = take(&p, c, argv);
    if (r || out->act != OPTIONS_MOUNT)
        return r;
    if (argc - optind != 2)
        return refuse(&p, LFS_ERR_MISUSE, "a plain directory and a mount point are needed; see --help");
    out->plain = argv[optind];
    out->mountpoint = argv[optind + 1];
    return 0;
}

void options_clear(struct options *o)
{
    free(o->keyd_socket);
    free(o->fsname);
    exclude_free(o->exclude);
    *o = (struct options){0};
}
