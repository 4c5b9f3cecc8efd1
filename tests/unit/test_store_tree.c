/* Names, directories, links and attributes of a volume, one behaviour a test. */
#include "tree_fixture.h"

#include <limits.h>
#include <sys/resource.h>
#include <sys/xattr.h>

static char long_a[256], long_b[256], target_long[4001];

static void make_names(void)
{
    memset(long_a, 'a', 255);
    memset(long_b, 'b', 200);
    for (int i = 0; i < 4000; i++)
        target_long[i] = (char)('A' + i % 26);
}

/* ---- lookup and create ---- */

static void test_create_and_lookup(void **state)
{
    struct node *root = volume_root(v), *n, *m;
    struct stat st, st2;
    assert_int_equal(node_lookup(root, "f", &st, &n), -ENOENT);
    assert_int_equal(node_create(root, "f", 0640, true, &st, &n), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0640);
    assert_int_equal(st.st_size, 0);
    assert_int_equal(node_create(root, "f", 0600, true, &st, &m), -EEXIST);
    assert_int_equal(node_create(root, "f", 0600, false, &st2, &m), 0);
    assert_ptr_equal(n, m);
    assert_int_equal(st2.st_ino, node_ino(n));
    assert_int_equal(node_lookup(n, "x", &st, &m), -ENOTDIR);
    node_unref(n, 2);
    reopen_volume();
    assert_int_equal(node_lookup(volume_root(v), "f", &st, &n), 0);
    assert_int_equal(st.st_ino, st2.st_ino);
    node_unref(n, 1);
}

static void test_bad_names(void **state)
{
    char over[257];
    struct node *n;
    struct stat st;
    memset(over, 'x', 256);
    over[256] = '\0';
    assert_int_equal(node_lookup(volume_root(v), over, &st, &n), -ENAMETOOLONG);
    assert_int_equal(node_create(volume_root(v), over, 0600, true, &st, &n), -ENAMETOOLONG);
    assert_int_equal(node_mkdir(volume_root(v), "..", 0700, &st, &n), LFS_ERR_MISUSE);
}

static void test_long_names_have_sidecars(void **state)
{
    struct node *root = volume_root(v), *n;
    struct stat st;
    n = make_file(root, long_a, "long");
    assert_int_equal(count_stored("", LONG_PREFIX), 2);
    node_unref(n, 1);
    assert_int_equal(node_create(root, long_a, 0600, true, &st, &n), -EEXIST);
    assert_int_equal(count_stored("", LONG_PREFIX), 2);
    n = make_dir(root, long_b);
    node_unref(n, 1);
    reopen_volume();
    root = volume_root(v);
    n = must_walk(long_a);
    assert_true(holds(n, "long"));
    node_unref(n, 1);
    assert_int_equal(node_unlink(root, long_a), 0);
    assert_int_equal(node_rmdir(root, long_b), 0);
    assert_int_equal(count_stored("", LONG_PREFIX), 0);
}

static void test_tampered_sidecar_is_refused(void **state)
{
    char cmd[256];
    struct node *n;
    struct stat st;
    node_unref(make_file(volume_root(v), long_a, "x"), 1);
    snprintf(cmd, sizeof cmd,
             "cd %s && printf A | dd of=$(ls latchfs.long.*.name) conv=notrunc bs=1 seek=7 2>/dev/null",
             volume_dir);
    assert_int_equal(system(cmd), 0);
    assert_int_equal(node_lookup(volume_root(v), long_a, &st, &n), LFS_ERR_CORRUPT);
    snprintf(cmd, sizeof cmd, "rm %s/latchfs.long.*.name", volume_dir);
    assert_int_equal(system(cmd), 0);
    assert_int_equal(node_lookup(volume_root(v), long_a, &st, &n), LFS_ERR_CORRUPT);
}

