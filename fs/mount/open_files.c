#include "fs/mount/open_files.h"

#include "latchfs/aside.h"
#include "latchfs/buf.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_ROOM (32 + 2 * NAME_MAX)
#define LOOK_NS UINT64_C(4000000000)

struct numbers {
    uint64_t *of;
    size_t count, room;
    bool failed;
};

struct open_files {
    unsigned minor;        /* of the mount's device; its major is 0 */
    struct numbers spaces; /* mount namespaces whose tables were read */
    struct numbers mounts; /* ids of the mount's own entries there */
    struct numbers inodes; /* sorted at the end */
    char *line;            /* of getline */
    size_t line_room;
};

/* ---- sets of numbers ---- */

static void add(struct numbers *n, uint64_t number)
{
    if (n->count == n->room) {
        size_t room = n->room ? n->room * 2 : 64;
        uint64_t *more = reallocarray(n->of, room, sizeof *more);
        n->failed = n->failed || !more;
        if (!more)
            return;
        n->of = more;
        n->room = room;
    }
    n->of[n->count++] = number;
}

static bool has(const struct numbers *n, uint64_t number)
{
    for (size_t i = 0; i < n->count; i++)
        if (n->of[i] == number)
            return true;
    return false;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static bool has_sorted(const struct numbers *n, uint64_t number)
{
    return n->count && bsearch(&number, n->of, n->count, sizeof number, compare);
}

/* ---- /proc ---- */

static bool is_number(const char *name)
{
    return isdigit((unsigned char)name[0]);
}

static void each_process(struct open_files *o, void (*fn)(struct open_files *o, const char *pid))
{
    DIR *d = opendir("/proc");
    o->inodes.failed = o->inodes.failed || !d;
    for (const struct dirent *e; d && (e = readdir(d));)
        if (is_number(e->d_name))
            fn(o, e->d_name);
    if (d)
        closedir(d);
}

static FILE *open_of(const char *pid, const char *name)
{
    char path[PATH_ROOM];
    snprintf(path, sizeof path, "/proc/%s/%s", pid, name);
    return fopen(path, "re");
}

/* The mount has an id of its own in every mount namespace, and for every bind mount. A line begins with the
 * id, the parent's id and the device. */
static void read_mounts(struct open_files *o, const char *pid)
{
    unsigned long long id;
    unsigned major, minor;
    FILE *f = open_of(pid, "mountinfo");
    while (f && getline(&o->line, &o->line_room, f) > 0)
        if (sscanf(o->line, "%llu %*u %u:%u", &id, &major, &minor) == 3 && major == 0 && minor == o->minor)
            add(&o->mounts, id);
    if (f)
        fclose(f);
}

static void look_at_mounts(struct open_files *o, const char *pid)
{
    char path[PATH_ROOM];
    struct stat st;
    snprintf(path, sizeof path, "/proc/%s/ns/mnt", pid);
    if (stat(path, &st) || has(&o->spaces, st.st_ino))
        return;
    add(&o->spaces, st.st_ino);
    read_mounts(o, pid);
}

static uint64_t field(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

/* The number of the open file if it is one of the mount's, else 0. */
static uint64_t inode_of(const struct open_files *o, const char *pid, const char *fd)
{
    char path[PATH_ROOM], text[256];
    snprintf(path, sizeof path, "/proc/%s/fdinfo/%s", pid, fd);
    AUTO_CLOSE int info = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = info < 0 ? -1 : read(info, text, sizeof text - 1);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    return has(&o->mounts, field(text, "\nmnt_id:")) ? field(text, "\nino:") : 0;
}

/* What is no file in a tree is left alone: the kernel tells about some of these (epoll) only under a lock
 * that its owner can make somebody hold for ever. A name that does not fit may be one of the mount's. */
static bool may_be_file(const char *pid, const char *fd)
{
    char path[PATH_ROOM], first = '\0';
    snprintf(path, sizeof path, "/proc/%s/fd/%s", pid, fd);
    ssize_t n = readlink(path, &first, 1);
    return n == 1 ? first == '/' : n < 0 && errno == ENAMETOOLONG;
}

static void look_at_descriptors(struct open_files *o, const char *pid)
{
    char path[PATH_ROOM];
    snprintf(path, sizeof path, "/proc/%s/fdinfo", pid);
    DIR *d = opendir(path);
    for (const struct dirent *e; d && (e = readdir(d));) {
        bool asked = is_number(e->d_name) && may_be_file(pid, e->d_name);
        uint64_t ino = asked ? inode_of(o, pid, e->d_name) : 0;
        if (ino)
            add(&o->inodes, ino);
    }
    if (d)
        closedir(d);
}

/* A line: addresses, rights, offset, device, inode, path. */
static void look_at_mappings(struct open_files *o, const char *pid)
{
    unsigned long long ino;
    unsigned major, minor;
    FILE *f = open_of(pid, "maps");
    while (f && getline(&o->line, &o->line_room, f) > 0)
        if (sscanf(o->line, "%*s %*s %*s %x:%x %llu", &major, &minor, &ino) == 3 && major == 0 &&
            minor == o->minor)
            add(&o->inodes, ino);
    if (f)
        fclose(f);
}

static void look_at_files(struct open_files *o, const char *pid)
{
    look_at_descriptors(o, pid);
    look_at_mappings(o, pid);
}

/* ---- public ---- */

static void look(void *arg)
{
    struct open_files *o = arg;
    each_process(o, look_at_mounts);
    each_process(o, look_at_files);
}

static void drop(void *arg)
{
    open_files_free(arg);
}

struct open_files *open_files_look(const struct daemon *d)
{
    static struct aside aside = {.ask = look, .drop = drop};
    struct open_files *o = calloc(1, sizeof *o);
    if (!o)
        return NULL;
    o->minor = d->connection;
    if (!aside_ask(&aside, o, LOOK_NS))
        return NULL;
    if (o->inodes.failed || o->mounts.failed || o->spaces.failed) {
        open_files_free(o);
        return NULL;
    }
    if (o->inodes.count)
        qsort(o->inodes.of, o->inodes.count, sizeof *o->inodes.of, compare);
    return o;
}

void open_files_free(struct open_files *o)
{
    if (!o)
        return;
    free(o->spaces.of);
    free(o->mounts.of);
    free(o->inodes.of);
    free(o->line);
    free(o);
}

void open_files_freep(struct open_files **o)
{
    open_files_free(*o);
}

struct counting {
    const struct open_files *o;
    uint64_t count;
};

static void count_node(struct node *n, void *arg)
{
    struct counting *c = arg;
    if (S_ISREG(node_type(n)) && has_sorted(&c->o->inodes, node_ino(n)))
        c->count++;
}

uint64_t open_files_count(const struct open_files *o, const struct daemon *d, const uint8_t *pd_id)
{
    struct counting c = {.o = o};
    if (!o || !o->inodes.count)
        return 0;
    if (pd_id)
        volume_pd_each_node(d->vol, pd_id, count_node, &c);
    else
        volume_each_node(d->vol, count_node, &c);
    return c.count;
}

uint64_t open_files_now(const struct daemon *d, const uint8_t *pd_id)
{
    CLEANUP(open_files_freep) struct open_files *o = open_files_look(d);
    return open_files_count(o, d, pd_id);
}
