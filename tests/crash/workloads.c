/* What programs do to files, each workload one habit. Deterministic for a seed. */
#include "lab.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KIB 1024u

/* Now and then one of the things that make content durable or put it in place. */
static void settle(struct lab *l, const char *path, unsigned every)
{
    switch (lab_random(l, every)) {
    case 0:
        op_fsync(l, path);
        break;
    case 1:
        op_fdatasync(l, path);
        break;
    case 2:
        op_round(l);
        break;
    case 3:
        if (lab_random(l, 4) == 0)
            op_checkpoint(l);
        break;
    default:
        break;
    }
}

static void overwrite(struct lab *l)
{
    const char *files[] = {"a", "b", "c"};
    for (int i = 0; i < 3; i++) {
        op_create(l, files[i]);
        op_write(l, files[i], 0, 300 * KIB + (size_t)i * 1000);
        op_fsync(l, files[i]);
    }
    op_checkpoint(l);
    for (int i = 0; i < 80; i++) {
        const char *f = files[lab_random(l, 3)];
        uint64_t chunk = lab_random(l, 70);
        if (lab_random(l, 2))
            op_write(l, f, chunk * PAGE_BYTES, PAGE_BYTES * (1 + lab_random(l, 5)));
        else
            op_write(l, f, chunk * PAGE_BYTES + lab_random(l, PAGE_BYTES), 1 + lab_random(l, 3 * PAGE_BYTES));
        settle(l, f, 12);
    }
}

static void append(struct lab *l)
{
    const char *files[] = {"log", "unsynced", "wal"};
    for (int i = 0; i < 3; i++)
        op_create(l, files[i]);
    for (int i = 0; i < 120; i++) {
        op_append(l, "log", 1 + lab_random(l, 9000));
        op_append(l, "unsynced", 1 + lab_random(l, 60 * KIB));
        op_append(l, "wal", 100 + lab_random(l, 500));
        if (i % 3 == 0)
            op_fdatasync(l, "wal");
        settle(l, "log", 10);
    }
}

static void grow(struct lab *l)
{
    char name[32];
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "grow%d", i);
        op_create(l, name);
        op_append(l, name, 1 + lab_random(l, 2000));
        settle(l, name, 6);
        op_append(l, name, 1 + lab_random(l, 2500));
        settle(l, name, 6);
        if (lab_random(l, 3) == 0)
            op_truncate(l, name, INLINE_MAX + lab_random(l, 3 * PAGE_BYTES));
        else
            op_append(l, name, 1 + lab_random(l, 3 * PAGE_BYTES));
        settle(l, name, 5);
        if (lab_random(l, 4) == 0) {
            op_truncate(l, name, lab_random(l, INLINE_MAX));
            op_append(l, name, 1 + lab_random(l, 500));
            settle(l, name, 6);
        }
    }
}

static void truncating(struct lab *l)
{
    char name[32];
    for (int i = 0; i < 6; i++) {
        snprintf(name, sizeof name, "cut%d", i);
        op_create(l, name);
        op_write(l, name, 0, 120 * PAGE_BYTES + lab_random(l, 20 * PAGE_BYTES));
        settle(l, name, 3);
        for (int k = 0; k < 16; k++) {
            uint64_t size = lab_random(l, 150 * PAGE_BYTES);
            switch (lab_random(l, 5)) {
            case 0:
                size = 0;
                break;
            case 1:
                size = size / PAGE_BYTES * PAGE_BYTES;
                break;
            case 2:
                size = (112 + lab_random(l, 2)) * PAGE_BYTES + lab_random(l, 2) * 7;
                break;
            default:
                break;
            }
            op_truncate(l, name, size);
            settle(l, name, 8);
            if (lab_random(l, 2))
                op_append(l, name, 1 + lab_random(l, 20 * PAGE_BYTES));
            else
                op_write(l, name, lab_random(l, 130) * PAGE_BYTES,
                         PAGE_BYTES + lab_random(l, 9 * PAGE_BYTES));
            settle(l, name, 8);
        }
    }
}

