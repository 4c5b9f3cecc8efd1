#include "fs/mount/options.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"

#include <errno.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char options_usage[] =
    "usage: latchfs VOLUME MOUNTPOINT [-o OPTION[,OPTION]...] [--foreground]\n"
    "\n"
    "Mounts the encrypted directory VOLUME on MOUNTPOINT.\n"
    "\n"
    "  -o passphrase-file=FILE   unlock the volume first, with 'latch unlock'\n"
    "  -o keyfile=FILE           the same with a key file\n"
    "  -o recovery-file=FILE     the same with a recovery key\n"
    "  -o identity=FILE          the same with a recipient's private key\n"
    "  -o command=NAME           the same with the slot of this command\n"
    "  -o keyd-socket=PATH       socket of latch-keyd\n"
    "  -o ro                     read only\n"
    "  -o writethrough           send every write to the file system at once\n"
    "  -o shared                 other mounts, with the same option, may change VOLUME too\n"
    "  -o allow_other            let other users in (default for root)\n"
    "  -o no_allow_other         do not\n"
    "  -o uring                  take requests by io_uring where the host has that switched on for FUSE\n"
    "  -o nonempty               mount over a directory that is not empty\n"
    "  -o ignore-journal         mount although the journal is missing or unreadable\n"
    "  -o seal-seconds=N         seal a file when it was idle for N seconds (default 30)\n"
    "  -o fsname=NAME            name in the mount table (default: VOLUME)\n"
    "  -o noexec,nosuid,nodev,noatime,sync,dirsync and their opposites\n"
    "  -f, --foreground          do not go into the background\n"
    "  -h, --help\n"
    "  -V, --version\n";

struct parser {
    struct options *o;
    char *error;
    size_t size;
};

__attribute__((format(printf, 2, 3))) static int refuse(struct parser *p, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(p->error, p->size, fmt, ap);
    va_end(ap);
    return LFS_ERR_MISUSE;
}

/* ---- single options ---- */

static int set_string(struct parser *p, char **to, const char *name, const char *value)
{
    if (!*value)
        return refuse(p, "option '%s' needs a value", name);
    char *copy = strdup(value);
    if (!copy)
        return -ENOMEM;
    free(*to);
    *to = copy;
    return 0;
}

/* Options that say how to unlock. *known: name is one of them. */
static int set_unlock(struct parser *p, const char *name, const char *value, bool *known)
{
    static const struct {
        const char *name;
        enum options_unlock how;
    } ways[] = {
        {"passphrase-file", UNLOCK_PASSPHRASE_FILE},
        {"keyfile", UNLOCK_KEYFILE},
        {"recovery-file", UNLOCK_RECOVERY_FILE},
        {"identity", UNLOCK_IDENTITY},
        {"command", UNLOCK_COMMAND},
    };
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        if (strcmp(name, ways[i].name) != 0)
            continue;
        *known = true;
        if (p->o->unlock != UNLOCK_NOT)
            return refuse(p,
                          "only one of passphrase-file, keyfile, recovery-file, identity and command can be "
                          "given");
        p->o->unlock = ways[i].how;
        return set_string(p, &p->o->unlock_with, name, value);
    }
    return 0;
}

static int add_kernel_flag(struct options *o, const char *flag)
{
    char *joined;
    if (asprintf(&joined, "%s%s%s", o->kernel, *o->kernel ? "," : "", flag) < 0)
        return -ENOMEM;
    free(o->kernel);
    o->kernel = joined;
    return 0;
}

static bool in_list(const char *const list[], const char *word)
{
    for (; *list; list++)
        if (fnmatch(*list, word, 0) == 0)
            return true;
    return false;
}

/* What the kernel understands for a FUSE mount. */
static const char *const kernel_flags[] = {"ro",     "rw",   "suid",  "nosuid",  "dev",   "nodev",   "exec",
                                           "noexec", "sync", "async", "dirsync", "atime", "noatime", NULL};

/* For mount(8), fstab and systemd, not for us; relatime and diratime are how the kernel does it anyway. */
static const char *const noise[] = {
    "defaults", "_netdev",    "nofail",   "auto",       "noauto",          "user",      "nouser", "users",
    "owner",    "group",      "user=*",   "uhelper=*",  "helper=*",        "comment=*", "x-*",    "X-*",
    "relatime", "norelatime", "diratime", "nodiratime", "subtype=latchfs", NULL};

static int set_flag(struct parser *p, const char *word)
{
    struct options *o = p->o;
    const struct {
        const char *name;
        bool *flag;
        bool value;
    } flags[] = {
        {"allow_other", &o->allow_other, true},
        {"no_allow_other", &o->allow_other, false},
        {"writethrough", &o->writethrough, true},
        {"shared", &o->shared, true},
        {"uring", &o->uring, true},
        {"nonempty", &o->nonempty, true},
        {"ignore-journal", &o->ignore_journal, true},
        {"ro", &o->read_only, true},
        {"rw", &o->read_only, false},
    };
    bool known = in_list(noise, word);
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (strcmp(word, flags[i].name) == 0) {
            *flags[i].flag = flags[i].value;
            known = true;
        }
    }
    if (in_list(kernel_flags, word))
        return add_kernel_flag(o, word);
    return known ? 0 : refuse(p, "unknown option '%s'", word);
}

#define SEAL_SECONDS_MAX 86400u

