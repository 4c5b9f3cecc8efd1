/* Reads everything that a volume holds into a dump that oracle.py judges, and uses the volume afterwards. */
#include "lab.h"

#include "latchfs/err.h"
#include "trace.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A regular file as the dump found it, for the use that follows. */
struct held {
    char *path;
    uint8_t *data;
    uint64_t size, ino;
};

struct check {
    const char *dir;
    uint32_t least, most; /* of the directory key's versions */
    struct volume *v;
    FILE *out;
    int failures;
    struct held *files;
    size_t count;
    bool first; /* nobody has noted the files yet */
};

/* ---- the dump: a letter, then strings (length u32, bytes) and numbers (u64) ---- */

static void put_number(struct check *c, uint64_t n)
{
    fwrite(&n, sizeof n, 1, c->out);
}

static void put_string(struct check *c, const void *s, size_t len)
{
    uint32_t n = (uint32_t)len;
    fwrite(&n, sizeof n, 1, c->out);
    fwrite(s, 1, len, c->out);
}

static void put_tag(struct check *c, char tag, const char *path)
{
    fputc(tag, c->out);
    put_string(c, path, strlen(path));
}

static void fail(struct check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void fail(struct check *c, const char *fmt, ...)
{
    char text[5000];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    put_tag(c, 'E', text);
    c->failures++;
}

static void section(struct check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void section(struct check *c, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    put_tag(c, 'S', text);
}

/* ---- reading ---- */

/* Takes data. Another name of a file that is known already counts no further. */
static void remember(struct check *c, const char *path, uint8_t *data, uint64_t size, uint64_t ino)
{
    for (size_t i = 0; i < c->count; i++) {
        if (c->files[i].ino == ino) {
            free(data);
            return;
        }
    }
    struct held *grown = realloc(c->files, (c->count + 1) * sizeof *grown);
    if (!grown)
        lab_die("no memory");
    c->files = grown;
    c->files[c->count++] = (struct held){strdup(path), data, size, ino};
}

/* Chunk by chunk: one that does not read must not hide the others. */
static void dump_file(struct check *c, struct node *n, const char *path, uint64_t size)
{
    uint64_t chunks = (size + PAGE_BYTES - 1) / PAGE_BYTES;
    uint8_t *data = calloc(chunks + 1, PAGE_BYTES);
    if (!data)
        lab_die("no memory for %s", path);
    put_tag(c, 'F', path);
    put_number(c, size);
    put_number(c, chunks);
    for (uint64_t i = 0; i < chunks; i++) {
        uint64_t at = i * PAGE_BYTES, want = size - at < PAGE_BYTES ? size - at : PAGE_BYTES;
        ssize_t r = file_read(n, data + at, PAGE_BYTES, at);
        put_number(c, (uint64_t)(r == (ssize_t)want ? 0 : r < 0 ? -r : EIO));
        put_string(c, data + at, r < 0 ? 0 : (size_t)r);
        c->failures += r != (ssize_t)want;
    }
    if (c->first)
        remember(c, path, data, size, node_ino(n));
    else
        free(data);
}

static void dump_xattrs(struct check *c, struct node *n, const char *path)
{
    char list[4096], value[4096];
    ssize_t len = node_listxattr(n, list, sizeof list, false);
    if (len < 0) {
        fail(c, "%s: xattrs: %s", path, lfs_strerror((int)len));
        return;
    }
    for (char *name = list; name < list + len; name += strlen(name) + 1) {
        ssize_t r = node_getxattr(n, name, value, sizeof value);
        put_tag(c, 'X', path);
        put_string(c, name, strlen(name));
        put_string(c, value, r < 0 ? 0 : (size_t)r);
        if (r < 0)
            fail(c, "%s: xattr %s: %s", path, name, lfs_strerror((int)r));
    }
}

/* The mode counts as an attribute. */
static void dump_mode(struct check *c, const struct stat *st, const char *path)
{
    char mode[16];
    int n = snprintf(mode, sizeof mode, "%o", (unsigned)st->st_mode & 07777);
    put_tag(c, 'X', path);
    put_string(c, "(mode)", 6);
    put_string(c, mode, (size_t)n);
}

static void dump_dir(struct check *c, struct node *dir, const char *path);

static void dump_entry(struct check *c, struct node *dir, const char *path, const char *name)
{
    char target[SYMLINK_PLAIN_MAX + 1];
    struct stat st;
    struct node *n;
    int r = node_lookup(dir, name, &st, &n);
    if (r) {
        fail(c, "%s: lookup: %s", path, lfs_strerror(r));
        return;
    }
    if (S_ISDIR(st.st_mode)) {
        put_tag(c, 'D', path);
        dump_mode(c, &st, path);
        dump_xattrs(c, n, path);
        dump_dir(c, n, path);
    } else if (S_ISREG(st.st_mode)) {
        /* The size as a program sees it that has the file open. */
        r = file_open(n, false);
        if (!r && !(r = node_getattr(n, &st)))
            dump_file(c, n, path, (uint64_t)st.st_size);
        if (r)
            fail(c, "%s: open: %s", path, lfs_strerror(r));
        else
            file_close(n);
        dump_xattrs(c, n, path);
        dump_mode(c, &st, path);
    } else if (S_ISFIFO(st.st_mode)) {
        put_tag(c, 'P', path);
        dump_mode(c, &st, path);
    } else if ((r = node_readlink(n, target))) {
        fail(c, "%s: readlink: %s", path, lfs_strerror(r));
    } else {
        put_tag(c, 'L', path);
        put_string(c, target, strlen(target));
    }
    node_unref(n, 1);
}

static void dump_dir(struct check *c, struct node *dir, const char *path)
{
    struct dir_stream *d;
    struct dir_entry e;
    uint64_t cookie = 0;
    int r = dir_open(dir, &d);
    if (r) {
        fail(c, "%s: opendir: %s", path, lfs_strerror(r));
        return;
    }
    while ((r = dir_next(d, cookie, &e)) == 1) {
        char *child = malloc(strlen(path) + strlen(e.name) + 2);
        cookie = e.cookie;
        if (!child)
            lab_die("no memory");
        sprintf(child, "%s%s%s", path, *path ? "/" : "", e.name);
        if (strcmp(e.name, ".") && strcmp(e.name, ".."))
            dump_entry(c, dir, child, e.name);
        free(child);
    }
    if (r)
        fail(c, "%s: readdir: %s", path, lfs_strerror(r));
    dir_close(d);
}

static bool open_dump(struct check *c, bool read_only, const char *what)
{
    struct replay_report rep;
    struct volume_stats s;
    int r = lab_mount(c->dir, c->least, c->most, read_only, &rep, &c->v);
    section(c, "%s", what);
    if (r) {
        fail(c, "%s: open: %s", what, lfs_strerror(r));
        return false;
    }
    dump_dir(c, volume_root(c->v), "");
    volume_stats(c->v, &s);
    if (s.auth_failures)
        fail(c, "%s: %llu authentication failures", what, (unsigned long long)s.auth_failures);
    section(c, "%s done: unclean %d entries %llu files %llu skipped %llu torn %llu", what, rep.unclean,
            (unsigned long long)rep.entries, (unsigned long long)rep.files, (unsigned long long)rep.skipped,
            (unsigned long long)rep.torn);
    return true;
}

/* ---- using ---- */

#define GROWN (3u * PAGE_BYTES + 5)
#define PATCH 100u

static void expect(struct check *c, const struct held *h, int r, const char *what)
{
    if (r < 0)
        fail(c, "use: %s of %s: %s", what, h->path, lfs_strerror(r));
}

/* Overwrites a little in the middle, and grows: what comes to light behind the old end must be zeros. */
static void use_file(struct check *c, struct held *h)
{
    struct node *n = lab_node(c->v, h->path);
    uint64_t at = h->size / 2, grown = h->size + GROWN;
    uint8_t *data = calloc(1, grown);
    if (!data)
        lab_die("no memory");
    memcpy(data, h->data, h->size);
    memset(data + at, 'u', PATCH);
    expect(c, h, file_truncate(n, grown), "growing");
    expect(c, h, (int)file_write(n, data + at, PATCH, at), "writing");
    if (h->size % 3 == 0)
        expect(c, h, file_fsync(n, false), "fsync");
    free(h->data);
    h->data = data;
    h->size = grown;
    node_unref(n, 1);
}

static void use_volume(struct check *c)
{
    struct node *n;
    struct stat st;
    int r = node_create(volume_root(c->v), "used-after", S_IFREG | 0600, true, &st, &n);
    if (r) {
        fail(c, "use: create: %s", lfs_strerror(r));
        return;
    }
    uint8_t *data = malloc(3 * PAGE_BYTES);
    if (!data)
        lab_die("no memory");
    memset(data, 'a', 3 * PAGE_BYTES);
    if ((r = (int)file_write(n, data, 3 * PAGE_BYTES, 0)) < 0 || (r = file_fsync(n, false)))
        fail(c, "use: write and fsync: %s", lfs_strerror(r));
    uint64_t ino = node_ino(n);
    node_unref(n, 1);
    for (size_t i = 0; i < c->count; i++)
        use_file(c, &c->files[i]);
    remember(c, "used-after", data, 3 * PAGE_BYTES, ino);
}

static uint64_t first_bad(struct node *n, uint64_t size)
{
    uint8_t page[PAGE_BYTES];
    uint64_t at = 0;
    while (at < size && file_read(n, page, sizeof page, at) >= 0)
        at += sizeof page;
    return at / PAGE_BYTES;
}

static void verify_file(struct check *c, const struct held *h)
{
    uint8_t *data = malloc(h->size + 1);
    struct node *n = lab_node(c->v, h->path);
    if (!data)
        lab_die("no memory");
    ssize_t r = file_read(n, data, h->size + 1, 0);
    if (r < 0)
        fail(c, "after use: %s chunk %llu of %llu: %s", h->path, (unsigned long long)first_bad(n, h->size),
             (unsigned long long)(h->size / PAGE_BYTES), lfs_strerror((int)r));
    else if ((uint64_t)r != h->size)
        fail(c, "after use: %s has %lld bytes, not %llu", h->path, (long long)r, (unsigned long long)h->size);
    for (uint64_t i = 0; r == (ssize_t)h->size && i < h->size; i++) {
        if (data[i] != h->data[i]) {
            fail(c, "after use: %s differs at %llu of %llu", h->path, (unsigned long long)i,
                 (unsigned long long)h->size);
            break;
        }
    }
    free(data);
    node_unref(n, 1);
}

static void reopen(struct check *c)
{
    struct replay_report rep;
    int r = lab_mount(c->dir, c->least, c->most, false, &rep, &c->v);
    if (r) {
        fail(c, "after use: open: %s", lfs_strerror(r));
        return;
    }
    if (rep.unclean)
        fail(c, "after use: unclean although it was closed");
    for (size_t i = 0; i < c->count; i++)
        verify_file(c, &c->files[i]);
    r = volume_close(c->v);
    if (r)
        fail(c, "after use: close: %s", lfs_strerror(r));
}

int lab_check(const char *dir, const char *out, uint32_t least, uint32_t most)
{
    struct check c = {.dir = dir, .out = fopen(out, "we"), .least = least, .most = most};
    int r;
    if (!c.out)
        lab_die("%s: %s", out, strerror(errno));
    if (open_dump(&c, true, "read-only"))
        volume_close(c.v);
    if (write(TRACE_MARK_FD, "writing\n", 8) < 0)
        lab_die("the recorder is not preloaded");
    c.first = true;
    if (open_dump(&c, false, "replayed")) {
        if (!c.failures)
            use_volume(&c);
        r = volume_close(c.v);
        if (r)
            fail(&c, "use: close: %s", lfs_strerror(r));
        if (!c.failures)
            reopen(&c);
    }
    section(&c, "end");
    if (fclose(c.out))
        lab_die("writing %s", out);
    for (size_t i = 0; i < c.count; i++) {
        free(c.files[i].path);
        free(c.files[i].data);
    }
    free(c.files);
    return c.failures > 0;
}
