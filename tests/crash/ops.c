#include "lab.h"

#include "fs/store/file.h"
#include "fs/store/seal.h"
#include "latchfs/err.h"
#include "trace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

uint64_t lab_random(struct lab *l, uint64_t n)
{
    uint64_t z = (l->random += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) % n;
}

/* ---- the trace ---- */

struct op {
    uint64_t number;
    const char *kind, *path;
};

/* Names may hold any byte, so they stand in hex behind an x. */
static int put_name(char *to, const char *name)
{
    int n = sprintf(to, " x");
    for (; *name; name++)
        n += sprintf(to + n, "%02x", (unsigned char)*name);
    return n;
}

static struct op begin(struct lab *l, const char *kind, const char *path, const char *other, uint64_t a,
                       uint64_t b, const void *data, size_t len)
{
    struct op op = {++l->ops, kind, path};
    char *line = malloc(len + 2 * (strlen(path) + strlen(other)) + 128);
    if (!line)
        lab_die("no memory");
    int n = sprintf(line, "begin %llu %s", (unsigned long long)op.number, kind);
    n += put_name(line + n, path);
    n += put_name(line + n, other);
    n += sprintf(line + n, " %llu %llu\n", (unsigned long long)a, (unsigned long long)b);
    if (len)
        memcpy(line + n, data, len);
    ssize_t w = write(TRACE_MARK_FD, line, (size_t)n + len);
    free(line);
    if (w < 0)
        lab_die("the recorder is not preloaded");
    return op;
}

static void end(const struct op *op, int64_t r)
{
    char line[64];
    if (r < 0)
        lab_die("operation %llu, %s %s: %s", (unsigned long long)op->number, op->kind, op->path,
                lfs_strerror((int)r));
    int n = snprintf(line, sizeof line, "end %llu\n", (unsigned long long)op->number);
    if (write(TRACE_MARK_FD, line, (size_t)n) < 0)
        lab_die("the recorder is not preloaded");
}

/* ---- paths ---- */

struct node *lab_node(struct volume *v, const char *path)
{
    char part[NAME_PLAIN_MAX + 1];
    struct node *n = volume_root(v);
    struct stat st;
    node_ref(n);
    while (*path) {
        size_t len = strcspn(path, "/");
        struct node *next;
        snprintf(part, sizeof part, "%.*s", (int)len, path);
        int r = node_lookup(n, part, &st, &next);
        if (r)
            lab_die("lookup of %s: %s", part, lfs_strerror(r));
        node_unref(n, 1);
        n = next;
        path += len + (path[len] == '/');
    }
    return n;
}

/* The directory of a path, with a reference; *name is the last part. */
static struct node *parent_of(struct volume *v, const char *path, const char **name)
{
    const char *slash = strrchr(path, '/');
    char dir[4096];
    snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - path) : 0, path);
    *name = slash ? slash + 1 : path;
    return lab_node(v, dir);
}

/* ---- data: cells of 16 bytes that say which file, which operation and which offset wrote them ---- */

static uint32_t path_number(const char *path)
{
    uint32_t h = 2166136261u;
    for (; *path; path++)
        h = (h ^ (unsigned char)*path) * 16777619u;
    return h;
}

static uint8_t *make_data(const char *path, uint64_t number, uint64_t off, size_t len)
{
    uint64_t lo = off / 16 * 16, hi = (off + len + 15) / 16 * 16;
    uint8_t *buf = malloc(hi - lo + 16);
    uint32_t id[2] = {path_number(path), (uint32_t)number};
    if (!buf)
        lab_die("no memory");
    for (uint64_t at = lo; at < hi; at += 16) {
        memcpy(buf + (at - lo), id, sizeof id);
        memcpy(buf + (at - lo) + sizeof id, &at, sizeof at);
    }
    memmove(buf, buf + (off - lo), len);
    return buf;
}

/* ---- operations ---- */

