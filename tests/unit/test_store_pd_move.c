/* Protected directories are kept apart: moves across, removal of locked ones, tampering, replay without their
 * keys. */
#include "pd_fixture.h"

#include <linux/fs.h>

static struct node *root(void)
{
    return volume_root(v);
}

/* ---- moves ---- */

static void check_exdev(struct node *from, const char *name, struct node *to)
{
    assert_int_equal(node_rename(from, name, to, "moved", 0), -EXDEV);
    assert_int_equal(node_rename(from, name, to, "moved", RENAME_NOREPLACE), -EXDEV);
    assert_int_equal(node_rename(from, name, to, "there", 0), -EXDEV);
    assert_int_equal(node_rename(from, name, to, "there", RENAME_EXCHANGE), -EXDEV);
}

static void test_nothing_moves_across(void **state)
{
    struct keyset k = pd_keyset();
    struct node *a = make_top(root(), "a", &k), *n, *dirs[] = {root(), a};
    struct stat st;
    for (int i = 0; i < 2; i++) {
        node_unref(make_file(dirs[i], "file", "x"), 1);
        node_unref(make_dir(dirs[i], "dir"), 1);
        node_unref(make_file(dirs[i], "there", "x"), 1);
        assert_int_equal(node_symlink(dirs[i], "link", "t", &st, &n), 0);
        node_unref(n, 1);
    }
    for (int i = 0; i < 2; i++) {
        check_exdev(dirs[i], "file", dirs[1 - i]);
        check_exdev(dirs[i], "dir", dirs[1 - i]);
        check_exdev(dirs[i], "link", dirs[1 - i]);
        for (const char *const *name = (const char *const[]){"file", "link", NULL}; *name; name++) {
            struct node *other;
            assert_int_equal(node_lookup(dirs[i], *name, &st, &n), 0);
            assert_int_equal(node_link(n, dirs[1 - i], "linked", &st, &other), -EXDEV);
            node_unref(n, 1);
        }
    }
    assert_int_equal(node_rename(a, "dir", a, "moved", 0), 0);
    assert_int_equal(node_rename(a, "file", a, "there", RENAME_EXCHANGE), 0);
    node_unref(a, 1);
}

/* The record of a topmost directory names its place under its own keys. */
static void test_moves_of_a_top(void **state)
{
    struct keyset k = pd_keyset();
    struct node *a = make_top(root(), "a", &k), *d = make_dir(root(), "d"), *f = make_file(a, "f", "x");
    struct stat st;
    assert_int_equal(node_rename(root(), "a", d, "b", 0), 0);
    assert_int_equal(node_rename(d, "b", d, "c", 0), 0);
    lock_pd(&k);
    assert_int_equal(node_rename(d, "c", root(), "e", 0), LFS_ERR_NOKEY);
    assert_int_equal(node_rename(d, "c", d, "e", 0), LFS_ERR_NOKEY);
    assert_int_equal(node_getattr(a, &st), 0);
    node_unref(f, 1);
    node_unref(a, 1);
    node_unref(d, 1);
    reopen_volume();
    d = must_walk("d");
    assert_int_equal(node_rename(root(), "d", root(), "d2", 0), 0); /* with the locked one in it */
    assert_int_equal(node_rename(d, "c", root(), "f", 0), LFS_ERR_NOKEY);
    unlock_pd(&k);
    assert_int_equal(node_rename(d, "c", root(), "f", 0), 0);
    node_unref(d, 1);
    reopen_volume();
    unlock_pd(&k);
    f = must_walk("f/f");
    assert_true(holds(f, "x"));
    node_unref(f, 1);
}

static void test_exchange_of_tops(void **state)
{
    struct keyset k[2] = {pd_keyset(), pd_keyset()};
    struct node *a = make_top(root(), "a", &k[0]), *d = make_dir(root(), "d"), *b = make_top(d, "b", &k[1]);
    node_unref(make_file(a, "f", "in a"), 1);
    node_unref(make_file(b, "f", "in b"), 1);
    lock_pd(&k[1]);
    assert_int_equal(node_rename(root(), "a", d, "b", RENAME_EXCHANGE), LFS_ERR_NOKEY);
    unlock_pd(&k[1]);
    assert_int_equal(node_rename(root(), "a", d, "b", RENAME_EXCHANGE), 0);
    node_unref(a, 1);
    node_unref(b, 1);
    node_unref(d, 1);
    reopen_volume();
    unlock_pd(&k[0]);
    unlock_pd(&k[1]);
    struct node *f = must_walk("d/b/f"), *g = must_walk("a/f");
    assert_true(holds(f, "in a") && holds(g, "in b"));
    node_unref(f, 1);
    node_unref(g, 1);
}