static int set_seal_seconds(struct parser *p, const char *name, const char *value)
{
    char *end;
    unsigned long n = strtoul(value, &end, 10);
    if (*value < '0' || *value > '9' || *end || n < 1 || n > SEAL_SECONDS_MAX)
        return refuse(p, "option '%s' needs a number from 1 to %u", name, SEAL_SECONDS_MAX);
    p->o->seal_seconds = (unsigned)n;
    return 0;
}

/* For tests/bench alone, and so in no manual: what something costs is seen by leaving it out. */
static int set_bench(struct parser *p, const char *value)
{
    if (strcmp(value, "bypass-journal") == 0)
        p->o->bench_bypass = true;
    else if (strcmp(value, "no-seals") == 0)
        p->o->seal_seconds = UINT_MAX;
    else
        return refuse(p, "unknown option 'bench=%s'", value);
    return 0;
}

static int set_option(struct parser *p, char *word)
{
    struct options *o = p->o;
    char *value = strchr(word, '=');
    if (!*word)
        return 0;
    if (!value || in_list(noise, word))
        return set_flag(p, word);
    *value++ = '\0';
    bool known = false;
    int r = set_unlock(p, word, value, &known);
    if (known)
        return r;
    if (strcmp(word, "keyd-socket") == 0)
        return set_string(p, &o->keyd_socket, word, value);
    if (strcmp(word, "fsname") == 0)
        return set_string(p, &o->fsname, word, value);
    if (strcmp(word, "seal-seconds") == 0)
        return set_seal_seconds(p, word, value);
    if (strcmp(word, "bench") == 0)
        return set_bench(p, value);
    return refuse(p, "unknown option '%s'", word);
}

/* Cuts the next option off *rest in place: up to a comma that no backslash escapes. */
static char *next_option(char **rest)
{
    char *start = *rest, *to = start, *from = start;
    while (*from && *from != ',') {
        if (*from == '\\' && from[1])
            from++;
        *to++ = *from++;
    }
    *rest = *from ? from + 1 : NULL;
    *to = '\0';
    return start;
}

static int parse_list(struct parser *p, const char *text)
{
    AUTO_FREE char *copy = strdup(text);
    if (!copy)
        return -ENOMEM;
    int r = 0;
    for (char *rest = copy; rest && !r;)
        r = set_option(p, next_option(&rest));
    return r;
}

/* ---- the command line ---- */

static int parse_word(struct parser *p, const char *word)
{
    struct options *o = p->o;
    if (!*word)
        return refuse(p, "empty argument");
    char **to = !o->volume ? &o->volume : !o->mountpoint ? &o->mountpoint : NULL;
    if (!to)
        return refuse(p, "too many arguments: '%s'", word);
    return set_string(p, to, "argument", word);
}

static int parse_switch(struct parser *p, const char *word)
{
    struct options *o = p->o;
    if (strcmp(word, "-f") == 0 || strcmp(word, "--foreground") == 0)
        o->foreground = true;
    else if (strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0)
        o->act = OPTIONS_HELP;
    else if (strcmp(word, "-V") == 0 || strcmp(word, "--version") == 0)
        o->act = OPTIONS_VERSION;
    else
        return refuse(p, "unknown option '%s'", word);
    return 0;
}

static int parse_args(struct parser *p, int argc, char *const argv[])
{
    bool words_only = false;
    int r = 0;
    for (int i = 1; i < argc && !r; i++) {
        const char *a = argv[i];
        if (words_only || a[0] != '-')
            r = parse_word(p, a);
        else if (strcmp(a, "--") == 0)
            words_only = true;
        else if (strcmp(a, "-o") == 0)
            r = i + 1 < argc ? parse_list(p, argv[++i]) : refuse(p, "-o needs a value");
        else if (strncmp(a, "-o", 2) == 0)
            r = parse_list(p, a + 2);
        else
            r = parse_switch(p, a);
    }
    if (!r && p->o->act == OPTIONS_MOUNT && !p->o->mountpoint)
        r = refuse(p, "VOLUME and MOUNTPOINT are needed; 'latchfs --help' tells more");
    return r;
}

/* A reader takes turns as a writer does, and so has to be able to write. */
static int check_shared(struct parser *p)
{
    struct options *o = p->o;
    if (!o->shared)
        return 0;
    o->writethrough = true;
    if (o->read_only || o->ignore_journal || o->bench_bypass)
        return refuse(p, "option 'shared' does not go with '%s'",
                      o->read_only        ? "ro"
                      : o->ignore_journal ? "ignore-journal"
                                          : "bench");
    return 0;
}

int options_parse(int argc, char *const argv[], bool privileged, struct options *out, char *error,
                  size_t size)
{
    struct options o = {.allow_other = privileged, .kernel = strdup("")};
    struct parser p = {.o = &o, .error = error, .size = size};
    if (!o.kernel)
        return -ENOMEM;
    int r = parse_args(&p, argc, argv);
    if (!r)
        r = check_shared(&p);
    if (r) {
        options_clear(&o);
        return r;
    }
    *out = o;
    return 0;
}

void options_clear(struct options *o)
{
    free(o->volume);
    free(o->mountpoint);
    free(o->unlock_with);
    free(o->keyd_socket);
    free(o->fsname);
    free(o->kernel);
    memset(o, 0, sizeof *o);
}
