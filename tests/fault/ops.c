#include "run.h"

#include "fs/store/file.h"
#include "latchfs/err.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- judging what an operation answers ---- */

struct judging {
    struct run *t;
    const char *what, *path;
    uint64_t fired; /* before it */
    bool readonly, changes;
};

static struct judging begin(struct run *t, const char *what, const char *path, bool changes)
{
    if (t->v && model_is_crowded()) {
        bool armed = plan->armed;
        plan->armed = false;
        model_check(t->v, "after failures");
        plan->armed = armed;
    }
    return (struct judging){t, what, path, plan->fired, t->v && volume_is_readonly(t->v), changes};
}

/* 0; the error of the fault; or 1: refused, and certainly not done. */
static int judge(const struct judging *j, int64_t r)
{
    int e = plan->armed ? fault_errno(plan->kind) : 0;
    bool now = plan->fired > j->fired || plan->lasting;
    if (r >= 0) {
        if (j->readonly && j->changes)
            fail("%s %s works on a volume that is read-only", j->what, j->path);
        return 0;
    }
    if (j->readonly && r == -EROFS)
        return 1;
    if (!plan->fired)
        fail("%s %s fails without a fault: %s", j->what, j->path, lfs_strerror((int)r));
    else if (!now)
        fail("%s %s fails after the fault: %s", j->what, j->path, lfs_strerror((int)r));
    else if (!e)
        fail("%s %s fails for what it should not notice: %s", j->what, j->path, lfs_strerror((int)r));
    else if (r != -e)
        fail("%s %s answers \"%s\", not \"%s\"", j->what, j->path, lfs_strerror((int)r), lfs_strerror(-e));
    j->t->reported = true;
    return (int)r;
}

/* ---- paths: walked with no faults, which are for the operation itself ---- */

static struct node *walk(struct run *t, const char *path, size_t end)
{
    char part[NAME_PLAIN_MAX + 1];
    struct node *n = volume_root(t->v), *next;
    struct stat st;
    bool armed = plan->armed;
    plan->armed = false;
    node_ref(n);
    for (size_t at = 0; n && at < end;) {
        size_t len = strcspn(path + at, "/");
        snprintf(part, sizeof part, "%.*s", (int)len, path + at);
        int r = node_lookup(n, part, &st, &next);
        node_unref(n, 1);
        n = r ? NULL : next;
        at += len + 1;
    }
    plan->armed = armed;
    return n;
}

static struct node *node_of(struct run *t, const char *path)
{
    return walk(t, path, strlen(path));
}

static struct node *parent_of(struct run *t, const char *path, const char **name)
{
    const char *slash = strrchr(path, '/');
    *name = slash ? slash + 1 : path;
    return walk(t, path, slash ? (size_t)(slash - path) : 0);
}

/* ---- names ---- */

void do_create(struct run *t, const char *path)
{
    const char *name;
    struct stat st;
    struct node *dir = parent_of(t, path, &name), *n;
    if (!dir)
        return;
    struct judging j = begin(t, "create", path, true);
    int raw = node_create(dir, name, S_IFREG | 0644, true, &st, &n), r = judge(&j, raw);
    if (!raw)
        node_unref(n, 1);
    if (r <= 0)
        model_add(path, 'f', "", r);
    node_unref(dir, 1);
}

void do_mkdir(struct run *t, const char *path)
{
    const char *name;
    struct stat st;
    struct node *dir = parent_of(t, path, &name), *n;
    if (!dir)
        return;
    struct judging j = begin(t, "mkdir", path, true);
    int raw = node_mkdir(dir, name, S_IFDIR | 0755, &st, &n), r = judge(&j, raw);
    if (!raw)
        node_unref(n, 1);
    if (r <= 0)
        model_add(path, 'd', "", r);
    node_unref(dir, 1);
}

void do_symlink(struct run *t, const char *path, const char *target)
{
    const char *name;
    struct stat st;
    struct node *dir = parent_of(t, path, &name), *n;
    if (!dir)
        return;
    struct judging j = begin(t, "symlink", path, true);
    int raw = node_symlink(dir, name, target, &st, &n), r = judge(&j, raw);
    if (!raw)
        node_unref(n, 1);
    if (r <= 0)
        model_add(path, 'l', target, r);
    node_unref(dir, 1);
}

