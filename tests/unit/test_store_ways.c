/* The short ways of common requests: what they must give all the same. */
#include "tree_fixture.h"

#include <linux/fs.h>

static char long_name[251];

/* The attributes of the one entry that the backing directory of the volume's root has beside ours. */
static struct stat backing(uint64_t ino)
{
    char path[512];
    struct stat st = {0};
    DIR *d = opendir(volume_dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        snprintf(path, sizeof path, "%s/%s", volume_dir, e->d_name);
        if (e->d_ino == ino)
            assert_int_equal(lstat(path, &st), 0);
    }
    closedir(d);
    assert_int_equal(st.st_ino, ino);
    return st;
}

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/* ---- times ---- */

static const unsigned TIMES = SET_MTIME | SET_CTIME;

static struct node *renamed_file(const char *to, struct stat *st)
{
    struct node *root = volume_root(v), *n = make_file(root, "f", "text");
    assert_int_equal(node_rename(root, "f", root, to, 0), 0);
    *st = backing(node_ino(n));
    usleep(20000); /* the clock of files has gone on */
    return n;
}

/* What the kernel tells after a rename is known; told again, it is a program's wish. */
static void test_times_after_a_rename(void **state)
{
    struct stat was, want, st;
    struct node *n = renamed_file("g", &was);
    assert_int_equal(node_getattr(n, &want), 0);
    want.st_mtim = was.st_mtim;
    want.st_ctim = was.st_ctim;
    assert_int_equal(node_setattr(n, &want, TIMES, &st), 0);
    assert_int_equal(st.st_size, 4);
    assert_true(same_time(st.st_mtim, want.st_mtim));
    assert_true(same_time(backing(node_ino(n)).st_ctim, was.st_ctim));
    assert_int_equal(node_setattr(n, &want, TIMES, &st), 0);
    assert_false(same_time(backing(node_ino(n)).st_ctim, was.st_ctim));
    node_unref(n, 1);
}

static void test_another_mtime_is_set(void **state)
{
    struct stat was, st;
    struct node *n = renamed_file("other mtime", &was);
    struct stat want = {.st_mtim = {was.st_mtim.tv_sec, was.st_mtim.tv_nsec ^ 1}, .st_ctim = was.st_ctim};
    assert_int_equal(node_setattr(n, &want, TIMES, &st), 0);
    assert_true(same_time(st.st_mtim, want.st_mtim));
    assert_true(same_time(backing(node_ino(n)).st_mtim, want.st_mtim));
    node_unref(n, 1);
}

static void test_a_later_ctime_is_a_change(void **state)
{
    struct stat was, st;
    struct node *n = renamed_file("other ctime", &was);
    struct stat want = {.st_mtim = was.st_mtim, .st_ctim = {was.st_ctim.tv_sec + 1, was.st_ctim.tv_nsec}};
    assert_int_equal(node_setattr(n, &want, TIMES, &st), 0);
    assert_true(same_time(st.st_mtim, was.st_mtim));
    assert_false(same_time(backing(node_ino(n)).st_ctim, was.st_ctim));
    node_unref(n, 1);
}

/* ---- lookups of what was listed ---- */

static void must_be_the_same(struct node *dir, const struct dir_entry *e)
{
    struct node *by_name, *listed;
    struct stat a, b;
    assert_int_equal(node_lookup(dir, e->name, &a, &by_name), 0);
    assert_int_equal(node_lookup_listed(dir, e, &b, &listed), 0);
    assert_ptr_equal(listed, by_name);
    assert_int_equal(a.st_ino, b.st_ino);
    assert_int_equal(a.st_size, b.st_size);
    node_unref(by_name, 1);
    node_unref(listed, 1);
}