/* Every other file stays open, as a program may have it; of the others the store forgets what it can. */
static void keep(struct lab *l, const char *path, struct node *n)
{
    if (path_number(path) % 2 || l->kept_count == LAB_KEPT_MAX || file_open(n, true))
        return;
    node_ref(n);
    l->kept[l->kept_count++] = n;
}

void lab_release(struct lab *l)
{
    while (l->kept_count) {
        struct node *n = l->kept[--l->kept_count];
        file_close(n);
        node_unref(n, 1);
    }
}

void op_create(struct lab *l, const char *path)
{
    const char *name;
    struct stat st;
    struct node *dir = parent_of(l->v, path, &name), *n;
    struct op op = begin(l, "create", path, "", 0, 0, NULL, 0);
    int r = node_create(dir, name, S_IFREG | 0644, true, &st, &n);
    end(&op, r);
    keep(l, path, n);
    node_unref(n, 1);
    node_unref(dir, 1);
}

static void write_at(struct lab *l, const char *path, uint64_t off, size_t len, bool append)
{
    struct node *n = lab_node(l->v, path);
    struct stat st;
    if (append && node_getattr(n, &st))
        lab_die("stat of %s", path);
    off = append ? (uint64_t)st.st_size : off;
    uint8_t *data = make_data(path, l->ops + 1, off, len);
    struct op op = begin(l, "write", path, "", off, len, data, len);
    ssize_t r = append ? file_append(n, data, len) : file_write(n, data, len, off);
    end(&op, r);
    free(data);
    node_unref(n, 1);
}

void op_write(struct lab *l, const char *path, uint64_t off, size_t len)
{
    write_at(l, path, off, len, false);
}

void op_append(struct lab *l, const char *path, size_t len)
{
    write_at(l, path, 0, len, true);
}

void op_truncate(struct lab *l, const char *path, uint64_t size)
{
    struct node *n = lab_node(l->v, path);
    struct op op = begin(l, "truncate", path, "", size, 0, NULL, 0);
    end(&op, file_truncate(n, size));
    node_unref(n, 1);
}

void op_fallocate(struct lab *l, const char *path, int mode, uint64_t off, uint64_t len)
{
    struct node *n = lab_node(l->v, path);
    const char *kind = mode & FALLOC_FL_PUNCH_HOLE                            ? "zero-keep"
                       : mode == (FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE) ? "zero-keep"
                       : mode == FALLOC_FL_ZERO_RANGE                         ? "zero-grow"
                       : mode == FALLOC_FL_KEEP_SIZE                          ? "allocate"
                                                                              : "grow";
    struct op op = begin(l, kind, path, "", off, len, NULL, 0);
    end(&op, file_fallocate(n, mode, off, len));
    node_unref(n, 1);
}

static void sync_as(struct lab *l, const char *kind, const char *path)
{
    struct node *n = lab_node(l->v, path);
    struct op op = begin(l, kind, path, "", 0, 0, NULL, 0);
    end(&op, *kind == 'd' ? dir_fsync(n) : file_fsync(n, *kind == 'f' && kind[1] == 'd'));
    node_unref(n, 1);
}

void op_fsync(struct lab *l, const char *path)
{
    sync_as(l, "fsync", path);
}

void op_fdatasync(struct lab *l, const char *path)
{
    sync_as(l, "fdatasync", path);
}

void op_dirsync(struct lab *l, const char *path)
{
    sync_as(l, "dirsync", path);
}

void op_mkdir(struct lab *l, const char *path)
{
    const char *name;
    struct stat st;
    struct node *dir = parent_of(l->v, path, &name), *n;
    struct op op = begin(l, "mkdir", path, "", 0, 0, NULL, 0);
    int r = node_mkdir(dir, name, S_IFDIR | 0755, &st, &n);
    end(&op, r);
    node_unref(n, 1);
    node_unref(dir, 1);
}