/* True if the name is there; what an earlier failure has left out is not gone on with. */
static bool there(struct run *t, const char *path)
{
    struct node *n = model_find(path) ? node_of(t, path) : NULL;
    if (n)
        node_unref(n, 1);
    return n != NULL;
}

static void remove_as(struct run *t, const char *what, const char *path)
{
    const char *name;
    struct node *dir = parent_of(t, path, &name);
    if (!dir || !there(t, path))
        return;
    struct judging j = begin(t, what, path, true);
    int r = judge(&j, *what == 'r' ? node_rmdir(dir, name) : node_unlink(dir, name));
    if (r <= 0)
        model_drop(path, r);
    node_unref(dir, 1);
}

void do_rmdir(struct run *t, const char *path)
{
    remove_as(t, "rmdir", path);
}

void do_unlink(struct run *t, const char *path)
{
    remove_as(t, "unlink", path);
}

void do_rename(struct run *t, const char *from, const char *to, unsigned flags)
{
    const char *name, *newname;
    struct node *dir = parent_of(t, from, &name), *newdir = parent_of(t, to, &newname);
    if (dir && newdir && there(t, from) && (!(flags & RENAME_EXCHANGE) || there(t, to))) {
        struct judging j = begin(t, "rename", from, true);
        int r = judge(&j, node_rename(dir, name, newdir, newname, flags));
        if (r <= 0)
            model_move(from, to, flags & RENAME_EXCHANGE, r);
    }
    node_unref(dir, 1);
    node_unref(newdir, 1);
}

void do_link(struct run *t, const char *from, const char *to)
{
    const char *name;
    struct stat st;
    struct node *n = node_of(t, from), *dir = parent_of(t, to, &name), *linked;
    if (n && dir) {
        struct judging j = begin(t, "link", from, true);
        int raw = node_link(n, dir, name, &st, &linked), r = judge(&j, raw);
        if (!raw)
            node_unref(linked, 1);
        if (r <= 0)
            model_link(from, to, r);
    }
    node_unref(dir, 1);
    node_unref(n, 1);
}

/* ---- contents ---- */

static uint8_t *make_data(size_t len)
{
    uint64_t z = ++model->operations * 0x9e3779b97f4a7c15u;
    uint8_t *data = malloc(len + 8);
    if (!data)
        abort();
    for (size_t i = 0; i < len; i += 8) {
        z = (z ^ (z >> 29)) * 0xbf58476d1ce4e5b9u + i;
        memcpy(data + i, &z, 8);
    }
    return data;
}

static void write_as(struct run *t, const char *path, uint64_t off, size_t len, bool append)
{
    struct node *n = node_of(t, path);
    struct object *o = model_find(path);
    if (!n || !o)
        return;
    uint8_t *data = make_data(len);
    struct judging j = begin(t, append ? "append to" : "write to", path, true);
    ssize_t raw = append ? file_append(n, data, len) : file_write(n, data, len, off);
    int r = judge(&j, raw);
    if (append) /* each version at its own end: only one where nothing has failed */
        off = o->version[0].size;
    if (raw > 0 && raw < (ssize_t)len) { /* the part that is known to be written, then the rest */
        model_bytes(o, off, data, (size_t)raw, 0);
        model_bytes(o, off + (size_t)raw, data + raw, len - (size_t)raw, -1);
        t->reported = true;
    } else if (r <= 0) {
        model_bytes(o, off, data, len, r);
    }
    free(data);
    node_unref(n, 1);
}

void do_write(struct run *t, const char *path, uint64_t off, size_t len)
{
    write_as(t, path, off, len, false);
}

void do_append(struct run *t, const char *path, size_t len)
{
    struct object *o = model_find(path);
    if (o && o->versions > 1) { /* where the end is, is known by looking */
        struct node *n = node_of(t, path);
        bool armed = plan->armed;
        struct stat st;
        plan->armed = false;
        if (n && node_getattr(n, &st) == 0)
            write_as(t, path, (uint64_t)st.st_size, len, false);
        plan->armed = armed;
        node_unref(n, 1);
        return;
    }
    write_as(t, path, 0, len, true);
}

