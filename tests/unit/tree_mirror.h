/* The same operations on a volume and on a plain directory, base/plain, side by side. */
#ifndef TEST_TREE_MIRROR_H
#define TEST_TREE_MIRROR_H

#include "tree_fixture.h"

#include <linux/fs.h>

#define MIRROR_PATH_MAX 1200

static char plain_root[96];
static int plain_fd = -1;

static inline int mirror_setup(void **state)
{
    int r = volume_setup(state);
    snprintf(plain_root, sizeof plain_root, "%s/plain", base);
    assert_int_equal(mkdir(plain_root, 0755), 0);
    plain_fd = open(plain_root, O_RDONLY | O_DIRECTORY);
    return r;
}

static inline int mirror_teardown(void **state)
{
    close(plain_fd);
    return volume_teardown(state);
}

/* Splits path into its directory's node (referenced) and the name. */
static inline int at_parent(const char *path, struct node **dir, const char **name)
{
    char parent[MIRROR_PATH_MAX] = "";
    const char *slash = strrchr(path, '/');
    if (slash)
        memcpy(parent, path, (size_t)(slash - path));
    parent[slash ? slash - path : 0] = '\0';
    *name = slash ? slash + 1 : path;
    return walk(parent, dir);
}

static inline int done(struct node *dir, int r)
{
    node_unref(dir, 1);
    return r;
}

/* Each answers what both sides answered; they must agree. */

static inline int agree(int ours, int theirs)
{
    int want = theirs ? -errno : 0;
    /* Where several things are wrong at once, the kernel decides above us which one counts. */
    if (ours < 0 &&
        (want == -EINVAL || want == -ENOTEMPTY || want == -EEXIST || want == -ENOTDIR || want == -EISDIR))
        return want;
    assert_int_equal(ours, want);
    return want;
}

static inline int both_mkdir(const char *path, mode_t mode)
{
    struct node *dir, *n = NULL;
    struct stat st;
    const char *name;
    int r = at_parent(path, &dir, &name);
    if (!r)
        r = done(dir, node_mkdir(dir, name, mode, &st, &n));
    if (!r)
        node_unref(n, 1);
    return agree(r, mkdirat(plain_fd, path, mode));
}

static inline int both_write(const char *path, const char *text)
{
    struct node *dir, *n = NULL;
    struct stat st;
    const char *name;
    int r = at_parent(path, &dir, &name);
    if (!r)
        r = done(dir, node_create(dir, name, 0644, false, &st, &n));
    if (!r && !S_ISREG(st.st_mode)) {
        node_unref(n, 1);
        r = -EISDIR;
    }
    if (!r) {
        r = file_truncate(n, 0);
        if (!r)
            r = file_write(n, text, strlen(text), 0) == (ssize_t)strlen(text) ? 0 : -EIO;
        node_unref(n, 1);
    }
    int fd = openat(plain_fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0644);
    if (fd >= 0) {
        assert_int_equal(write(fd, text, strlen(text)), strlen(text));
        close(fd);
    } else if (errno == ELOOP) {
        errno = EISDIR; /* a symlink: the kernel would have followed it */
    }
    return agree(r, fd < 0 ? -1 : 0);
}

static inline int both_symlink(const char *target, const char *path)
{
    struct node *dir, *n = NULL;
    struct stat st;
    const char *name;
    int r = at_parent(path, &dir, &name);
    if (!r)
        r = done(dir, node_symlink(dir, name, target, &st, &n));
    if (!r)
        node_unref(n, 1);
    return agree(r, symlinkat(target, plain_fd, path));
}

static inline int both_link(const char *path, const char *newpath)
{
    struct node *dir, *n, *linked = NULL;
    struct stat st;
    const char *name;
    int r = walk(path, &n);
    if (!r) {
        r = at_parent(newpath, &dir, &name);
        if (!r)
            r = done(dir, node_link(n, dir, name, &st, &linked));
        if (linked)
            node_unref(linked, 1);
        node_unref(n, 1);
    }
    return agree(r, linkat(plain_fd, path, plain_fd, newpath, 0));
}

static inline int both_unlink(const char *path)
{
    struct node *dir;
    const char *name;
    int r = at_parent(path, &dir, &name);
    if (!r)
        r = done(dir, node_unlink(dir, name));
    return agree(r, unlinkat(plain_fd, path, 0));
}