static void test_special_files(void **state)
{
    struct node *n;
    struct stat st;
    assert_int_equal(node_mknod(volume_root(v), "fifo", S_IFIFO | 0600, 0, &st, &n), 0);
    assert_true(S_ISFIFO(st.st_mode));
    st.st_mode = 0640;
    assert_int_equal(node_setattr(n, &st, SET_MODE, &st), 0);
    assert_int_equal(st.st_mode, S_IFIFO | 0640);
    assert_int_equal(node_getxattr(n, "user.a", NULL, 0), -ENODATA);
    assert_int_equal(node_setxattr(n, "user.a", "1", 1, 0), -EOPNOTSUPP);
    assert_int_equal(node_unlink(volume_root(v), "fifo"), 0);
    assert_int_equal(node_getattr(n, &st), 0);
    assert_int_equal(st.st_nlink, 0);
    node_unref(n, 1);
}

/* ---- directories ---- */

/* What mkdir gives must be what a plain mkdir in the same parent gives. */
static void check_mkdir_mode(mode_t parent_mode, gid_t gid, mode_t mask, mode_t mode, const char *acl)
{
    static unsigned count;
    char name[16], plain[128], cmd[256];
    struct node *parent, *n;
    struct stat st, want;
    snprintf(name, sizeof name, "p%u", count++);
    parent = make_dir(volume_root(v), name);
    snprintf(plain, sizeof plain, "%s/plain-%s", base, name);
    assert_int_equal(mkdir(plain, 0700), 0);
    assert_int_equal(chown(plain, (uid_t)-1, gid), 0);
    assert_int_equal(chmod(plain, parent_mode), 0);
    st = (struct stat){.st_mode = parent_mode, .st_gid = gid};
    assert_int_equal(node_setattr(parent, &st, SET_MODE | SET_GID, &st), 0);
    if (acl) {
        char value[256];
        snprintf(cmd, sizeof cmd, "setfacl -d -m %s %s", acl, plain);
        assert_int_equal(system(cmd), 0);
        ssize_t len = getxattr(plain, "system.posix_acl_default", value, sizeof value);
        assert_true(len > 0);
        assert_int_equal(node_setxattr(parent, "system.posix_acl_default", value, (size_t)len, 0), 0);
    }
    umask(mask);
    strcat(plain, "/child");
    assert_int_equal(mkdir(plain, mode), 0);
    assert_int_equal(node_mkdir(parent, "child", mode, &st, &n), 0);
    umask(022);
    assert_int_equal(stat(plain, &want), 0);
    assert_int_equal(st.st_mode, want.st_mode);
    assert_int_equal(st.st_gid, want.st_gid);
    assert_int_equal(st.st_uid, want.st_uid);
    assert_int_equal(st.st_nlink, want.st_nlink);
    node_unref(make_file(n, "inside", "x"), 1);
    node_unref(n, 1);
    node_unref(parent, 1);
}

static void test_mkdir_modes(void **state)
{
    check_mkdir_mode(0755, 0, 022, 0777, NULL);
    check_mkdir_mode(0755, 0, 022, 0, NULL);
    check_mkdir_mode(0755, 0, 0777, 0777, NULL);
    check_mkdir_mode(02775, 12, 002, 0770, NULL);
    check_mkdir_mode(02775, 12, 002, 0, NULL);
    if (system("command -v setfacl >/dev/null 2>&1") == 0) {
        check_mkdir_mode(0755, 0, 077, 0777, "u:12:rwx");
        check_mkdir_mode(0755, 0, 022, 0, "u:12:rwx");
    }
}

static void test_rmdir(void **state)
{
    struct node *d = make_dir(volume_root(v), "d"), *f, *n;
    struct stat st;
    f = make_file(d, "f", "x");
    assert_int_equal(node_rmdir(volume_root(v), "d"), -ENOTEMPTY);
    assert_int_equal(node_rmdir(d, "f"), -ENOTDIR);
    assert_int_equal(node_unlink(volume_root(v), "d"), -EISDIR);
    assert_int_equal(node_unlink(d, "f"), 0);
    assert_int_equal(node_rmdir(volume_root(v), "d"), 0);
    assert_int_equal(node_lookup(volume_root(v), "d", &st, &n), -ENOENT);
    /* Somebody may still stand in it. */
    assert_int_equal(node_getattr(d, &st), 0);
    assert_int_equal(st.st_nlink, 0);
    assert_int_equal(node_create(d, "new", 0600, true, &st, &n), -ENOENT);
    assert_int_equal(count_stored("", TMP_PREFIX), 0);
    node_unref(f, 1);
    node_unref(d, 1);
}