void do_truncate(struct run *t, const char *path, uint64_t size)
{
    struct node *n = node_of(t, path);
    if (!n)
        return;
    struct judging j = begin(t, "truncate", path, true);
    int r = judge(&j, file_truncate(n, size));
    if (r <= 0)
        model_size(model_find(path), size, r);
    node_unref(n, 1);
}

void do_fallocate(struct run *t, const char *path, int mode, uint64_t off, uint64_t len)
{
    struct node *n = node_of(t, path);
    struct object *o = model_find(path);
    if (!n)
        return;
    struct judging j = begin(t, "fallocate", path, true);
    int r = judge(&j, file_fallocate(n, mode, off, len));
    if (r <= 0 && (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)))
        model_bytes(o, off, NULL, len, r);
    if (r <= 0 && !(mode & FALLOC_FL_KEEP_SIZE) && off + len > o->version[0].size)
        model_size(o, off + len, r);
    node_unref(n, 1);
}

static void sync_as(struct run *t, const char *what, const char *path)
{
    struct node *n = node_of(t, path);
    if (!n)
        return;
    struct judging j = begin(t, what, path, true);
    judge(&j, *what == 'd' ? dir_fsync(n) : file_fsync(n, what[1] == 'd'));
    node_unref(n, 1);
}

void do_fsync(struct run *t, const char *path)
{
    sync_as(t, "fsync", path);
}

void do_fdatasync(struct run *t, const char *path)
{
    sync_as(t, "fdatasync", path);
}

void do_dirsync(struct run *t, const char *path)
{
    sync_as(t, "dirsync", path);
}

/* ---- attributes ---- */

void do_setxattr(struct run *t, const char *path, const char *name, size_t len)
{
    struct node *n = node_of(t, path);
    if (!n)
        return;
    uint8_t *data = make_data(len);
    struct judging j = begin(t, "setxattr", path, true);
    int r = judge(&j, node_setxattr(n, name, data, len, 0));
    if (r <= 0)
        model_attr(model_find(path), name, data, (int)len, r);
    free(data);
    node_unref(n, 1);
}

void do_removexattr(struct run *t, const char *path, const char *name)
{
    struct node *n = node_of(t, path);
    if (!n)
        return;
    struct judging j = begin(t, "removexattr", path, true);
    int raw = node_removexattr(n, name), r = raw == -ENODATA ? 1 : judge(&j, raw);
    if (r <= 0)
        model_attr(model_find(path), name, NULL, -1, r);
    node_unref(n, 1);
}

void do_chmod(struct run *t, const char *path, mode_t mode)
{
    struct node *n = node_of(t, path);
    struct stat want = {.st_mode = mode, .st_mtim = {.tv_sec = 1000000}}, st;
    if (!n)
        return;
    struct judging j = begin(t, "setattr", path, true);
    judge(&j, node_setattr(n, &want, SET_MODE | SET_MTIME, &st));
    node_unref(n, 1);
}

/* ---- reading ---- */

/* Read while the fault is armed: what comes is right, or the error. */
void do_read(struct run *t, const char *path)
{
    struct node *n = node_of(t, path);
    struct object *o = model_find(path);
    uint8_t *data = malloc(DATA_MAX);
    char list[1024];
    struct judging j = begin(t, "read", path, false);
    if (!n || !o || !data)
        abort();
    int r = judge(&j, file_open(n, false));
    if (!r) {
        ssize_t got = file_read(n, data, DATA_MAX, 0);
        judge(&j, got);
        if (got >= 0 &&
            ((uint64_t)got != o->version[0].size || memcmp(data, o->version[0].data, (size_t)got)))
            fail("read of %s answers something else", path);
        int64_t hole = file_seek(n, 0, SEEK_HOLE);
        if (hole != -ENXIO)
            judge(&j, hole);
        ssize_t listed = node_listxattr(n, list, sizeof list, false);
        judge(&j, listed);
        for (char *name = list; listed > 0 && name < list + listed; name += strlen(name) + 1)
            judge(&j, node_getxattr(n, name, data, DATA_MAX));
        file_close(n);
    }
    free(data);
    node_unref(n, 1);
}

