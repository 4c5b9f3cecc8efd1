/* Finding the backing files that a journal speaks of: by the path in it, else by walking the volume. */
#include "fs/store/replay.h"
#include "fs/store/tree.h"

#include "latchfs/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEPTH_MAX 2000 /* of directories; PATH_MAX allows no more */

static int child(struct node *dir, const char *name, struct node **out)
{
    struct stat st;
    int fd, r;
    if (!*name || !strcmp(name, ".") || !strcmp(name, "..") || strchr(name, '/') || tmp_is_name(name))
        return -ENOENT;
    r = node_fd_get(dir, false, &fd);
    if (r)
        return r;
    r = fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) ? -errno : 0;
    node_fd_put(dir);
    return r ? r : node_obtain(dir, &st, name, out);
}

/* The node at a ciphertext path, with a reference. */
static int at_path(struct volume *v, char *path, struct node **out)
{
    struct node *n = v->root;
    char *save = NULL;
    node_ref(n);
    for (char *name = strtok_r(path, "/", &save); name; name = strtok_r(NULL, "/", &save)) {
        struct node *next;
        int r = n->type == S_IFDIR ? child(n, name, &next) : -ENOTDIR;
        node_unref(n, 1);
        if (r)
            return r;
        n = next;
    }
    *out = n;
    return 0;
}

/* Errors that say "not there", or that what stands there is damaged: not a reason to stop. Any other might
 * hide a file whose synced content only the journal has; with the override it counts as not found. So does
 * what may not be opened, on a volume that is only read: nobody here reads it. */
static int passing(const struct replay *p, int r)
{
    bool absent = r == -ENOENT || r == -ENOTDIR || r == -ESTALE || r == -ELOOP || r < -4095;
    absent = absent || (p->v->opt.read_only && r == -EACCES);
    return absent || p->v->opt.ignore_journal ? 0 : r;
}

static int by_hint(struct replay *p, size_t file)
{
    struct node *n;
    if (!p->files[file].path)
        return 0;
    int r = at_path(p->v, p->files[file].path, &n);
    if (r)
        return passing(p, r);
    r = replay_take(p, file, n);
    node_unref(n, 1);
    return passing(p, r);
}

/* ---- the walk ---- */

static bool wanted_ino(const struct replay *p, uint64_t ino)
{
    for (size_t i = 0; i < p->file_count; i++)
        if (p->files[i].entry_count && !p->files[i].found && p->files[i].ino == ino)
            return true;
    return false;
}

static size_t missing(const struct replay *p)
{
    size_t n = 0;
    for (size_t i = 0; i < p->file_count; i++)
        n += p->files[i].entry_count && !p->files[i].found;
    return n;
}

/* Takes the file if its header bears one of the ids. */
static int try_node(struct replay *p, struct node *n)
{
    uint8_t image[HEADER_BYTES];
    struct file_header h;
    int fd, r = node_fd_get(n, false, &fd);
    if (r)
        return passing(p, r);
    ssize_t got = io_pread(fd, image, sizeof image, 0);
    node_fd_put(n);
    if (got < 0)
        return passing(p, (int)got);
    if (got != sizeof image || header_decode(image, &h))
        return 0;
    for (size_t i = 0; i < p->file_count; i++)
        if (p->files[i].entry_count && !memcmp(p->files[i].id, h.file_id, ID_BYTES))
            return replay_take(p, i, n);
    return 0;
}

/* by_ino: only files with an inode number that the journal names; else every file (a copied volume). */
static int walk(struct replay *p, struct node *dir, bool by_ino, int depth)
{
    int fd, r = depth > DEPTH_MAX ? -ELOOP : node_fd_get(dir, false, &fd);
    if (r)
        return passing(p, r);
    int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    node_fd_put(dir);
    DIR *d = own >= 0 ? fdopendir(own) : NULL;
    if (!d) {
        if (own >= 0)
            close(own);
        return passing(p, -errno);
    }
    struct dirent *e;
    while (!r && (errno = 0, e = readdir(d))) {
        bool file = e->d_type == DT_REG || e->d_type == DT_UNKNOWN;
        struct node *n;
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") ||
            (e->d_type != DT_DIR && (!file || (by_ino && !wanted_ino(p, e->d_ino)))))
            continue;
        r = child(dir, e->d_name, &n);
        if (r) {
            r = passing(p, r);
            continue;
        }
        if (n->type == S_IFDIR)
            r = walk(p, n, by_ino, depth + 1);
        else if (n->type == S_IFREG)
            r = try_node(p, n);
        node_unref(n, 1);
    }
    if (!r && !e && errno)
        r = passing(p, -errno);
    closedir(d);
    return r;
}

int replay_find(struct replay *p)
{
    int r = 0;
    for (size_t i = 0; !r && i < p->file_count; i++)
        if (p->files[i].entry_count)
            r = by_hint(p, i);
    if (!r && missing(p))
        r = walk(p, p->v->root, true, 0);
    if (!r && missing(p) && journal_is_copy(p->v->journal))
        r = walk(p, p->v->root, false, 0);
    return r;
}