static void test_rmdir_clears_leftovers(void **state)
{
    char cmd[512];
    struct node *d = make_dir(volume_root(v), "d");
    snprintf(
        cmd, sizeof cmd,
        "cd %s/*-* 2>/dev/null || cd $(dirname $(find %s -mindepth 2 -name latchfs.dir)); mkdir "
        "latchfs.tmp.old;"
        " touch latchfs.tmp.old/latchfs.dir latchfs.tmp.file latchfs.link.0123456789abcdef0123456789abcdef;"
        " touch latchfs.long.0000000000000000000000000000000000000000000.name",
        volume_dir, volume_dir);
    assert_int_equal(system(cmd), 0);
    node_unref(d, 1);
    assert_int_equal(node_rmdir(volume_root(v), "d"), 0);
    snprintf(cmd, sizeof cmd, "test -z \"$(find %s -mindepth 1 -type d)\"", volume_dir);
    assert_int_equal(system(cmd), 0);
}

static void test_leftovers_go(void **state)
{
    char cmd[256];
    struct dir_stream *s;
    struct dir_entry e;
    struct node *d = make_dir(volume_root(v), "d");
    node_unref(d, 1);
    snprintf(cmd, sizeof cmd,
             "for d in $(find %s -type d); do mkdir $d/latchfs.tmp.1; touch $d/latchfs.tmp.2; done",
             volume_dir);
    assert_int_equal(system(cmd), 0);
    reopen_volume();
    assert_int_equal(count_stored("", TMP_PREFIX), 0);
    d = must_walk("d");
    assert_int_equal(dir_open(d, &s), 0);
    for (uint64_t cookie = 0; dir_next(s, cookie, &e) > 0;)
        cookie = e.cookie;
    dir_close(s);
    node_unref(d, 1);
    snprintf(cmd, sizeof cmd, "test -z \"$(find %s -name 'latchfs.tmp.*')\"", volume_dir);
    assert_int_equal(system(cmd), 0);
}

static void test_foreign_data_is_kept(void **state)
{
    char cmd[256];
    node_unref(make_dir(volume_root(v), "d"), 1);
    snprintf(cmd, sizeof cmd, "touch $(dirname $(find %s -mindepth 2 -name latchfs.dir))/lost+found",
             volume_dir);
    assert_int_equal(system(cmd), 0);
    assert_int_equal(node_rmdir(volume_root(v), "d"), -ENOTEMPTY);
}

/* Moves the backing directory of name in from to the same stored name in to. */
static void attack_move(const char *from, const char *to)
{
    assert_int_equal(rename(from, to), 0);
}

/* The stored path of a directory, found by its inode number. */
static void stored_path(uint64_t ino, char out[static 512])
{
    char cmd[256];
    snprintf(cmd, sizeof cmd, "find %s -inum %llu", volume_dir, (unsigned long long)ino);
    FILE *p = popen(cmd, "r");
    assert_non_null(fgets(out, 512, p));
    out[strcspn(out, "\n")] = '\0';
    pclose(p);
}

static void test_moved_directory_is_refused(void **state)
{
    struct node *a = make_dir(volume_root(v), "a"), *b = make_dir(volume_root(v), "b");
    struct node *x = make_dir(a, "x"), *y = make_dir(b, "x"), *n = NULL;
    char px[512], py[512], tmp[600];
    struct stat st;
    node_unref(make_file(x, "f", "x"), 1);
    stored_path(node_ino(x), px);
    stored_path(node_ino(y), py);
    snprintf(tmp, sizeof tmp, "%s.t", base);
    node_unref(x, 1);
    node_unref(y, 1);
    assert_int_equal(rename(py, tmp), 0);
    char dest[600];
    snprintf(dest, sizeof dest, "%s", py);
    attack_move(px, dest);
    attack_move(tmp, px);
    node_unref(a, 1);
    node_unref(b, 1);
    reopen_volume();
    /* Both names decrypt nowhere else, so the names that stand there still are those of the directories. */
    for (int i = 0; i < 2; i++) {
        assert_int_equal(walk(i ? "a/x" : "b/x", &n), 0);
        struct node *f;
        assert_int_equal(node_lookup(n, "f", &st, &f), LFS_ERR_AUTH);
        assert_int_equal(node_create(n, "new", 0600, true, &st, &f), LFS_ERR_AUTH);
        node_unref(n, 1);
    }
}