static void test_one_inside_another(void **state)
{
    struct keyset outer = pd_keyset(), inner = pd_keyset();
    struct node *a = make_top(root(), "a", &outer), *b = make_top(a, "b", &inner), *n;
    struct node *f = make_file(b, "f", "x");
    struct stat st;
    assert_true(is_top(b) && is_in(f, &inner));
    lock_pd(&outer);
    assert_int_equal(node_lookup(a, "b", &st, &n), LFS_ERR_NOKEY);
    assert_true(holds(f, "x"));
    lock_pd(&inner);
    unlock_pd(&outer);
    assert_int_equal(node_lookup(a, "b", &st, &n), 0);
    node_unref(n, 1);
    assert_int_equal(node_getattr(f, &st), LFS_ERR_NOKEY);
    unlock_pd(&inner);
    assert_true(holds(f, "x"));
    node_unref(f, 1);
    node_unref(b, 1);
    node_unref(a, 1);
}

/* ---- removal ---- */

static void test_removal_of_a_top(void **state)
{
    struct keyset k = pd_keyset();
    struct node *a = make_top(root(), "a", &k);
    node_unref(make_dir(root(), "d"), 1);
    for (int i = 0; i < 2; i++) {
        lock_pd(&k);
        assert_int_equal(node_rmdir(root(), "a"), LFS_ERR_NOKEY);
        assert_int_equal(node_rename(root(), "d", root(), "a", 0), LFS_ERR_NOKEY);
        if (i == 0) {
            node_unref(a, 1);
            reopen_volume(); /* and when it was never loaded */
            a = must_walk("a");
            unlock_pd(&k);
        }
    }
    unlock_pd(&k);
    node_unref(make_file(a, "f", "x"), 1);
    lock_pd(&k);
    assert_int_equal(node_rmdir(root(), "a"), -ENOTEMPTY);
    assert_int_equal(node_rename(root(), "d", root(), "a", 0), -ENOTEMPTY);
    unlock_pd(&k);
    assert_int_equal(node_rmdir(root(), "a"), -ENOTEMPTY);
    assert_int_equal(node_unlink(a, "f"), 0);
    assert_int_equal(node_rename(root(), "d", root(), "a", 0), 0);
    assert_int_equal(node_rmdir(root(), "a"), 0);
    node_unref(a, 1);
}

/* ---- tampering ---- */

/* Files moved below from one protected directory to another, under a name that decrypts there. */
static void test_file_of_another(void **state)
{
    struct keyset k = pd_keyset();
    struct node *a = make_top(root(), "a", &k), *f = make_file(a, "f", "of a"), *n;
    struct node *g = make_file(root(), "g", "of root");
    struct stat st;
    char in_a[1024], in_root[1024], tmp[1100];
    assert_int_equal(volume_checkpoint(v), 0);
    below(f, in_a);
    below(g, in_root);
    snprintf(tmp, sizeof tmp, "%s.tmp", in_root);
    assert_int_equal(rename(in_a, tmp), 0);
    assert_int_equal(rename(in_root, in_a), 0);
    assert_int_equal(rename(tmp, in_root), 0);
    assert_int_equal(node_lookup(a, "f", &st, &n), LFS_ERR_AUTH); /* while their nodes are known */
    assert_int_equal(node_lookup(root(), "g", &st, &n), LFS_ERR_AUTH);
    node_unref(f, 1);
    node_unref(g, 1);
    node_unref(a, 1);
    reopen_volume();
    unlock_pd(&k);
    f = must_walk("a/f");
    g = must_walk("g");
    assert_int_equal(file_open(f, false), LFS_ERR_AUTH);
    assert_int_equal(file_open(g, false), LFS_ERR_AUTH);
    node_unref(f, 1);
    node_unref(g, 1);
}

/* A record that claims another protected directory fits no key. */
static void test_record_of_another(void **state)
{
    struct keyset k = pd_keyset(), k2 = pd_keyset();
    struct node *a = make_top(root(), "a", &k), *n;
    struct stat st;
    char path[1024], record[1100];
    uint8_t bytes[DIRREC_BYTES];
    below(a, path);
    node_unref(a, 1);
    reopen_volume();
    unlock_pd(&k);
    unlock_pd(&k2);
    snprintf(record, sizeof record, "%s/" DIRREC_NAME, path);
    read_below(record, bytes, sizeof bytes);
    memcpy(bytes + 64, k2.pd_id, ID_BYTES);
    int fd = open(record, O_WRONLY);
    assert_int_equal(pwrite(fd, bytes, sizeof bytes, 0), sizeof bytes);
    close(fd);
    a = must_walk("a");
    assert_int_equal(node_lookup(a, "f", &st, &n), LFS_ERR_AUTH);
    node_unref(a, 1);
}

