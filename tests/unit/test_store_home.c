/* A file is bound to the directories it has names in. */
#include "latchfs/header.h"
#include "tree_mirror.h"

#include <pthread.h>
#include <stdio.h>

#define BIG 20000 /* bytes: paged */

static void backing_path(const char *path, char stored[static PATH_MAX])
{
    char dir[PATH_MAX], cmd[256];
    struct node *n = must_walk(path);
    snprintf(cmd, sizeof cmd, "find %s -inum %llu", volume_dir, (unsigned long long)node_ino(n));
    node_unref(n, 1);
    FILE *p = popen(cmd, "r");
    assert_non_null(fgets(dir, sizeof dir, p));
    pclose(p);
    dir[strcspn(dir, "\n")] = '\0';
    strcpy(stored, dir);
}

/* Two files change their bytes and keep their names, as somebody with the ciphertext can do. */
static void exchange_below(const char *one, const char *other)
{
    char a[PATH_MAX], b[PATH_MAX];
    backing_path(one, a);
    backing_path(other, b);
    assert_int_equal(volume_close(v), 0);
    assert_int_equal(renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE), 0);
    open_volume();
}

static int open_at(const char *path)
{
    struct node *n = must_walk(path);
    int r = file_open(n, false);
    if (!r)
        file_close(n);
    node_unref(n, 1);
    return r;
}

static struct file_header header_at(const char *path)
{
    char stored[PATH_MAX];
    uint8_t bytes[HEADER_BYTES];
    struct file_header h;
    assert_int_equal(volume_checkpoint(v), 0);
    backing_path(path, stored);
    int fd = open(stored, O_RDONLY);
    assert_int_equal(read(fd, bytes, sizeof bytes), sizeof bytes);
    close(fd);
    assert_int_equal(header_decode(bytes, &h), 0);
    return h;
}

static bool is_bound(const char *path)
{
    struct file_header h = header_at(path);
    return !sodium_is_zero(h.home[0], ID_BYTES);
}

static void make_dirs(void)
{
    assert_int_equal(both_mkdir("a", 0755), 0);
    assert_int_equal(both_mkdir("b", 0755), 0);
    assert_int_equal(both_mkdir("c", 0755), 0);
}

static void put(const char *path, size_t len)
{
    static char text[BIG + 1];
    memset(text, 'x', len);
    text[len] = '\0';
    assert_int_equal(both_write(path, text), 0);
}

static void test_exchanged_between_directories(void **state)
{
    size_t sizes[] = {5, BIG};
    make_dirs();
    for (int i = 0; i < 2; i++) {
        put("a/f", sizes[i]);
        put("b/g", sizes[i]);
        exchange_below("a/f", "b/g");
        assert_int_equal(open_at("a/f"), LFS_ERR_AUTH);
        assert_int_equal(open_at("b/g"), LFS_ERR_AUTH);
        struct node *n = must_walk("a/f");
        char c;
        assert_int_equal(file_read(n, &c, 1, 0), LFS_ERR_AUTH);
        assert_int_equal(file_write(n, "y", 1, 0), LFS_ERR_AUTH);
        node_unref(n, 1);
        exchange_below("a/f", "b/g");
        compare_all();
    }
}

/* A file that is in memory already does not pass for that. */
static void test_exchanged_while_loaded(void **state)
{
    char a[PATH_MAX], b[PATH_MAX], c;
    make_dirs();
    put("a/f", 5);
    put("b/g", BIG);
    backing_path("a/f", a);
    backing_path("b/g", b);
    struct node *f = must_walk("a/f"), *g = must_walk("b/g"), *n;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(file_read(f, &c, 1, 0), 1);
        assert_int_equal(file_read(g, &c, 1, 0), 1);
        assert_int_equal(renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE), 0);
        n = must_walk("b/g");
        assert_ptr_equal(n, f);
        assert_int_equal(file_read(n, &c, 1, 0), LFS_ERR_AUTH);
        assert_int_equal(file_read(n, &c, 1, 0), LFS_ERR_AUTH);
        assert_int_equal(file_write(n, "y", 1, 0), LFS_ERR_AUTH);
        node_unref(n, 1);
        assert_int_equal(open_at("a/f"), LFS_ERR_AUTH);
        assert_int_equal(renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE), 0);
        assert_int_equal(open_at("a/f"), 0);
        assert_int_equal(open_at("b/g"), 0);
    }
    node_unref(f, 1);
    node_unref(g, 1);
    compare_all();
}