static void test_missing_or_changed_record(void **state)
{
    struct node *d = make_dir(volume_root(v), "d"), *n;
    char path[520];
    struct stat st;
    stored_path(node_ino(d), path);
    strcat(path, "/latchfs.dir");
    node_unref(d, 1);
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "x", 1, 20), 1);
    close(fd);
    reopen_volume();
    d = must_walk("d");
    assert_int_equal(node_lookup(d, "f", &st, &n), LFS_ERR_AUTH);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(node_lookup(d, "f", &st, &n), LFS_ERR_CORRUPT);
    node_unref(d, 1);
    /* Still removable. */
    assert_int_equal(node_rmdir(volume_root(v), "d"), 0);
}

/* ---- links ---- */

static void test_symlinks(void **state)
{
    struct node *d = make_dir(volume_root(v), "d"), *n, *m;
    char target[SYMLINK_PLAIN_MAX + 1];
    struct stat st;
    const char *targets[] = {"t", "some/where/else", target_long};
    for (size_t i = 0; i < COUNT(targets); i++) {
        assert_int_equal(node_symlink(d, "l", targets[i], &st, &n), 0);
        assert_int_equal(st.st_size, strlen(targets[i]));
        assert_int_equal(node_symlink(d, "l", "x", &st, &m), -EEXIST);
        assert_int_equal(node_readlink(n, target), 0);
        assert_string_equal(target, targets[i]);
        assert_int_equal(node_getattr(n, &st), 0);
        assert_int_equal(st.st_size, strlen(targets[i]));
        node_unref(n, 1);
        assert_int_equal(node_unlink(d, "l"), 0);
    }
    char path[512];
    stored_path(node_ino(d), path);
    assert_int_equal(count_stored(path + strlen(volume_dir) + 1, LONG_LINK_PREFIX), 0);
    node_unref(d, 1);
}

static void test_hard_links(void **state)
{
    struct node *root = volume_root(v), *d = make_dir(root, "d"), *f = make_file(root, "f", "both"), *n,
                *linked;
    struct stat st;
    assert_int_equal(node_link(f, d, long_a, &st, &linked), 0);
    assert_ptr_equal(linked, f);
    node_unref(linked, 1);
    assert_int_equal(st.st_nlink, 2);
    assert_int_equal(node_link(d, root, "dd", &st, &linked), -EPERM);
    assert_int_equal(node_link(f, d, long_a, &st, &linked), -EEXIST);
    assert_int_equal(node_lookup(d, long_a, &st, &n), 0);
    assert_ptr_equal(n, f);
    node_unref(n, 1);
    /* The name it is known by goes; the content stays within reach. */
    assert_int_equal(node_unlink(d, long_a), 0);
    assert_true(holds(f, "both"));
    assert_int_equal(node_getattr(f, &st), 0);
    assert_int_equal(st.st_nlink, 1);
    assert_int_equal(file_write(f, "more", 4, 0), 4);
    assert_int_equal(node_lookup(root, "f", &st, &n), 0);
    assert_ptr_equal(n, f);
    assert_true(holds(n, "more"));
    node_unref(n, 2);
    node_unref(d, 1);
}

static void test_hard_link_of_symlink(void **state)
{
    struct node *root = volume_root(v), *d = make_dir(root, "d"), *l, *n, *linked;
    char target[SYMLINK_PLAIN_MAX + 1];
    struct stat st;
    assert_int_equal(node_symlink(root, "l", target_long, &st, &l), 0);
    assert_int_equal(node_link(l, d, "elsewhere", &st, &linked), 0);
    assert_ptr_not_equal(linked, l);
    node_unref(linked, 1);
    assert_int_equal(node_link(l, root, "beside", &st, &linked), 0);
    assert_ptr_equal(linked, l);
    node_unref(linked, 1);
    node_unref(l, 1);
    assert_int_equal(node_unlink(root, "l"), 0); /* "beside" keeps the sidecar */
    reopen_volume();
    const char *paths[] = {"d/elsewhere", "beside"};
    for (size_t i = 0; i < COUNT(paths); i++) {
        n = must_walk(paths[i]);
        assert_int_equal(node_readlink(n, target), 0);
        assert_string_equal(target, target_long);
        node_unref(n, 1);
    }
    d = NULL;
}