/* ---- replay ---- */

/* Runs fn in a process that ends without closing the volume, as kill -9 leaves it. */
static void in_killed_process(void (*fn)(void *arg), void *arg)
{
    int status;
    assert_int_equal(volume_close(v), 0);
    v = NULL;
    pid_t child = fork();
    if (child == 0) {
        open_volume();
        fn(arg);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void open_reporting(struct replay_report *report)
{
    struct volume_options o = {.journal_bytes = UINT64_C(8) << 20, .no_flusher = true};
    assert_int_equal(volume_open(volume_dir, &plain_keys, &o, report, &v), 0);
}

static void write_both(void *arg)
{
    struct keyset *k = arg;
    unlock_pd(k);
    struct node *a = must_walk("a"), *sub = make_dir(a, "sub");
    struct node *f = make_file(sub, "f", "first"), *g = make_file(root(), "g", "first");
    assert_int_equal(file_write(f, "SECOND", 6, 0), 6);
    assert_int_equal(file_write(g, "SECOND", 6, 0), 6);
    assert_int_equal(file_fsync(f, false), 0);
    assert_int_equal(file_fsync(g, false), 0);
}

static void test_replay_without_keys(void **state)
{
    struct keyset k = pd_keyset();
    struct replay_report report;
    node_unref(make_top(root(), "a", &k), 1);
    in_killed_process(write_both, &k);
    open_reporting(&report);
    assert_int_equal(report.files, 2);
    assert_int_equal(report.skipped, 0);
    unlock_pd(&k);
    struct node *f = must_walk("a/sub/f"), *g = must_walk("g");
    assert_true(holds(f, "SECOND") && holds(g, "SECOND"));
    node_unref(f, 1);
    node_unref(g, 1);
}

/* The hints do not fit, so that the volume is walked, also through directories that are locked. */
static void test_replay_walks_through_locked(void **state)
{
    struct keyset k = pd_keyset();
    struct replay_report report;
    struct node *a = make_top(root(), "a", &k);
    char path[1024], other[1200];
    below(a, path);
    node_unref(a, 1);
    in_killed_process(write_both, &k);
    char *name = strrchr(path, '/');
    snprintf(other, sizeof other, "%.*s/AAAA%s", (int)(name - path), path, name + 5);
    assert_int_equal(rename(path, other), 0);
    open_reporting(&report);
    assert_int_equal(report.files, 2);
    assert_int_equal(report.skipped, 0);
    assert_int_equal(volume_close(v), 0);
    assert_int_equal(rename(other, path), 0);
    open_volume();
    unlock_pd(&k);
    struct node *f = must_walk("a/sub/f");
    assert_true(holds(f, "SECOND"));
    node_unref(f, 1);
}

/* A read-only look at an unclean volume: nodes stand that were found without a key. */
static void test_read_only_replay(void **state)
{
    struct keyset k = pd_keyset();
    struct volume_options o = {.read_only = true};
    struct node *n;
    node_unref(make_top(root(), "a", &k), 1);
    in_killed_process(write_both, &k);
    assert_int_equal(volume_open(volume_dir, &plain_keys, &o, NULL, &v), 0);
    assert_int_equal(walk("a/sub/f", &n), LFS_ERR_NOKEY);
    unlock_pd(&k);
    n = must_walk("a/sub/f");
    assert_true(holds(n, "SECOND") && is_in(n, &k));
    lock_pd(&k);
    assert_false(holds(n, "SECOND"));
    unlock_pd(&k);
    assert_true(holds(n, "SECOND"));
    node_unref(n, 1);
    assert_int_equal(volume_close(v), 0);
    open_volume();
}

#define PD_TEST(t) cmocka_unit_test_setup_teardown(t, volume_setup, volume_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PD_TEST(test_nothing_moves_across),
        PD_TEST(test_moves_of_a_top),
        PD_TEST(test_exchange_of_tops),
        PD_TEST(test_one_inside_another),
        PD_TEST(test_removal_of_a_top),
        PD_TEST(test_file_of_another),
        PD_TEST(test_record_of_another),
        PD_TEST(test_replay_without_keys),
        PD_TEST(test_replay_walks_through_locked),
        PD_TEST(test_read_only_replay),
    };
    umask(022);
    return cmocka_run_group_tests_name("store_pd_move", tests, NULL, NULL);
}