static inline int both_rmdir(const char *path)
{
    struct node *dir;
    const char *name;
    int r = at_parent(path, &dir, &name);
    if (!r)
        r = done(dir, node_rmdir(dir, name));
    return agree(r, unlinkat(plain_fd, path, AT_REMOVEDIR));
}

static inline int both_rename(const char *from, const char *to, unsigned flags)
{
    struct node *dir, *newdir;
    const char *name, *newname;
    int r = at_parent(from, &dir, &name);
    if (!r) {
        r = at_parent(to, &newdir, &newname);
        if (!r)
            r = done(newdir, node_rename(dir, name, newdir, newname, flags));
        node_unref(dir, 1);
    }
    return agree(r, renameat2(plain_fd, from, plain_fd, to, flags));
}

/* ---- comparing ---- */

static inline unsigned entries_of(struct node *dir)
{
    struct dir_stream *s;
    struct dir_entry e;
    unsigned count = 0;
    assert_int_equal(dir_open(dir, &s), 0);
    for (uint64_t cookie = 0; dir_next(s, cookie, &e) > 0; cookie = e.cookie)
        count++;
    dir_close(s);
    return count;
}

static inline void compare_entry(const char *path, struct node *n, const struct stat *st,
                                 const struct stat *want)
{
    static char ours[SYMLINK_PLAIN_MAX + 1], theirs[32768];
    memset(theirs, 0, sizeof theirs);
    assert_int_equal(st->st_mode, want->st_mode);
    if (!S_ISDIR(want->st_mode)) {
        assert_int_equal(st->st_size, want->st_size);
        assert_int_equal(st->st_nlink, want->st_nlink);
    }
    if (S_ISLNK(want->st_mode)) {
        assert_int_equal(node_readlink(n, ours), 0);
        assert_true(readlinkat(plain_fd, path, theirs, SYMLINK_PLAIN_MAX) > 0);
        assert_string_equal(ours, theirs);
    } else if (S_ISREG(want->st_mode)) {
        int fd = openat(plain_fd, path, O_RDONLY);
        ssize_t len = read(fd, theirs, sizeof theirs - 1);
        close(fd);
        assert_int_equal(len, want->st_size);
        assert_true(holds(n, theirs));
    }
}

static inline void compare_dir(struct node *dir, const char *path)
{
    char child[MIRROR_PATH_MAX];
    unsigned count = 0;
    int fd = openat(plain_fd, *path ? path : ".", O_RDONLY | O_DIRECTORY);
    DIR *d = fdopendir(fd);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)); count++) {
        struct stat st, want;
        struct node *n;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        snprintf(child, sizeof child, "%s%s%s", path, *path ? "/" : "", e->d_name);
        assert_int_equal(fstatat(plain_fd, child, &want, AT_SYMLINK_NOFOLLOW), 0);
        assert_int_equal(node_lookup(dir, e->d_name, &st, &n), 0);
        compare_entry(child, n, &st, &want);
        if (S_ISDIR(want.st_mode))
            compare_dir(n, child);
        node_unref(n, 1);
    }
    closedir(d);
    assert_int_equal(entries_of(dir), count);
}

/* Sidecars and temporary names below: as many as there must be. */
static inline unsigned run_count(const char *cmd)
{
    unsigned count = 0;
    FILE *p = popen(cmd, "r");
    assert_int_equal(fscanf(p, "%u", &count), 1);
    pclose(p);
    return count;
}

static inline void compare_all(void)
{
    char cmd[512];
    compare_dir(volume_root(v), "");
    snprintf(cmd, sizeof cmd, "find %s -name 'latchfs.tmp.*' | wc -l", volume_dir);
    assert_int_equal(run_count(cmd), 0);
    /* Names over 175 bytes are long once encrypted. */
    snprintf(cmd, sizeof cmd, "find %s -mindepth 1 -printf '%%f\\n' | awk 'length>175' | wc -l", plain_root);
    unsigned longs = run_count(cmd);
    snprintf(cmd, sizeof cmd, "find %s -name 'latchfs.long.*.name' | wc -l", volume_dir);
    assert_int_equal(run_count(cmd), longs);
    /* Sidecars of links are shared by hard links, so count inodes of links that name one. */
    snprintf(cmd, sizeof cmd, "find %s -type l -lname 'latchfs.link.*' -printf '%%i\\n' | sort -u | wc -l",
             volume_dir);
    unsigned links = run_count(cmd);
    snprintf(cmd, sizeof cmd, "find %s -type f -name 'latchfs.link.*' | wc -l", volume_dir);
    assert_int_equal(run_count(cmd), links);
}

#endif