/* ---- unlinked while in use ---- */

static void test_unlinked_files_stay_usable(void **state)
{
    struct node *root = volume_root(v), *f[40];
    struct stat st;
    char name[16];
    for (size_t i = 0; i < COUNT(f); i++) {
        snprintf(name, sizeof name, "f%zu", i);
        f[i] = make_file(root, name, name);
        assert_int_equal(node_unlink(root, name), 0);
        assert_int_equal(node_lookup(root, name, &st, &f[i]), -ENOENT);
    }
    for (size_t i = 0; i < COUNT(f); i++) {
        snprintf(name, sizeof name, "f%zu", i);
        assert_true(holds(f[i], name));
        assert_int_equal(file_write(f[i], "again", 5, 0), 5);
        assert_int_equal(node_getattr(f[i], &st), 0);
        assert_int_equal(st.st_nlink, 0);
        assert_int_equal(st.st_size, 5);
        node_unref(f[i], 1);
    }
    struct volume_stats s;
    volume_checkpoint(v);
    volume_stats(v, &s);
    assert_int_equal(s.pinned_fds, 0);
    assert_int_equal(count_stored("", TMP_PREFIX), 0);
}

/* Many more nodes than descriptors, and more unlinked ones than can be pinned. */
static void few_descriptors(void)
{
    enum { NODES = 1000 };
    static struct node *f[NODES];
    struct rlimit lim = {64, 64};
    char name[16];
    struct stat st;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &lim), 0);
    reopen_volume();
    struct node *root = volume_root(v), *deep = root;
    for (int i = 0; i < 60; i++)
        deep = make_dir(deep, "deep");
    for (int i = 0; i < NODES; i++) {
        snprintf(name, sizeof name, "f%d", i);
        f[i] = make_file(i % 2 ? root : deep, name, name);
        assert_int_equal(file_open(f[i], true), 0);
    }
    for (int i = 0; i < NODES; i += 3) {
        snprintf(name, sizeof name, "f%d", i);
        assert_int_equal(node_unlink(i % 2 ? root : deep, name), 0);
    }
    for (int i = 0; i < NODES; i++) {
        snprintf(name, sizeof name, "f%d", i);
        assert_true(holds(f[i], name));
        assert_int_equal(file_write(f[i], name, strlen(name), 0), strlen(name));
        assert_int_equal(node_getattr(f[i], &st), 0);
        assert_int_equal(st.st_nlink, i % 3 ? 1 : 0);
        file_close(f[i]);
    }
    struct volume_stats s;
    volume_stats(v, &s);
    assert_true(s.open_fds <= 32);
    assert_true(s.pinned_fds <= 16);
    assert_int_equal(volume_checkpoint(v), 0);
    for (int i = 0; i < NODES; i++)
        node_unref(f[i], 1);
    assert_int_equal(volume_close(v), 0);
    v = NULL;
    assert_int_equal(count_stored("", TMP_PREFIX), 0);
}

