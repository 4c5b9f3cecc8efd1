/* What a scan of header versions answers for: on the strength of it keys are destroyed. Files that move while
 * it walks, headers that are not in place yet, and those that no key of the set fits. */
#include "rotate_fixture.h"

#include <linux/fs.h>

#define EACH 20      /* files in each of two directories */
#define FLOOD 70000u /* renames; more than are noted */

static struct node *dir[2]; /* as the walk comes to them */

/* The walk takes the entries as the system lists them. */
static void sort_sides(void)
{
    struct node *first = NULL;
    DIR *d = opendir(volume_dir);
    assert_non_null(d);
    for (struct dirent *e; !first && (e = readdir(d));)
        for (int i = 0; i < 2; i++)
            first = e->d_ino == node_ino(dir[i]) ? dir[i] : first;
    closedir(d);
    assert_non_null(first);
    dir[1] = first == dir[1] ? dir[0] : dir[1];
    dir[0] = first;
}

/* Two directories of files with new headers, and in the second "odd", made before them with the key of then.
 * No node of a file stays. */
static void make_sides(void)
{
    char name[16];
    dir[0] = make_dir(volume_root(v), "left");
    dir[1] = make_dir(volume_root(v), "right");
    sort_sides();
    node_unref(make_file(dir[1], "odd", "odd"), 1);
    next_version();
    for (int i = 0; i < 2 * EACH; i++) {
        snprintf(name, sizeof name, "f%d", i);
        node_unref(make_file(dir[i % 2], name, name), 1);
    }
    assert_int_equal(volume_checkpoint(v), 0);
}

static void drop_sides(void)
{
    node_unref(dir[0], 1);
    node_unref(dir[1], 1);
}

/* When the walk enters the second directory, "odd" goes to the first, where it does not come again. */
struct escape {
    uint64_t files; /* at the step before: a step without another file is that into a directory */
    bool done;
    void (*move)(void);
};

static void on_step(const struct rotate_progress *p, void *arg)
{
    struct escape *e = arg;
    bool entered = p->files == EACH && p->files == e->files;
    e->files = p->files;
    if (!entered || e->done)
        return;
    e->done = true;
    e->move();
}

static int run_escaping(rotation *how, void (*move)(void), struct rotate_progress *p)
{
    struct escape e = {.move = move};
    struct rotate_options o = {.progress = on_step, .arg = &e};
    memcpy(o.pd_id, plain_keys.pd_id, ID_BYTES);
    atomic_store(&fast_clock, true);
    int r = how(v, &o, p);
    atomic_store(&fast_clock, false);
    assert_true(e.done);
    return r;
}

static void move_odd(void)
{
    assert_int_equal(node_rename(dir[1], "odd", dir[0], "odd", RENAME_NOREPLACE), 0);
}

static void exchange_odd(void)
{
    assert_int_equal(node_rename(dir[0], "f0", dir[1], "odd", RENAME_EXCHANGE), 0);
}

/* So much moves that the file itself is not noted. */
static void flood(void)
{
    struct node *root = volume_root(v), *f = make_file(root, "a", "a");
    for (unsigned i = 0; i < FLOOD; i++)
        assert_int_equal(node_rename(root, i % 2 ? "b" : "a", root, i % 2 ? "a" : "b", 0), 0);
    node_unref(f, 1);
    move_odd();
}

static void check_escape(void (*move)(void))
{
    struct rotate_progress p;
    make_sides();
    assert_int_equal(run_escaping(volume_scan_versions, move, &p), 0);
    assert_int_equal(p.least_found, plain_keys.active - 1);
    drop_sides();
}

static void test_moved(void **state)
{
    check_escape(move_odd);
}

static void test_exchanged(void **state)
{
    check_escape(exchange_odd);
}

static void test_moved_unnoted(void **state)
{
    check_escape(flood);
}

/* A file without a header that can be read has moved: nobody may say that all are right. */
static void test_moved_damaged(void **state)
{
    struct rotate_progress p;
    char path[1024];
    make_sides();
    struct node *odd;
    struct stat st;
    assert_int_equal(node_lookup(dir[1], "odd", &st, &odd), 0);
    below(odd, path);
    node_unref(odd, 1);
    int fd = open(path, O_RDWR);
    assert_int_equal(pwrite(fd, "no header", 9, 0), 9);
    close(fd);
    assert_int_equal(run_escaping(volume_rewrap, move_odd, &p), LFS_ERR_CORRUPT);
    assert_int_equal(p.damaged, 1);
    drop_sides();
}

/* ---- not in place ---- */

static void stop_when_changed(const struct rotate_progress *p, void *arg)
{
    if (p->changed)
        atomic_store((atomic_bool *)arg, true);
}

/* A header at the new version, in the journal only. */
static int rewrap_stopped(void)
{
    atomic_bool stop = false;
    struct rotate_progress p;
    struct rotate_options o = {.stop = &stop, .progress = stop_when_changed, .arg = &stop};
    memcpy(o.pd_id, plain_keys.pd_id, ID_BYTES);
    atomic_store(&fast_clock, true);
    int r = volume_rewrap(v, &o, &p);
    atomic_store(&fast_clock, false);
    return r;
}

static void test_settles(void **state)
{
    struct rotate_progress p;
    struct node *n = make_file(volume_root(v), "f", "text");
    next_version();
    assert_int_equal(rewrap_stopped(), -EINTR);
    assert_int_equal(placed_header(n).key_version, 1);
    assert_int_equal(run(volume_scan_versions, &p), 0);
    assert_int_equal(p.least_found, 2);
    assert_int_equal(placed_header(n).key_version, 2);
    node_unref(n, 1);
}

/* Where nothing can be put in place, what lies there counts. */
static void test_pending_read_only(void **state)
{
    struct rotate_progress p;
    struct volume_options ro = {.read_only = true};
    int status;
    node_unref(make_file(volume_root(v), "f", "text"), 1);
    next_version();
    assert_int_equal(volume_close(v), 0);
    v = NULL;
    pid_t child = fork();
    if (child == 0) {
        open_volume();
        _exit(rewrap_stopped() == -EINTR ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(volume_open(volume_dir, &plain_keys, &ro, NULL, &v), 0);
    assert_int_equal(run(volume_scan_versions, &p), 0);
    assert_int_equal(p.least_found, 1);
}

/* ---- no key fits ---- */

static void test_unknown_version(void **state)
{
    struct rotate_progress p;
    node_unref(make_file(volume_root(v), "old", "text"), 1);
    next_version();
    node_unref(make_file(volume_root(v), "new", "text"), 1);
    assert_int_equal(volume_close(v), 0);
    plain_keys.versions[0] = plain_keys.versions[1];
    plain_keys.count = 1;
    open_volume();
    assert_int_equal(run(volume_scan_versions, &p), LFS_ERR_CORRUPT);
    assert_int_equal(p.files, 2);
    assert_int_equal(p.damaged, 1);
    assert_int_equal(p.least_found, 1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, volume_setup, volume_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_moved),   T(test_exchanged),         T(test_moved_unnoted),   T(test_moved_damaged),
        T(test_settles), T(test_pending_read_only), T(test_unknown_version),
    };
    return cmocka_run_group_tests_name("store_scan", tests, NULL, NULL);
}