static void test_moved(void **state)
{
    make_dirs();
    put("a/f", BIG);
    put("a/g", 5);
    assert_int_equal(both_rename("a/f", "b/f", 0), 0);
    assert_int_equal(both_rename("a/g", "b/g", 0), 0);
    reopen_volume();
    compare_all();
    assert_true(is_bound("b/f") && is_bound("b/g"));
    assert_int_equal(both_rename("b/f", "a/f", 0), 0);
    assert_int_equal(both_rename("a/f", "c/f", 0), 0);
    assert_int_equal(both_rename("b/g", "c/f", RENAME_EXCHANGE), 0);
    reopen_volume();
    compare_all();
    /* The directories that they left are not theirs any more. */
    put("a/h", 5);
    put("b/h", 5);
    exchange_below("c/f", "a/h");
    assert_int_equal(open_at("a/h"), LFS_ERR_AUTH);
    exchange_below("c/f", "a/h");
    exchange_below("c/f", "b/h");
    assert_int_equal(open_at("b/h"), LFS_ERR_AUTH);
}

static void test_linked(void **state)
{
    make_dirs();
    put("a/f", BIG);
    assert_int_equal(both_link("a/f", "a/same"), 0);
    assert_int_equal(both_link("a/f", "b/f"), 0);
    reopen_volume();
    compare_all();
    assert_true(is_bound("b/f"));
    assert_int_equal(open_at("b/f"), 0);
    char dir[16], path[32];
    for (int i = 0; i < 7; i++) {
        assert_true(is_bound("b/f"));
        snprintf(dir, sizeof dir, "d%d", i);
        snprintf(path, sizeof path, "%s/f", dir);
        assert_int_equal(both_mkdir(dir, 0755), 0);
        assert_int_equal(both_link("b/f", path), 0);
        reopen_volume();
        assert_int_equal(open_at(path), 0);
    }
    compare_all();
    assert_false(is_bound("b/f"));
}

/* One of several names moves: the others stay where they are. */
static void test_one_of_two_names_moves(void **state)
{
    make_dirs();
    put("a/f", 5);
    assert_int_equal(both_link("a/f", "a/g"), 0);
    assert_int_equal(both_rename("a/g", "b/g", 0), 0);
    reopen_volume();
    assert_int_equal(open_at("a/f"), 0);
    assert_int_equal(open_at("b/g"), 0);
    assert_int_equal(both_rename("b/g", "c/g", 0), 0);
    reopen_volume();
    assert_int_equal(open_at("a/f"), 0);
    assert_int_equal(open_at("c/g"), 0);
    compare_all();
}

static void test_empty_files(void **state)
{
    make_dirs();
    put("a/moved", 0);
    put("a/linked", 0);
    assert_int_equal(both_rename("a/moved", "b/moved", 0), 0);
    assert_int_equal(both_link("a/linked", "b/linked"), 0);
    put("b/moved", BIG);
    put("a/linked", 5);
    assert_true(is_bound("b/moved"));
    assert_false(is_bound("a/linked"));
    reopen_volume();
    compare_all();
}

/* ---- files that get their first content while they move ---- */

#define ROUNDS 400

static void *writer(void *arg)
{
    struct node **files = arg;
    for (int i = 0; i < ROUNDS; i++)
        assert_int_equal(file_write(files[i], "content", 7, 0), 7);
    return NULL;
}

static void test_born_on_the_way(void **state)
{
    static struct node *files[ROUNDS];
    struct stat st;
    pthread_t thread;
    char name[16];
    make_dirs();
    struct node *a = must_walk("a"), *b = must_walk("b");
    for (int i = 0; i < ROUNDS; i++) {
        snprintf(name, sizeof name, "%d", i);
        assert_int_equal(node_create(a, name, 0644, true, &st, &files[i]), 0);
    }
    assert_int_equal(pthread_create(&thread, NULL, writer, files), 0);
    for (int i = 0; i < ROUNDS; i++) {
        snprintf(name, sizeof name, "%d", i);
        assert_int_equal(node_rename(a, name, b, name, 0), 0);
    }
    pthread_join(thread, NULL);
    for (int i = 0; i < ROUNDS; i++)
        node_unref(files[i], 1);
    node_unref(a, 1);
    node_unref(b, 1);
    reopen_volume();
    for (int i = 0; i < ROUNDS; i++) {
        snprintf(name, sizeof name, "b/%d", i);
        assert_int_equal(open_at(name), 0);
    }
}

#define HOME_TEST(t) cmocka_unit_test_setup_teardown(t, mirror_setup, mirror_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        HOME_TEST(test_exchanged_between_directories),
        HOME_TEST(test_exchanged_while_loaded),
        HOME_TEST(test_moved),
        HOME_TEST(test_linked),
        HOME_TEST(test_one_of_two_names_moves),
        HOME_TEST(test_empty_files),
        HOME_TEST(test_born_on_the_way),
    };
    umask(022);
    return cmocka_run_group_tests_name("store_home", tests, NULL, NULL);
}