static void punch(struct lab *l)
{
    static const int modes[] = {FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
                                FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_KEEP_SIZE, 0};
    const char *files[] = {"p", "q"};
    for (int i = 0; i < 2; i++) {
        op_create(l, files[i]);
        op_write(l, files[i], 0, 400 * PAGE_BYTES);
        op_fsync(l, files[i]);
    }
    op_checkpoint(l);
    for (int i = 0; i < 70; i++) {
        const char *f = files[lab_random(l, 2)];
        uint64_t off = lab_random(l, 400 * PAGE_BYTES), len = 1 + lab_random(l, 30 * PAGE_BYTES);
        if (lab_random(l, 6) == 0)
            len = 150 * PAGE_BYTES + lab_random(l, 100 * PAGE_BYTES);
        if (lab_random(l, 2))
            off = off / PAGE_BYTES * PAGE_BYTES;
        if (lab_random(l, 2))
            op_fallocate(l, f, modes[lab_random(l, 10) < 6 ? 0 : lab_random(l, 5)], off, len);
        else
            op_write(l, f, off, 1 + len % (20 * PAGE_BYTES));
        settle(l, f, 9);
    }
}

static void small(struct lab *l)
{
    char name[64];
    op_mkdir(l, "few");
    op_mkdir(l, "many");
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof name, "%s/f%03d", i % 5 ? "many" : "few", i);
        op_create(l, name);
        if (lab_random(l, 8))
            op_write(l, name, lab_random(l, 4) ? 0 : lab_random(l, 400), 1 + lab_random(l, 6000));
        settle(l, name, 15);
        if (lab_random(l, 20) == 0)
            op_dirsync(l, "many");
        if (lab_random(l, 6) == 0)
            op_unlink(l, name);
    }
}

/* Save by rename, as editors do; some sync the new file before, some do not. */
static void saving(struct lab *l)
{
    char name[32];
    op_mkdir(l, "d");
    for (int i = 0; i < 60; i++) {
        snprintf(name, sizeof name, "%sdoc%d", i % 3 ? "" : "d/", (int)lab_random(l, 5));
        op_create(l, "tmp");
        for (uint64_t k = lab_random(l, 4); k; k--)
            op_append(l, "tmp", 1 + lab_random(l, lab_random(l, 2) ? 3000 : 60 * KIB));
        if (lab_random(l, 3) == 0)
            op_fsync(l, "tmp");
        op_rename(l, "tmp", name, 0);
        if (lab_random(l, 5) == 0)
            op_dirsync(l, i % 3 ? "" : "d");
        if (lab_random(l, 3) == 0)
            op_append(l, name, 1 + lab_random(l, 5000));
        settle(l, name, 12);
    }
}

static void tree(struct lab *l)
{
    char name[64], other[64];
    for (int i = 0; i < 12; i++) {
        snprintf(name, sizeof name, "t%d", i);
        op_mkdir(l, name);
        snprintf(name, sizeof name, "t%d/sub", i);
        op_mkdir(l, name);
        snprintf(name, sizeof name, "t%d/sub/f", i);
        op_create(l, name);
        op_write(l, name, 0, 1 + lab_random(l, 9000));
        settle(l, name, 6);
    }
    for (int i = 0; i < 12; i++) {
        snprintf(name, sizeof name, "t%d/sub", i);
        switch (i % 4) {
        case 0: /* to another parent */
            snprintf(other, sizeof other, "t%d/moved%d", (i + 1) % 12, i);
            op_rename(l, name, other, 0);
            break;
        case 1: /* over an empty directory */
            snprintf(other, sizeof other, "empty%d", i);
            op_mkdir(l, other);
            op_rename(l, name, other, 0);
            break;
        case 2: /* exchanged with a file's directory elsewhere */
            snprintf(other, sizeof other, "t%d/sub", i + 1);
            op_rename(l, name, other, RENAME_EXCHANGE);
            break;
        default:
            snprintf(other, sizeof other, "t%d/sub/f", i);
            op_unlink(l, other);
            op_rmdir(l, name);
            snprintf(other, sizeof other, "t%d", i);
            op_dirsync(l, other);
            break;
        }
        if (lab_random(l, 4) == 0)
            op_round(l);
    }
}

static void long_name(char out[static NAME_PLAIN_MAX + 1], int i, size_t len)
{
    char tag[16];
    size_t n = (size_t)snprintf(tag, sizeof tag, "n%d-", i);
    memset(out, 'a' + i % 26, len);
    memcpy(out, tag, n);
    out[len] = '\0';
}

