/* What programs do to names and attributes, each workload one habit. Deterministic for a seed. */
#include "lab.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KIB 1024u

void w_small(struct lab *l)
{
    char name[64];
    op_mkdir(l, "few");
    op_mkdir(l, "many");
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof name, "%s/f%03d", i % 5 ? "many" : "few", i);
        op_create(l, name);
        if (lab_random(l, 8))
            op_write(l, name, lab_random(l, 4) ? 0 : lab_random(l, 400), 1 + lab_random(l, 6000));
        lab_settle(l, name, 15);
        if (lab_random(l, 20) == 0)
            op_dirsync(l, "many");
        if (lab_random(l, 6) == 0)
            op_unlink(l, name);
    }
}

/* Save by rename, as editors do; some sync the new file before, some do not. */
void w_saving(struct lab *l)
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
        lab_settle(l, name, 12);
    }
}

void w_tree(struct lab *l)
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
        lab_settle(l, name, 6);
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

void w_names(struct lab *l)
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
            lab_settle(l, name, 6);
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
void w_moves(struct lab *l)
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
            lab_settle(l, from, 6);
        }
        op_rename(l, from, to, !op_exists(l, to) ? RENAME_NOREPLACE : lab_random(l, 2) ? RENAME_EXCHANGE : 0);
        if (lab_random(l, 6) == 0)
            op_dirsync(l, dir[lab_random(l, 2)]);
    }
}

/* Hard links, symbolic links replaced, files unlinked with changes under way, attributes. */
void w_links(struct lab *l)
{
    char name[32], other[32];
    op_mkdir(l, "far");
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "l%d", i);
        snprintf(other, sizeof other, "far/o%d", i);
        op_create(l, name);
        op_write(l, name, 0, 1 + lab_random(l, 30000));
        lab_settle(l, name, 8);
        op_link(l, name, other);
        op_write(l, other, lab_random(l, 5000), 1 + lab_random(l, 9000));
        if (lab_random(l, 3) == 0)
            op_setxattr(l, name, "user.note", 1 + lab_random(l, 200));
        lab_settle(l, other, 8);
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
void w_xattrs(struct lab *l)
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
            lab_settle(l, name, 5);
        else if (lab_random(l, 3) == 0)
            op_dirsync(l, name);
    }
}

/* An empty directory with attributes becomes a protected one, and is used. */
void w_protects(struct lab *l)
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
        lab_settle(l, name, 4);
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

/* Directories that get another name under the same parent, change places, and do so again before anything of
 * it is known to be on disk. */
void w_dirnames(struct lab *l)
{
    char name[NAME_PLAIN_MAX + 1], other[NAME_PLAIN_MAX + 1], path[600];
    int names[5] = {0, 1, 2, 3, 4}, next = 5;
    for (int i = 0; i < 5; i++) {
        long_name(name, i, i % 2 ? 200 : 12);
        op_mkdir(l, name);
        snprintf(path, sizeof path, "%s/in", name);
        op_create(l, path);
        op_write(l, path, 0, 1 + lab_random(l, 9000));
        lab_settle(l, path, 5);
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
        lab_settle(l, path, 7);
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

void w_freezing(struct lab *l)
{
    char name[32];
    for (int i = 0; i < 60; i++) {
        snprintf(name, sizeof name, "f%d", i ? (int)lab_random(l, 6) : 0);
        if (!op_exists(l, name))
            op_create(l, name);
        op_write(l, name, lab_random(l, 30000), 1 + lab_random(l, 30000));
        lab_settle(l, name, 9);
        if (i % 6 == 5)
            op_freeze(l, look);
    }
}

/* Files removed while the journal still holds what fsync returned for. */
void w_removing(struct lab *l)
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
void w_hints(struct lab *l)
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
void w_remount(struct lab *l)
{
    char name[32];
    for (int i = 0; i < 14; i++) {
        for (int k = 0; k < 8; k++) {
            snprintf(name, sizeof name, "re%d", (int)lab_random(l, 6));
            if (!op_exists(l, name))
                op_create(l, name);
            op_write(l, name, lab_random(l, 3) ? 0 : lab_random(l, 30000), 1 + lab_random(l, 12000));
            lab_settle(l, name, 8);
        }
        op_remount(l);
    }
}

/* One new directory in another, and what programs do at once with such: file, sync, another name, another
 * place, away. */
static void use_new(struct lab *l, const char *dir, int i)
{
    char name[80], other[64];
    snprintf(name, sizeof name, "%s/f", dir);
    op_create(l, name);
    op_append(l, name, 1 + lab_random(l, 9000));
    lab_settle(l, name, 6);
    snprintf(other, sizeof other, "%s-%d", lab_random(l, 2) ? "top/x" : "y", i);
    switch (lab_random(l, 6)) {
    case 0:
        op_rename(l, dir, other, RENAME_NOREPLACE);
        break;
    case 1:
        op_mkdir(l, other);
        op_rename(l, dir, other, lab_random(l, 2) ? RENAME_EXCHANGE : 0);
        break;
    case 2:
        op_unlink(l, name);
        op_rmdir(l, dir);
        break;
    case 3:
        op_dirsync(l, dir);
        break;
    case 4:
        op_setxattr(l, dir, "user.a", 1 + lab_random(l, 100));
        break;
    default:
        break;
    }
}

static void nothing(struct lab *l)
{
}

/* Trees of directories that nobody syncs, as an archive is unpacked. */
void w_newdirs(struct lab *l)
{
    char name[64];
    op_mkdir(l, "top");
    for (int i = 0; i < 60; i++) {
        snprintf(name, sizeof name, "%sd%d", i % 3 ? "top/" : "", i);
        op_mkdir(l, name);
        use_new(l, name, i);
        if (lab_random(l, 12) == 0)
            op_round(l);
        if (lab_random(l, 15) == 0)
            op_remount(l);
        if (lab_random(l, 20) == 0)
            op_rotate(l, false, 0, nothing);
    }
}
