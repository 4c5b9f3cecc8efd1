/* What a volume holds, as programs see it. Lines of fields between tabs: kind, path, then what it is; an
 * error stands as ! and its number. */
#include "tamper.h"

#include "latchfs/err.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

static bool inodes;

void tamper_text(const char *text)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c <= ' ' || c > '~' || c == '%')
            printf("%%%02x", c);
        else
            putchar(c);
    }
}

static void begin(char kind, const char *path)
{
    printf("%c\t", kind);
    tamper_text(path);
    putchar('\t');
}

static void error(char kind, const char *path, int err)
{
    begin(kind, path);
    printf("!%d\n", err);
}

static void put_hash(const void *data, size_t len)
{
    uint8_t hash[16];
    crypto_generichash(hash, sizeof hash, data, len, NULL, 0);
    for (size_t i = 0; i < sizeof hash; i++)
        printf("%02x", hash[i]);
    putchar('\n');
}

/* Holes and chunks of zeros are left out. */
static void put_chunk(const char *path, uint64_t index, const uint8_t *page, size_t len)
{
    static const uint8_t zeros[PAGE_BYTES];
    if (!memcmp(page, zeros, len))
        return;
    begin('C', path);
    printf("%llu\t", (unsigned long long)index);
    put_hash(page, len);
}

#define RUN (64u * PAGE_BYTES)

/* Chunk by chunk where a run does not read: one must not hide the others. */
static void dump_run(struct node *n, const char *path, uint64_t at, size_t want)
{
    static uint8_t run[RUN];
    bool whole = file_read(n, run, want, at) == (ssize_t)want;
    for (size_t i = 0; i < want; i += PAGE_BYTES) {
        size_t len = want - i < PAGE_BYTES ? want - i : PAGE_BYTES;
        ssize_t r = whole ? (ssize_t)len : file_read(n, run + i, len, at + i);
        if (r < 0) {
            begin('C', path);
            printf("%llu\t!%zd\n", (unsigned long long)((at + i) / PAGE_BYTES), r);
        } else {
            put_chunk(path, (at + i) / PAGE_BYTES, run + i, (size_t)r);
        }
    }
}

/* The size as a program sees it that has the file open. */
static void dump_file(struct node *n, const char *path)
{
    struct stat st;
    int r = file_open(n, false);
    if (r) {
        error('F', path, r);
        return;
    }
    r = node_getattr(n, &st);
    if (r)
        tamper_die("getattr of %s: %s", path, lfs_strerror(r));
    uint64_t size = (uint64_t)st.st_size;
    begin('F', path);
    printf("%llu\n", (unsigned long long)size);
    for (uint64_t at = 0; at < size; at += RUN)
        dump_run(n, path, at, size - at < RUN ? (size_t)(size - at) : RUN);
    file_close(n);
}

static void dump_xattrs(struct node *n, const char *path)
{
    char list[4096], value[4096];
    ssize_t len = node_listxattr(n, list, sizeof list, false);
    if (len < 0)
        error('X', path, (int)len);
    for (char *name = list; name < list + len; name += strlen(name) + 1) {
        ssize_t r = node_getxattr(n, name, value, sizeof value);
        begin('X', path);
        tamper_text(name);
        if (r < 0)
            printf("\t!%zd\n", r);
        else {
            putchar('\t');
            put_hash(value, (size_t)r);
        }
    }
}

static void dump_link(struct node *n, const char *path)
{
    char target[SYMLINK_PLAIN_MAX + 1];
    int r = node_readlink(n, target);
    if (r)
        error('L', path, r);
    else {
        begin('L', path);
        put_hash(target, strlen(target));
    }
}

static void dump_dir(struct node *dir, const char *path);

static void dump_node(struct node *n, const struct stat *st, const char *path)
{
    if (inodes) {
        begin('I', path);
        printf("%llu\n", (unsigned long long)node_ino(n));
    }
    if (S_ISDIR(st->st_mode)) {
        begin('D', path);
        putchar('\n');
        dump_dir(n, path);
        dump_xattrs(n, path);
    } else if (S_ISREG(st->st_mode)) {
        dump_file(n, path);
        dump_xattrs(n, path);
    } else if (S_ISLNK(st->st_mode)) {
        dump_link(n, path);
    } else {
        begin('S', path);
        printf("%o\n", (unsigned)(st->st_mode & S_IFMT));
    }
}

static void dump_entry(struct node *dir, const char *path, const char *name)
{
    struct stat st;
    struct node *n;
    int r = node_lookup(dir, name, &st, &n);
    if (r) {
        error('E', path, r);
        return;
    }
    dump_node(n, &st, path);
    node_unref(n, 1);
}

static void dump_dir(struct node *dir, const char *path)
{
    struct dir_stream *d;
    struct dir_entry e;
    uint64_t cookie = 0;
    int r = dir_open(dir, &d);
    if (r) {
        error('R', path, r);
        return;
    }
    while ((r = dir_next(d, cookie, &e)) == 1) {
        char *child = malloc(strlen(path) + strlen(e.name) + 2);
        cookie = e.cookie;
        if (!child)
            tamper_die("no memory");
        sprintf(child, "%s%s%s", path, *path ? "/" : "", e.name);
        if (strcmp(e.name, ".") && strcmp(e.name, ".."))
            dump_entry(dir, child, e.name);
        free(child);
    }
    if (r)
        error('R', path, r);
    dir_close(d);
}

void tamper_dump(struct volume *v, bool with_inodes)
{
    struct stat st;
    inodes = with_inodes;
    int r = node_getattr(volume_root(v), &st);
    if (r)
        error('E', "", r);
    else
        dump_node(volume_root(v), &st, "");
}