static void names(struct lab *l)
{
    char name[NAME_PLAIN_MAX + 1], other[NAME_PLAIN_MAX + 1], target[SYMLINK_PLAIN_MAX + 1];
    for (int i = 0; i < 40; i++) {
        long_name(name, i, lab_random(l, 3) ? 180 + lab_random(l, 76) : 20);
        long_name(other, 100 + i, lab_random(l, 3) ? 180 + lab_random(l, 76) : 20);
        size_t len = lab_random(l, 2) ? 1 + lab_random(l, 100) : 1 + lab_random(l, SYMLINK_PLAIN_MAX);
        memset(target, 'z', len);
        target[len] = '\0';
        switch (i % 4) {
        case 0:
            op_mkdir(l, name);
            break;
        case 1:
            op_symlink(l, name, target);
            break;
        default:
            op_create(l, name);
            op_write(l, name, 0, 1 + lab_random(l, 5000));
            settle(l, name, 6);
            break;
        }
        if (i % 4 == 2 && lab_random(l, 2))
            op_link(l, name, other);
        else if (lab_random(l, 2))
            op_rename(l, name, other, 0);
        else if (lab_random(l, 3) == 0 && i % 4)
            op_unlink(l, name);
        if (lab_random(l, 8) == 0)
            op_dirsync(l, "");
    }
}

/* Long names moved between directories with long names: to a free name, over another, exchanged. */
static void moves(struct lab *l)
{
    char dir[2][NAME_PLAIN_MAX + 1], name[NAME_PLAIN_MAX + 1], from[600], to[600];
    for (int i = 0; i < 2; i++) {
        long_name(dir[i], i, 200);
        op_mkdir(l, dir[i]);
    }
    for (int i = 0; i < 45; i++) {
        int kind = i % 5; /* of what stands under this name, always */
        long_name(name, kind, kind % 2 ? 250 : 12);
        snprintf(from, sizeof from, "%s/%s", dir[0], name);
        snprintf(to, sizeof to, "%s/%s", dir[1], name);
        if (op_exists(l, from))
            ; /* came back by an exchange */
        else if (kind == 3)
            op_symlink(l, from, i % 2 ? to : "short");
        else if (kind == 4)
            op_mkdir(l, from);
        else
            op_create(l, from);
        if (kind < 3) {
            op_append(l, from, 1 + lab_random(l, 8000));
            settle(l, from, 6);
        }
        op_rename(l, from, to, !op_exists(l, to) ? RENAME_NOREPLACE : lab_random(l, 2) ? RENAME_EXCHANGE : 0);
        if (lab_random(l, 6) == 0)
            op_dirsync(l, dir[lab_random(l, 2)]);
    }
}

/* Hard links, symbolic links replaced, files unlinked with changes under way, attributes. */
static void links(struct lab *l)
{
    char name[32], other[32];
    op_mkdir(l, "far");
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "l%d", i);
        snprintf(other, sizeof other, "far/o%d", i);
        op_create(l, name);
        op_write(l, name, 0, 1 + lab_random(l, 30000));
        settle(l, name, 8);
        op_link(l, name, other);
        op_write(l, other, lab_random(l, 5000), 1 + lab_random(l, 9000));
        if (lab_random(l, 3) == 0)
            op_setxattr(l, name, "user.note", 1 + lab_random(l, 200));
        settle(l, other, 8);
        if (lab_random(l, 2))
            op_unlink(l, lab_random(l, 2) ? name : other);
        snprintf(name, sizeof name, "s%d", i);
        op_symlink(l, name, other);
        if (lab_random(l, 2))
            op_rename(l, name, "current", 0);
        if (lab_random(l, 6) == 0)
            op_dirsync(l, lab_random(l, 2) ? "" : "far");
    }
}