static void remove_as(struct lab *l, const char *kind, const char *path)
{
    const char *name;
    struct node *dir = parent_of(l->v, path, &name);
    struct op op = begin(l, kind, path, "", 0, 0, NULL, 0);
    end(&op, *kind == 'r' ? node_rmdir(dir, name) : node_unlink(dir, name));
    node_unref(dir, 1);
}

void op_rmdir(struct lab *l, const char *path)
{
    remove_as(l, "rmdir", path);
}

void op_unlink(struct lab *l, const char *path)
{
    remove_as(l, "unlink", path);
}

void op_rename(struct lab *l, const char *from, const char *to, unsigned flags)
{
    const char *name, *newname;
    struct node *dir = parent_of(l->v, from, &name), *newdir = parent_of(l->v, to, &newname);
    struct op op = begin(l, "rename", from, to, flags, 0, NULL, 0);
    end(&op, node_rename(dir, name, newdir, newname, flags));
    node_unref(dir, 1);
    node_unref(newdir, 1);
}

void op_link(struct lab *l, const char *from, const char *to)
{
    const char *name;
    struct stat st;
    struct node *n = lab_node(l->v, from), *dir = parent_of(l->v, to, &name), *linked = NULL;
    struct op op = begin(l, "link", from, to, 0, 0, NULL, 0);
    end(&op, node_link(n, dir, name, &st, &linked));
    if (linked)
        node_unref(linked, 1);
    node_unref(dir, 1);
    node_unref(n, 1);
}

void op_symlink(struct lab *l, const char *path, const char *target)
{
    const char *name;
    struct stat st;
    struct node *dir = parent_of(l->v, path, &name), *n;
    struct op op = begin(l, "symlink", path, target, 0, 0, NULL, 0);
    int r = node_symlink(dir, name, target, &st, &n);
    end(&op, r);
    node_unref(n, 1);
    node_unref(dir, 1);
}

void op_setxattr(struct lab *l, const char *path, const char *name, size_t len)
{
    struct node *n = lab_node(l->v, path);
    uint8_t *data = make_data(path, l->ops + 1, 0, len);
    struct op op = begin(l, "setxattr", path, name, 0, len, data, len);
    end(&op, node_setxattr(n, name, data, len, 0));
    free(data);
    node_unref(n, 1);
}

void op_removexattr(struct lab *l, const char *path, const char *name)
{
    struct node *n = lab_node(l->v, path);
    struct op op = begin(l, "removexattr", path, name, 0, 0, NULL, 0);
    end(&op, node_removexattr(n, name));
    node_unref(n, 1);
}

void op_chmod(struct lab *l, const char *path, mode_t mode)
{
    struct node *n = lab_node(l->v, path);
    struct stat want = {.st_mode = mode}, st;
    struct op op = begin(l, "chmod", path, "", mode, 0, NULL, 0);
    end(&op, node_setattr(n, &want, SET_MODE, &st));
    node_unref(n, 1);
}

void op_mkfifo(struct lab *l, const char *path)
{
    const char *name;
    struct stat st;
    struct node *dir = parent_of(l->v, path, &name), *n;
    struct op op = begin(l, "mkfifo", path, "", 0, 0, NULL, 0);
    int r = node_mknod(dir, name, S_IFIFO | 0644, 0, &st, &n);
    end(&op, r);
    node_unref(n, 1);
    node_unref(dir, 1);
}

void op_protect(struct lab *l, const char *path)
{
    struct node *n = lab_node(l->v, path);
    struct keyset *k = lab_pd_keys();
    struct op op = begin(l, "protect", path, "", 0, 0, NULL, 0);
    end(&op, node_protect(n, k));
    keyset_free(k);
    node_unref(n, 1);
}

void op_seal(struct lab *l)
{
    struct op op = begin(l, "checkpoint", "", "", 0, 0, NULL, 0);
    int r = volume_checkpoint(l->v);
    end(&op, r ? r : volume_seal_all(l->v));
}