void do_readdir(struct run *t, const char *path)
{
    struct node *dir = node_of(t, path), *n;
    char target[SYMLINK_PLAIN_MAX + 1];
    struct dir_stream *d;
    struct dir_entry e;
    struct stat st;
    struct statvfs vfs;
    uint64_t cookie = 0;
    struct judging j = begin(t, "readdir", path, false);
    int r = dir_open(dir, &d);
    if (!judge(&j, r)) {
        while ((r = dir_next(d, cookie, &e)) == 1) {
            cookie = e.cookie;
            if (!strcmp(e.name, ".") || !strcmp(e.name, ".."))
                continue;
            r = node_lookup(dir, e.name, &st, &n);
            if (judge(&j, r))
                continue;
            if (S_ISLNK(st.st_mode))
                judge(&j, node_readlink(n, target));
            judge(&j, node_getattr(n, &st));
            node_unref(n, 1);
        }
        judge(&j, r);
        dir_close(d);
    }
    judge(&j, volume_statfs(t->v, &vfs));
    node_unref(dir, 1);
}

void do_copy(struct run *t, const char *from, const char *to)
{
    struct node *in = node_of(t, from), *out = node_of(t, to);
    struct object *o = model_find(from);
    struct judging j = begin(t, "copy to", to, true);
    size_t len = (size_t)o->version[0].size;
    int r = judge(&j, file_copy_range(in, 0, out, 0, len));
    if (r <= 0)
        model_bytes(model_find(to), 0, o->version[0].data, len, r);
    node_unref(in, 1);
    node_unref(out, 1);
}

/* ---- the volume ---- */

void do_round(struct run *t)
{
    struct judging j = begin(t, "round", "", true);
    int r = volume_enter(t->v, true);
    if (!r) {
        r = checkpoint_run(t->v, false);
        volume_leave(t->v);
    }
    judge(&j, r);
}

void do_checkpoint(struct run *t)
{
    struct judging j = begin(t, "checkpoint", "", true);
    judge(&j, volume_checkpoint(t->v));
}

void do_seal(struct run *t)
{
    struct judging j = begin(t, "seal", "", false); /* what can't be sealed stays open */
    judge(&j, volume_seal_all(t->v));
}

void do_freeze(struct run *t)
{
    struct judging j = begin(t, "freeze", "", true);
    int r = judge(&j, volume_freeze(t->v, 60));
    if (!r && !volume_is_frozen(t->v))
        fail("it is not frozen");
    if (!r)
        judge(&j, volume_thaw(t->v));
    else if (volume_is_frozen(t->v))
        fail("it is frozen after an error");
}

static void rotate(struct run *t, bool data)
{
    struct rotate_options o = {0};
    struct rotate_progress p;
    struct keyset *k = run_keys(1, t->version + 1);
    memcpy(o.pd_id, k->pd_id, sizeof o.pd_id);
    struct judging j = begin(t, "rotation", "", true);
    if (!judge(&j, volume_pd_unlock(t->v, k))) {
        t->version++;
        int r = data ? volume_reencrypt(t->v, &o, &p) : volume_rewrap(t->v, &o, &p);
        /* What can't be read is counted as damaged; what a failed sync of one file means, the next one hears.
         */
        if ((r == LFS_ERR_CORRUPT && p.damaged) || (r == -EROFS && plan->what == CALL_SYNC))
            t->reported = true;
        else
            judge(&j, r);
    }
    keyset_free(k);
}

void do_rewrap(struct run *t)
{
    rotate(t, false);
}

void do_reencrypt(struct run *t)
{
    rotate(t, true);
}

void do_protect(struct run *t, const char *path)
{
    struct node *n = node_of(t, path);
    struct keyset *k = run_pd_keys();
    if (!n)
        abort();
    struct judging j = begin(t, "protect", path, true);
    judge(&j, node_protect(n, k));
    keyset_free(k);
    node_unref(n, 1);
}

void do_open_file(struct run *t, const char *path)
{
    struct node *n = node_of(t, path);
    struct judging j = begin(t, "open", path, true);
    if (n && judge(&j, file_open(n, true)))
        node_unref(n, 1);
}

/* Of one that is open: its reference goes too. */
void do_close_file(struct run *t, const char *path)
{
    struct node *n = node_of(t, path);
    file_close(n);
    node_unref(n, 2);
}