/* Attributes of files and directories, modes, special files. */
static void xattrs(struct lab *l)
{
    static const char *const attr[] = {"user.a", "user.note", "user.third"};
    bool set[20][3] = {{false}};
    char name[32];
    op_mkdir(l, "d");
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof name, "%sx%d", i % 2 ? "d/" : "", i);
        if (i % 5 == 4)
            op_mkdir(l, name);
        else
            op_create(l, name);
        if (i % 5 < 3)
            op_write(l, name, 0, 1 + lab_random(l, 9000));
    }
    op_mkfifo(l, "d/fifo");
    for (int k = 0; k < 150; k++) {
        uint64_t i = lab_random(l, 20), a = lab_random(l, 3);
        bool dir = i % 5 == 4;
        snprintf(name, sizeof name, "%sx%d", i % 2 ? "d/" : "", (int)i);
        switch (lab_random(l, 6)) {
        case 0:
            if (set[i][a])
                op_removexattr(l, name, attr[a]);
            set[i][a] = false;
            break;
        case 1:
            op_chmod(l, name, lab_random(l, 2) ? 0700 : 0750);
            break;
        case 2:
            if (!dir)
                op_append(l, name, 1 + lab_random(l, 5000));
            break;
        default:
            op_setxattr(l, name, attr[a], lab_random(l, 3) ? 1 + lab_random(l, 60) : lab_random(l, 500));
            set[i][a] = true;
            break;
        }
        if (!dir)
            settle(l, name, 5);
        else if (lab_random(l, 3) == 0)
            op_dirsync(l, name);
    }
}

/* Files whose seal stands are changed in every way, and sealed again. */
static void seals(struct lab *l)
{
    static const uint64_t sizes[] = {9000, 100 * KIB, 448 * KIB, 470 * KIB, 3000, 1100 * KIB};
    char name[32];
    for (int i = 0; i < 6; i++) {
        snprintf(name, sizeof name, "s%d", i);
        op_create(l, name);
        op_write(l, name, 0, sizes[i]);
    }
    op_seal(l);
    for (int k = 0; k < 60; k++) {
        snprintf(name, sizeof name, "s%d", (int)lab_random(l, 6));
        uint64_t at = lab_random(l, 300 * KIB);
        switch (lab_random(l, 7)) {
        case 0:
            op_append(l, name, 50 * KIB + lab_random(l, 300 * KIB)); /* fresh, behind a seal */
            break;
        case 1:
            op_truncate(l, name, lab_random(l, 4) ? lab_random(l, 600 * KIB) : lab_random(l, 4000));
            break;
        case 2:
            op_fallocate(l, name, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, 100 * KIB);
            break;
        case 3:
            op_setxattr(l, name, "user.note", 20);
            break;
        default:
            op_write(l, name, at, 1 + lab_random(l, 20 * KIB));
            break;
        }
        settle(l, name, 6);
        if (lab_random(l, 5) == 0)
            op_seal(l);
        if (lab_random(l, 12) == 0)
            op_remount(l);
    }
}

/* An empty directory with attributes becomes a protected one, and is used. */
static void protects(struct lab *l)
{
    char name[64];
    op_mkdir(l, "plain");
    op_mkdir(l, "p");
    op_setxattr(l, "p", "user.a", 40);
    op_setxattr(l, "p", "user.b", 300);
    op_setxattr(l, "plain", "user.c", 10);
    op_create(l, "plain/f");
    op_write(l, "plain/f", 0, 20000);
    op_dirsync(l, "p");
    op_protect(l, "p");
    op_setxattr(l, "p", "user.b", 100);
    for (int i = 0; i < 12; i++) {
        snprintf(name, sizeof name, "p/%sf%d", i < 6 ? "" : "sub/", i);
        if (i == 6)
            op_mkdir(l, "p/sub");
        op_create(l, name);
        op_write(l, name, 0, 1 + lab_random(l, 20000));
        op_setxattr(l, name, "user.note", 30);
        settle(l, name, 4);
        if (lab_random(l, 3) == 0)
            op_round(l);
    }
    op_rename(l, "p/f1", "p/sub/moved", 0);
    op_rename(l, "p", "renamed", 0); /* the topmost directory, within its parent */
    op_rename(l, "renamed", "plain/again", 0);
    op_dirsync(l, "plain");
    op_append(l, "plain/again/f2", 3000);
    op_rename(l, "plain/again", "back", 0);
    op_remount(l);
    op_append(l, "back/f3", 3000);
    op_fsync(l, "back/f3");
}

/* Directories that get another name under the same parent, change places, and do so again before anything of it
 * is known to be on disk. */