void op_seal_idle(struct lab *l)
{
    struct seal_turn t = {.before = INT64_MAX, .files = SIZE_MAX, .pages = UINT64_MAX};
    struct op op = begin(l, "round", "", "", 0, 0, NULL, 0);
    end(&op, seal_run_turn(l->v, &t));
}

static void mark(const char *text)
{
    if (write(TRACE_MARK_FD, text, strlen(text)) < 0)
        lab_die("the recorder is not preloaded");
}

void op_freeze(struct lab *l, void (*meanwhile)(struct lab *l))
{
    struct op op = begin(l, "checkpoint", "", "", 0, 0, NULL, 0);
    end(&op, volume_freeze(l->v, FREEZE_SECONDS_MAX));
    mark("frozen\n");
    meanwhile(l);
    mark("thawed\n");
    int r = volume_thaw(l->v);
    if (r)
        lab_die("thaw: %s", lfs_strerror(r));
}

void op_checkpoint(struct lab *l)
{
    struct op op = begin(l, "checkpoint", "", "", 0, 0, NULL, 0);
    end(&op, volume_checkpoint(l->v));
}

void op_round(struct lab *l)
{
    struct op op = begin(l, "round", "", "", 0, 0, NULL, 0);
    int r = volume_enter(l->v, true);
    if (!r) {
        r = checkpoint_run(l->v, false);
        volume_leave(l->v);
    }
    end(&op, r);
}

/* ---- rotation ---- */

/* Goes on by a second each time it is asked, so that a rotation shows its progress at every step. */
int clock_gettime(clockid_t id, struct timespec *ts)
{
    static long seconds = 1000;
    if (id != CLOCK_MONOTONIC)
        return (int)syscall(SYS_clock_gettime, id, ts);
    *ts = (struct timespec){.tv_sec = seconds++};
    return 0;
}

struct rotating {
    struct lab *l;
    void (*meanwhile)(struct lab *l);
    uint64_t steps, stop_at;
    atomic_bool stop;
};

static void at_step(const struct rotate_progress *p, void *arg)
{
    struct rotating *rot = arg;
    atomic_store(&rot->stop, ++rot->steps == rot->stop_at);
    if (!atomic_load(&rot->stop))
        rot->meanwhile(rot->l);
}

void op_rotate(struct lab *l, bool data, uint64_t stop_at, void (*meanwhile)(struct lab *l))
{
    struct rotating rot = {.l = l, .meanwhile = meanwhile, .stop_at = stop_at};
    struct rotate_options o = {.stop = &rot.stop, .progress = at_step, .arg = &rot};
    struct rotate_progress p;
    struct keyset *k = lab_keys(1, ++l->version);
    memcpy(o.pd_id, k->pd_id, sizeof o.pd_id);
    int r = volume_pd_unlock(l->v, k);
    keyset_free(k);
    if (r)
        lab_die("version %u: %s", l->version, lfs_strerror(r));
    /* One that is stopped promises nothing. */
    const char *kind = stop_at ? "rotate-part" : data ? "reencrypt" : "rewrap";
    struct op op = begin(l, kind, "", "", l->version, 0, NULL, 0);
    r = data ? volume_reencrypt(l->v, &o, &p) : volume_rewrap(l->v, &o, &p);
    end(&op, r == -EINTR && stop_at ? 0 : r);
}

void op_remount(struct lab *l)
{
    struct op op = begin(l, "round", "", "", 0, 0, NULL, 0); /* promises as little */
    lab_release(l);
    int r = volume_close(l->v);
    if (!r)
        l->v = lab_open(l->dir, 1, l->version);
    end(&op, r);
}

bool op_exists(struct lab *l, const char *path)
{
    const char *name;
    struct stat st;
    struct node *dir = parent_of(l->v, path, &name), *n;
    int r = node_lookup(dir, name, &st, &n);
    if (!r)
        node_unref(n, 1);
    node_unref(dir, 1);
    return r == 0;
}