/* In a child: the limit can't be raised again. */
static void test_few_descriptors(void **state)
{
    int status;
    assert_int_equal(volume_close(v), 0);
    v = NULL;
    pid_t pid = fork();
    if (pid == 0) {
        setenv("CMOCKA_TEST_ABORT", "1", 1); /* what fails here must not go on with the other tests */
        open_volume();
        few_descriptors();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    open_volume();
}

/* ---- attributes ---- */

static void test_setattr(void **state)
{
    struct node *f = make_file(volume_root(v), "f", "hello");
    struct stat st = {.st_mode = 0400, .st_uid = 12, .st_gid = 13, .st_size = 3};
    st.st_atim = (struct timespec){1000, 5};
    st.st_mtim = (struct timespec){2000, 7};
    assert_int_equal(
        node_setattr(f, &st, SET_MODE | SET_UID | SET_GID | SET_SIZE | SET_ATIME | SET_MTIME, &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0400);
    assert_int_equal(st.st_uid, 12);
    assert_int_equal(st.st_gid, 13);
    assert_int_equal(st.st_size, 3);
    assert_int_equal(st.st_mtim.tv_sec, 2000);
    assert_int_equal(st.st_mtim.tv_nsec, 7);
    assert_int_equal(st.st_atim.tv_sec, 1000);
    struct stat now = {.st_mtim = {.tv_nsec = UTIME_NOW}};
    assert_int_equal(node_setattr(f, &now, SET_MTIME, &st), 0);
    assert_true(st.st_mtim.tv_sec > 1000000000);
    assert_int_equal(st.st_atim.tv_sec, 1000);
    assert_true(holds(f, "hel"));
    assert_int_equal(node_setattr(volume_root(v), &st, SET_SIZE, &st), -EISDIR);
    node_unref(f, 1);
}

static void test_statfs(void **state)
{
    struct statvfs s;
    assert_int_equal(volume_statfs(v, &s), 0);
    assert_int_equal(s.f_namemax, NAME_PLAIN_MAX);
}

/* As an ordinary user, modes are in the way of the daemon itself. */
static void ordinary_user(void)
{
    struct node *root = volume_root(v), *d, *f, *n;
    struct stat st, want = {.st_mode = 0};
    d = make_dir(root, "d");
    f = make_file(d, "f", "secret");
    assert_int_equal(node_setattr(f, &want, SET_MODE, &st), 0);
    assert_int_equal(node_setattr(d, &want, SET_MODE, &st), 0);
    node_unref(f, 1);
    node_unref(d, 1);
    reopen_volume();
    root = volume_root(v);
    assert_int_equal(node_lookup(root, "d", &st, &d), 0);
    assert_int_equal(st.st_mode, S_IFDIR);
    want.st_mode = 0100;
    assert_int_equal(node_setattr(d, &want, SET_MODE, &st), 0);
    assert_int_equal(node_lookup(d, "f", &st, &f), 0);
    assert_true(holds(f, "secret"));
    assert_int_equal(file_write(f, "changed", 7, 0), 7);
    assert_true(holds(f, "changed"));
    assert_int_equal(node_getattr(f, &st), 0);
    assert_int_equal(st.st_mode, S_IFREG);
    assert_int_equal(node_getattr(d, &st), 0);
    assert_int_equal(st.st_mode, S_IFDIR | 0100);
    node_unref(f, 1);
    want.st_mode = 0300;
    assert_int_equal(node_setattr(d, &want, SET_MODE, &st), 0);
    assert_int_equal(node_unlink(d, "f"), 0);
    assert_int_equal(node_mkdir(d, "closed", 0, &st, &n), 0);
    assert_int_equal(st.st_mode, S_IFDIR);
    node_unref(n, 1);
    assert_int_equal(node_rmdir(d, "closed"), 0);
    want.st_mode = 0;
    assert_int_equal(node_setattr(d, &want, SET_MODE, &st), 0);
    assert_int_equal(dir_fsync(d), 0);
    node_unref(d, 1);
    assert_int_equal(node_rmdir(root, "d"), 0);
    assert_int_equal(volume_close(v), 0);
    v = NULL;
}

static void test_ordinary_user(void **state)
{
    int status;
    char cmd[128];
    if (geteuid() != 0)
        skip();
    assert_int_equal(volume_close(v), 0);
    v = NULL;
    snprintf(cmd, sizeof cmd, "chown -R 12345:12345 %s", volume_dir);
    assert_int_equal(system(cmd), 0);
    pid_t pid = fork();
    if (pid == 0) {
        setenv("CMOCKA_TEST_ABORT", "1", 1); /* what fails here must not go on with the other tests */
        if (setgid(12345) || setuid(12345))
            _exit(9);
        open_volume();
        ordinary_user();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    open_volume();
}

/* ---- extended attributes ---- */

static void check_xattrs(struct node *n)
{
    char value[200], list[512], *big = malloc(3000);
    memset(big, 'v', 3000);
    assert_int_equal(node_getxattr(n, "user.a", value, sizeof value), -ENODATA);
    assert_int_equal(node_removexattr(n, "user.a"), -ENODATA);
    assert_int_equal(node_listxattr(n, list, sizeof list, true), 0);
    assert_int_equal(node_setxattr(n, "user.a", "one", 3, XATTR_REPLACE), -ENODATA);
    assert_int_equal(node_setxattr(n, "user.a", "one", 3, XATTR_CREATE), 0);
    assert_int_equal(node_setxattr(n, "user.a", "two", 3, XATTR_CREATE), -EEXIST);
    assert_int_equal(node_setxattr(n, "user.empty", "", 0, 0), 0);
    assert_int_equal(node_setxattr(n, "trusted.t", big, 3000, 0), 0);
    assert_int_equal(node_setxattr(n, "system.other", "x", 1, 0), -EOPNOTSUPP);
    assert_int_equal(node_getxattr(n, "user.a", NULL, 0), 3);
    assert_int_equal(node_getxattr(n, "user.a", value, 2), -ERANGE);
    assert_int_equal(node_getxattr(n, "user.a", value, sizeof value), 3);
    assert_memory_equal(value, "one", 3);
    assert_int_equal(node_getxattr(n, "user.empty", value, sizeof value), 0);
    assert_int_equal(node_getxattr(n, "trusted.t", value, sizeof value), -ERANGE);
    ssize_t all = node_listxattr(n, NULL, 0, true), some = node_listxattr(n, NULL, 0, false);
    assert_int_equal(all, sizeof "user.a" + sizeof "user.empty" + sizeof "trusted.t");
    assert_int_equal(some, sizeof "user.a" + sizeof "user.empty");
    assert_int_equal(node_listxattr(n, list, 5, true), -ERANGE);
    assert_int_equal(node_listxattr(n, list, sizeof list, false), some);
    assert_int_equal(node_removexattr(n, "user.a"), 0);
    assert_int_equal(node_getxattr(n, "user.a", value, sizeof value), -ENODATA);
    free(big);
}

static void test_xattrs(void **state)
{
    struct node *root = volume_root(v), *f = make_file(root, "f", "x"), *d = make_dir(root, "d"), *e;
    struct stat st;
    char path[512], value[16];
    check_xattrs(f);
    check_xattrs(d);
    assert_int_equal(node_create(root, "empty", 0600, true, &st, &e), 0);
    check_xattrs(e);
    /* Nothing readable below, and bound to the file. */
    stored_path(node_ino(f), path);
    char other[512];
    assert_int_equal(node_setxattr(f, "user.bound", "readable?", 9, 0), 0);
    stored_path(node_ino(e), other);
    char names[2048], raw[128];
    ssize_t len = listxattr(path, names, sizeof names);
    for (char *p = names; p < names + len; p += strlen(p) + 1) {
        ssize_t n = getxattr(path, p, raw, sizeof raw);
        assert_null(memmem(p, strlen(p), "bound", 5));
        assert_null(n > 0 ? memmem(raw, (size_t)n, "readable?", 9) : NULL);
        if (n > 0 && strncmp(p, "user.latchfs.", 13) == 0)
            assert_int_equal(setxattr(other, p, raw, (size_t)n, 0), 0);
    }
    assert_int_equal(node_getxattr(e, "user.bound", value, sizeof value), -ENODATA);
    assert_int_equal(node_listxattr(e, NULL, 0, false), sizeof "user.empty");
    node_unref(e, 1);
    node_unref(f, 1);
    node_unref(d, 1);
}

/* ---- streams ---- */

static void test_readdir(void **state)
{
    enum { FILES = 3000 };
    static uint8_t seen[FILES];
    struct node *d = make_dir(volume_root(v), "d"), *n;
    struct dir_stream *s;
    struct dir_entry e;
    struct stat st;
    char name[256], path[600];
    unsigned dots = 0, links = 0;
    for (int i = 0; i < FILES; i++) {
        memset(name, 'n', 240);
        snprintf(i % 100 ? name : name + 200, 32, "%d", i);
        assert_int_equal(node_create(d, name, 0600, true, &st, &n), 0);
        node_unref(n, 1);
    }
    assert_int_equal(node_symlink(d, "link", "t", &st, &n), 0);
    node_unref(n, 1);
    stored_path(node_ino(d), path);
    strcat(path, "/.nfs0001");
    close(open(path, O_CREAT | O_WRONLY, 0600));
    struct volume_stats before, after;
    volume_stats(v, &before);
    assert_int_equal(dir_open(d, &s), 0);
    int r;
    for (uint64_t cookie = 0; (r = dir_next(s, cookie, &e)) > 0; cookie = e.cookie) {
        if (e.name[0] == '.') {
            dots++;
            continue;
        }
        if (strcmp(e.name, "link") == 0) {
            links++;
            assert_int_equal(e.type, S_IFLNK);
            continue;
        }
        int i = atoi(e.name[0] == 'n' ? e.name + 200 : e.name);
        assert_int_equal(seen[i]++, 0);
        /* Asking twice at one place answers the same. */
        struct dir_entry again;
        assert_int_equal(dir_next(s, cookie, &again), 1);
        assert_string_equal(again.name, e.name);
        /* What was listed may go. */
        if (i % 2)
            assert_int_equal(node_unlink(d, e.name), 0);
    }
    assert_int_equal(r, 0);
    assert_int_equal(dots, 2);
    assert_int_equal(links, 1);
    for (int i = 0; i < FILES; i++)
        assert_int_equal(seen[i], 1);
    volume_stats(v, &after);
    assert_int_equal(after.auth_failures, before.auth_failures);
    unsigned left = 0;
    for (uint64_t cookie = 0; dir_next(s, cookie, &e) > 0; cookie = e.cookie)
        left++;
    assert_int_equal(left, FILES / 2 + 3);
    dir_close(s);
    node_unref(d, 1);
}

static void test_readdir_counts_bad_names(void **state)
{
    char path[200];
    struct dir_stream *s;
    struct dir_entry e;
    struct volume_stats st;
    unsigned count = 0;
    snprintf(path, sizeof path, "%s/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", volume_dir);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    assert_int_equal(dir_open(volume_root(v), &s), 0);
    for (uint64_t cookie = 0; dir_next(s, cookie, &e) > 0; cookie = e.cookie)
        count++;
    dir_close(s);
    assert_int_equal(count, 2);
    volume_stats(v, &st);
    assert_int_equal(st.auth_failures, 1);
}

/* ---- locked ---- */

static void test_locked_volume(void **state)
{
    struct node *f = make_file(volume_root(v), "f", "x"), *n;
    struct stat st;
    struct statvfs s;
    assert_int_equal(volume_lock_begin(v), 0);
    assert_int_equal(node_lookup(volume_root(v), "f", &st, &n), LFS_ERR_NOKEY);
    assert_int_equal(node_getattr(f, &st), 0);
    assert_int_equal(volume_lock_finish(v), 0);
    assert_int_equal(node_getattr(volume_root(v), &st), 0);
    assert_int_equal(volume_statfs(v, &s), 0);
    assert_int_equal(node_getattr(f, &st), LFS_ERR_NOKEY);
    assert_int_equal(volume_unlock(v, keys), 0);
    assert_true(holds(f, "x"));
    node_unref(f, 1);
}

#define TREE_TEST(t) cmocka_unit_test_setup_teardown(t, volume_setup, volume_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TREE_TEST(test_create_and_lookup),
        TREE_TEST(test_bad_names),
        TREE_TEST(test_long_names_have_sidecars),
        TREE_TEST(test_tampered_sidecar_is_refused),
        TREE_TEST(test_special_files),
        TREE_TEST(test_mkdir_modes),
        TREE_TEST(test_rmdir),
        TREE_TEST(test_rmdir_clears_leftovers),
        TREE_TEST(test_leftovers_go),
        TREE_TEST(test_foreign_data_is_kept),
        TREE_TEST(test_moved_directory_is_refused),
        TREE_TEST(test_missing_or_changed_record),
        TREE_TEST(test_symlinks),
        TREE_TEST(test_hard_links),
        TREE_TEST(test_hard_link_of_symlink),
        TREE_TEST(test_unlinked_files_stay_usable),
        TREE_TEST(test_few_descriptors),
        TREE_TEST(test_setattr),
        TREE_TEST(test_statfs),
        TREE_TEST(test_ordinary_user),
        TREE_TEST(test_xattrs),
        TREE_TEST(test_readdir),
        TREE_TEST(test_readdir_counts_bad_names),
        TREE_TEST(test_locked_volume),
    };
    umask(022);
    make_names();
    return cmocka_run_group_tests_name("store_tree", tests, NULL, NULL);
}