static void dirnames(struct lab *l)
{
    char name[NAME_PLAIN_MAX + 1], other[NAME_PLAIN_MAX + 1], path[600];
    int names[5] = {0, 1, 2, 3, 4}, next = 5;
    for (int i = 0; i < 5; i++) {
        long_name(name, i, i % 2 ? 200 : 12);
        op_mkdir(l, name);
        snprintf(path, sizeof path, "%s/in", name);
        op_create(l, path);
        op_write(l, path, 0, 1 + lab_random(l, 9000));
        settle(l, path, 5);
    }
    for (int k = 0; k < 45; k++) {
        int i = (int)lab_random(l, 5), j = (i + 1 + (int)lab_random(l, 4)) % 5;
        long_name(name, names[i], names[i] % 2 ? 200 : 12);
        long_name(other, names[j], names[j] % 2 ? 200 : 12);
        if (lab_random(l, 3)) {
            long_name(other, next, next % 2 ? 200 : 12);
            op_rename(l, name, other, lab_random(l, 2) ? RENAME_NOREPLACE : 0);
            names[i] = next++;
        } else {
            op_rename(l, name, other, RENAME_EXCHANGE);
        }
        snprintf(path, sizeof path, "%s/in", other);
        op_append(l, path, 1 + lab_random(l, 3000));
        settle(l, path, 7);
        if (lab_random(l, 9) == 0)
            op_dirsync(l, "");
        if (lab_random(l, 12) == 0)
            op_remount(l);
    }
}

/* Frozen now and then: nothing changes, and what is copied meanwhile is clean. */
static void look(struct lab *l)
{
    uint8_t data[100];
    struct node *n = lab_node(l->v, "f0");
    if (file_read(n, data, sizeof data, 0) < 0)
        lab_die("reading while frozen");
    node_unref(n, 1);
}

static void freezing(struct lab *l)
{
    char name[32];
    for (int i = 0; i < 60; i++) {
        snprintf(name, sizeof name, "f%d", i ? (int)lab_random(l, 6) : 0);
        if (!op_exists(l, name))
            op_create(l, name);
        op_write(l, name, lab_random(l, 30000), 1 + lab_random(l, 30000));
        settle(l, name, 9);
        if (i % 6 == 5)
            op_freeze(l, look);
    }
}

/* Files removed while the journal still holds what fsync returned for. */
static void removing(struct lab *l)
{
    char name[32];
    op_mkdir(l, "gone");
    op_mkdir(l, "stay");
    for (int i = 0; i < 30; i++) {
        snprintf(name, sizeof name, "%s/r%d", i % 2 ? "gone" : "stay", i);
        op_create(l, name);
        op_write(l, name, 0, 1 + lab_random(l, 20000));
        op_fsync(l, name);
        op_write(l, name, lab_random(l, 9000), 1 + lab_random(l, 9000));
        if (lab_random(l, 3))
            op_fsync(l, name);
        if (i % 2 || lab_random(l, 3) == 0)
            op_unlink(l, name);
        for (uint64_t k = lab_random(l, 5); k > 1; k--)
            op_round(l);
    }
}

/* Files whose place changes, by their own rename or a parent's, while the journal still holds their content.
 */
static void hints(struct lab *l)
{
    char dir[32], name[64], to[64];
    for (int i = 0; i < 25; i++) {
        snprintf(dir, sizeof dir, "h%d", i);
        snprintf(name, sizeof name, "%s/f", dir);
        op_mkdir(l, dir);
        op_create(l, name);
        op_write(l, name, 0, 1 + lab_random(l, 9000));
        op_fsync(l, name);
        op_write(l, name, lab_random(l, 5000), 1 + lab_random(l, 9000));
        op_fsync(l, name);
        if (lab_random(l, 3) == 0)
            op_round(l);
        if (lab_random(l, 2)) {
            snprintf(to, sizeof to, "%s/moved", dir);
            op_rename(l, name, to, 0);
            memcpy(name, to, sizeof name);
        }
        if (lab_random(l, 2)) {
            bool moved = strchr(name, 'm') != NULL;
            snprintf(to, sizeof to, "away%d", i);
            op_rename(l, dir, to, 0);
            snprintf(name, sizeof name, "away%d/%s", i, moved ? "moved" : "f");
        }
        if (lab_random(l, 2))
            op_dirsync(l, "");
        if (lab_random(l, 2))
            op_unlink(l, name);
        if (lab_random(l, 4) == 0)
            op_round(l);
    }
}