static void test_lookup_of_listed(void **state)
{
    struct node *dir = make_dir(volume_root(v), "dir"), *n;
    struct dir_stream *s;
    struct dir_entry e, last = {0};
    struct stat st;
    unsigned seen = 0;
    node_unref(make_file(dir, "file", "content"), 1);
    node_unref(make_file(dir, long_name, "content"), 1);
    node_unref(make_dir(dir, "sub"), 1);
    assert_int_equal(node_symlink(dir, "link", "target", &st, &n), 0);
    node_unref(n, 1);
    assert_int_equal(dir_open(dir, &s), 0);
    for (uint64_t cookie = 0; dir_next(s, cookie, &e) > 0; cookie = e.cookie) {
        if (e.name[0] == '.')
            continue;
        seen++;
        must_be_the_same(dir, &e);
        if (strcmp(e.name, "file") == 0)
            last = e;
    }
    dir_close(s);
    assert_int_equal(seen, 4);
    assert_int_equal(node_unlink(dir, "file"), 0);
    assert_int_equal(node_lookup_listed(dir, &last, &st, &n), -ENOENT);
    node_unref(dir, 1);
}

/* ---- renames within a directory ---- */

static void test_rename_keeps_what_stands(void **state)
{
    struct node *root = volume_root(v), *a = make_file(root, "a", "of a"), *b = make_file(root, "b", "of b");
    assert_int_equal(node_rename(root, "none", root, "c", 0), -ENOENT);
    assert_int_equal(node_rename(root, "a", root, "b", RENAME_NOREPLACE), -EEXIST);
    assert_int_equal(node_rename(root, "a", root, "a", 0), 0);
    assert_int_equal(node_rename(root, "a", root, "b", 0), 0);
    struct node *n = must_walk("b");
    assert_ptr_equal(n, a);
    assert_true(holds(n, "of a"));
    assert_true(holds(b, "of b")); /* in use still */
    node_unref(n, 1);
    node_unref(a, 1);
    node_unref(b, 1);
}

static void test_rename_of_a_long_name(void **state)
{
    struct node *root = volume_root(v), *n = make_file(root, long_name, "long");
    assert_int_equal(count_stored("", "latchfs.long."), 2);
    assert_int_equal(node_rename(root, long_name, root, "short", 0), 0);
    assert_int_equal(count_stored("", "latchfs.long."), 0);
    assert_int_equal(node_rename(root, "short", root, long_name, 0), 0);
    assert_int_equal(count_stored("", "latchfs.long."), 2);
    assert_true(holds(n, "long"));
    node_unref(n, 1);
    reopen_volume();
    n = must_walk(long_name);
    assert_true(holds(n, "long"));
    node_unref(n, 1);
}

/* ---- making what is there ---- */

static void test_mkdir_of_what_stands(void **state)
{
    struct node *root = volume_root(v), *dir = make_dir(root, "d"), *file = make_file(root, "f", "text"), *n;
    struct stat st;
    assert_int_equal(node_symlink(root, "l", "target", &st, &n), 0);
    node_unref(n, 1);
    assert_int_equal(node_mkdir(root, "d", 0755, &st, &n), -EEXIST);
    assert_int_equal(node_mkdir(root, "f", 0755, &st, &n), -EEXIST);
    assert_int_equal(node_mkdir(root, "l", 0755, &st, &n), -EEXIST);
    assert_int_equal(count_stored("", TMP_PREFIX), 0);
    assert_true(holds(file, "text"));
    node_unref(dir, 1);
    node_unref(file, 1);
}

#define WAYS_TEST(f) cmocka_unit_test_setup_teardown(f, volume_setup, volume_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WAYS_TEST(test_times_after_a_rename),      WAYS_TEST(test_another_mtime_is_set),
        WAYS_TEST(test_a_later_ctime_is_a_change), WAYS_TEST(test_lookup_of_listed),
        WAYS_TEST(test_rename_keeps_what_stands),  WAYS_TEST(test_rename_of_a_long_name),
        WAYS_TEST(test_mkdir_of_what_stands),
    };
    memset(long_name, 'n', sizeof long_name - 1);
    return cmocka_run_group_tests_name("store_ways", tests, NULL, NULL);
}