/* Mounted again and again: the journal is emptied, dropped, and begun anew. */
static void remount(struct lab *l)
{
    char name[32];
    for (int i = 0; i < 14; i++) {
        for (int k = 0; k < 8; k++) {
            snprintf(name, sizeof name, "re%d", (int)lab_random(l, 6));
            if (!op_exists(l, name))
                op_create(l, name);
            op_write(l, name, lab_random(l, 3) ? 0 : lab_random(l, 30000), 1 + lab_random(l, 12000));
            settle(l, name, 8);
        }
        op_remount(l);
    }
}

/* Several laps of the ring. */
static void wrap(struct lab *l)
{
    const char *files[] = {"w0", "w1", "w2", "w3"};
    for (int i = 0; i < 4; i++) {
        op_create(l, files[i]);
        op_write(l, files[i], 0, 600 * KIB);
    }
    op_checkpoint(l);
    for (int i = 0; i < 260; i++) {
        const char *f = files[lab_random(l, 4)];
        op_write(l, f, lab_random(l, 130) * PAGE_BYTES + lab_random(l, 2) * 100,
                 1 + lab_random(l, 120 * KIB));
        settle(l, f, 14);
    }
}

/* Large files in fresh space, cut and written again where there was something before. */
static void fresh(struct lab *l)
{
    char name[32];
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "big%d", i);
        op_create(l, name);
        for (int k = 0; k < 6; k++) {
            op_append(l, name, 200 * KIB + lab_random(l, 300 * KIB));
            settle(l, name, 8);
        }
        op_truncate(l, name, lab_random(l, 500 * KIB));
        settle(l, name, 8);
        op_append(l, name, 300 * KIB);
        settle(l, name, 8);
        op_write(l, name, 900 * KIB + lab_random(l, 300 * KIB), 100 * KIB);
        settle(l, name, 6);
        op_truncate(l, name, 0);
        op_write(l, name, 0, 250 * KIB);
        settle(l, name, 6);
    }
    op_create(l, "huge");
    op_write(l, "huge", 0, 2600 * KIB);
    op_fsync(l, "huge");
}

/* ---- everything at once ---- */

#define MIXED_FILES 10

static void mixed_change(struct lab *l, const char *f)
{
    uint64_t off = lab_random(l, 3) ? lab_random(l, 200 * PAGE_BYTES) : lab_random(l, 6000);
    uint64_t len = lab_random(l, 3) ? 1 + lab_random(l, 8000) : 1 + lab_random(l, 30 * PAGE_BYTES);
    switch (lab_random(l, 8)) {
    case 0:
        op_truncate(l, f, lab_random(l, 3) ? off : 0);
        break;
    case 1:
        op_fallocate(l, f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len);
        break;
    case 2:
        op_append(l, f, len);
        break;
    default:
        op_write(l, f, off, len);
        break;
    }
}

static void mixed(struct lab *l)
{
    char name[MIXED_FILES][32], tmp[32];
    for (int i = 0; i < MIXED_FILES; i++) {
        snprintf(name[i], sizeof name[i], "m%d", i);
        op_create(l, name[i]);
    }
    for (int i = 0; i < 400; i++) {
        char *f = name[lab_random(l, MIXED_FILES)];
        mixed_change(l, f);
        settle(l, f, 16);
        if (lab_random(l, 25) == 0) { /* replaced, or moved out of the way of a new one */
            snprintf(tmp, sizeof tmp, "x%d", i);
            op_rename(l, f, tmp, 0);
            op_create(l, f);
            if (lab_random(l, 2)) {
                op_write(l, f, 0, 1 + lab_random(l, 20000));
                op_rename(l, f, tmp, 0);
                op_create(l, f);
            } else if (lab_random(l, 2)) {
                op_unlink(l, tmp);
            }
        }
    }
}

/* ---- keys ---- */

#define ROTATED 12

static void rotated_name(struct lab *l, char name[static 16], uint64_t i)
{
    snprintf(name, 16, "r%d", (int)i);
    if (!op_exists(l, name))
        snprintf(name, 16, "d/r%d", (int)i);
}

/* What programs do between two steps of a rotation. */
static void meanwhile(struct lab *l)
{
    char name[16], to[16];
    uint64_t i = lab_random(l, ROTATED);
    rotated_name(l, name, i);
    switch (lab_random(l, 14)) {
    case 0:
        op_write(l, name, lab_random(l, 20 * PAGE_BYTES), 1 + lab_random(l, 3 * PAGE_BYTES));
        break;
    case 1:
        op_append(l, name, 1 + lab_random(l, 12 * PAGE_BYTES));
        break;
    case 2:
        op_truncate(l, name, lab_random(l, 3) ? lab_random(l, 40 * PAGE_BYTES) : lab_random(l, 4000));
        break;
    case 3:
        op_setxattr(l, name, "user.note", 1 + lab_random(l, 100));
        break;
    case 4:
        snprintf(to, sizeof to, "%sr%d", name[0] == 'd' ? "" : "d/", (int)i);
        op_rename(l, name, to, 0);
        break;
    case 5:
        settle(l, name, 4);
        break;
    default:
        break;
    }
}

static void rotating(struct lab *l, bool data)
{
    static const uint64_t sizes[ROTATED] = {
        0, 40, 3000, 3584, 3585, 9000, 30 * 4096, 50 * 4096, 90 * 4096, 130 * 4096, 260 * 4096, 12 * 4096};
    char name[16];
    op_mkdir(l, "d");
    for (int i = 0; i < ROTATED; i++) {
        snprintf(name, sizeof name, "%sr%d", i % 3 ? "d/" : "", i);
        op_create(l, name);
        if (sizes[i])
            op_write(l, name, 0, sizes[i]);
        if (i % 2)
            op_setxattr(l, name, "user.note", 1 + lab_random(l, 100));
    }
    op_link(l, "r6", "d/linked");
    op_checkpoint(l);
    for (int round = 0; round < 5; round++) {
        while (lab_random(l, 2) && l->version < LAB_VERSIONS - 5)
            op_rotate(l, data || lab_random(l, 3) == 0, 1 + lab_random(l, 40), meanwhile);
        if (lab_random(l, 5) == 0)
            op_remount(l);
        op_rotate(l, data, 0, meanwhile);
        rotated_name(l, name, lab_random(l, ROTATED));
        settle(l, name, 5);
    }
}

static void rewrap(struct lab *l)
{
    rotating(l, false);
}

static void reencrypt(struct lab *l)
{
    rotating(l, true);
}

/* ---- several threads, a file each, while rounds go on ---- */

#define THREADS 4

struct worker {
    struct lab lab;
    char name[16];
    pthread_t thread;
};

static void *work(void *arg)
{
    struct worker *w = arg;
    for (int i = 0; i < 50; i++) {
        mixed_change(&w->lab, w->name);
        settle(&w->lab, w->name, 9);
    }
    return NULL;
}

static void threads(struct lab *l)
{
    struct worker w[THREADS];
    for (int i = 0; i < THREADS; i++) {
        w[i] = (struct worker){
            .lab = {.v = l->v, .ops = (uint64_t)(i + 1) * 100000, .random = lab_random(l, 1u << 30)}};
        snprintf(w[i].name, sizeof w[i].name, "th%d", i);
        op_create(l, w[i].name);
    }
    op_dirsync(l, "");
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&w[i].thread, NULL, work, &w[i]))
            lab_die("no thread");
    for (int i = 0; i < THREADS; i++)
        pthread_join(w[i].thread, NULL);
}

const struct workload workloads[] = {
    {"overwrite", overwrite}, {"append", append},       {"grow", grow},
    {"truncate", truncating}, {"punch", punch},         {"small", small},
    {"saving", saving},       {"tree", tree},           {"names", names},
    {"moves", moves},         {"links", links},         {"remove", removing},
    {"hints", hints},         {"remount", remount},     {"wrap", wrap},
    {"fresh", fresh},         {"mixed", mixed},         {"threads", threads},
    {"rewrap", rewrap},       {"reencrypt", reencrypt}, {"xattrs", xattrs},
    {"seals", seals},         {"protect", protects},    {"dirnames", dirnames},
    {"freeze", freezing},     {NULL, NULL},
};
