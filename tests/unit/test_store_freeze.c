#include "tree_fixture.h"

#include <ftw.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/xattr.h>
#include <time.h>

static struct node *root(void)
{
    return volume_root(v);
}

/* ---- what the backing directory looks like: names, modes, times, sizes and bytes ---- */

static unsigned long long sum;

static void mix(const void *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        sum = (sum ^ ((const unsigned char *)data)[i]) * 1099511628211u;
}

static int add_entry(const char *path, const struct stat *st, int type, struct FTW *w)
{
    char buf[65536];
    unsigned long long before = sum;
    sum = 14695981039346656037u;
    mix(path, strlen(path));
    mix(&st->st_mode, sizeof st->st_mode);
    mix(&st->st_mtim, sizeof st->st_mtim);
    mix(&st->st_ctim, sizeof st->st_ctim);
    mix(&st->st_size, sizeof st->st_size);
    if (type == FTW_F && S_ISREG(st->st_mode)) {
        int fd = open(path, O_RDONLY);
        for (ssize_t n; (n = read(fd, buf, sizeof buf)) > 0;)
            mix(buf, (size_t)n);
        close(fd);
    }
    sum += before; /* in whatever order they come */
    return 0;
}

static unsigned long long picture(void)
{
    sum = 0;
    assert_int_equal(nftw(volume_dir, add_entry, 16, FTW_PHYS), 0);
    return sum;
}

/* A copy of the directory, opened as the volume is. */
static struct volume *open_copy(struct replay_report *report)
{
    char cmd[300], copy[80];
    struct volume *c;
    struct volume_options o = {.journal_bytes = UINT64_C(8) << 20, .no_flusher = true};
    snprintf(copy, sizeof copy, "%s/copy", base);
    snprintf(cmd, sizeof cmd, "rm -rf %s && cp -a %s %s", copy, volume_dir, copy);
    assert_int_equal(system(cmd), 0);
    assert_int_equal(volume_open(copy, &plain_keys, &o, report, &c), 0);
    return c;
}

static void nap(long ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

/* As after an unmount: without a ring. */
static bool journal_is_clean(void)
{
    char path[128];
    struct stat st;
    snprintf(path, sizeof path, "%s/latchfs.journal", volume_dir);
    assert_int_equal(stat(path, &st), 0);
    return st.st_size == 2 * 4096;
}

/* ---- one change of each kind, in a thread that waits ---- */

static struct node *file, *other, *dir;

static int do_write(void)
{
    return file_write(file, "new", 3, 0) == 3 ? 0 : -1;
}

static int do_append(void)
{
    return file_append(file, "end", 3) == 3 ? 0 : -1;
}

static int do_truncate(void)
{
    return file_truncate(file, 1);
}

static int do_allocate(void)
{
    return file_fallocate(file, 0, 0, 8192);
}

static int do_copy(void)
{
    return file_copy_range(other, 0, file, 0, 4) == 4 ? 0 : -1;
}

static int drop(int r, struct node *n)
{
    if (!r)
        node_unref(n, 1);
    return r;
}

static int do_create(void)
{
    struct stat st;
    struct node *n = NULL;
    int r = node_create(dir, "created", 0644, true, &st, &n);
    return drop(r, n);
}

static int do_mknod(void)
{
    struct stat st;
    struct node *n = NULL;
    int r = node_mknod(dir, "fifo", S_IFIFO | 0644, 0, &st, &n);
    return drop(r, n);
}

static int do_mkdir(void)
{
    struct stat st;
    struct node *n = NULL;
    int r = node_mkdir(dir, "made", 0755, &st, &n);
    return drop(r, n);
}

static int do_symlink(void)
{
    struct stat st;
    struct node *n = NULL;
    int r = node_symlink(dir, "link", "target", &st, &n);
    return drop(r, n);
}

static int do_link(void)
{
    struct stat st;
    struct node *n = NULL;
    int r = node_link(file, dir, "again", &st, &n);
    return drop(r, n);
}

static int do_unlink(void)
{
    return node_unlink(dir, "gone");
}

static int do_rmdir(void)
{
    return node_rmdir(dir, "gonedir");
}

static int do_rename(void)
{
    return node_rename(dir, "old", dir, "renamed", 0);
}

static int do_chmod(void)
{
    struct stat want = {.st_mode = 0600}, st;
    return node_setattr(file, &want, SET_MODE, &st);
}

static int do_times(void)
{
    struct stat want = {.st_mtim = {.tv_sec = 1000}}, st;
    return node_setattr(dir, &want, SET_MTIME, &st);
}

static int do_setxattr(void)
{
    return node_setxattr(file, "user.a", "x", 1, 0);
}

static int do_removexattr(void)
{
    return node_removexattr(dir, "user.b");
}

static int do_checkpoint(void)
{
    return volume_checkpoint(v);
}

static int do_fsync(void)
{
    return file_fsync(file, false);
}

static int do_rewrap(void)
{
    struct rotate_options o = {0};
    struct rotate_progress p;
    memcpy(o.pd_id, plain_keys.pd_id, ID_BYTES);
    return volume_rewrap(v, &o, &p);
}

static int (*const changes[])(void) = {
    do_write, do_append,  do_truncate, do_allocate,    do_copy,       do_create, do_mknod,
    do_mkdir, do_symlink, do_link,     do_unlink,      do_rmdir,      do_rename, do_chmod,
    do_times, do_fsync,   do_setxattr, do_removexattr, do_checkpoint, do_rewrap,
};
enum { CHANGES = sizeof changes / sizeof changes[0] };

static atomic_uint begun, ended;

static void *change(void *arg)
{
    int (*const *fn)(void) = arg;
    atomic_fetch_add(&begun, 1);
    int r = (*fn)();
    atomic_fetch_add(&ended, 1);
    return (void *)(intptr_t)r;
}

static void start_changes(pthread_t t[static CHANGES])
{
    begun = ended = 0;
    for (unsigned i = 0; i < CHANGES; i++)
        assert_int_equal(pthread_create(&t[i], NULL, change, (void *)(uintptr_t)&changes[i]), 0);
    while (begun < CHANGES)
        sched_yield();
}

static void join_changes(pthread_t t[static CHANGES])
{
    for (unsigned i = 0; i < CHANGES; i++) {
        void *r;
        assert_int_equal(pthread_join(t[i], &r), 0);
        if (r)
            fail_msg("change %u: %s", i, lfs_strerror((int)(intptr_t)r));
    }
    assert_int_equal(ended, CHANGES);
}

static void make_things(void)
{
    dir = make_dir(root(), "dir");
    file = make_file(dir, "file", "text of the file");
    other = make_file(dir, "other", "other text");
    node_unref(make_file(dir, "gone", "x"), 1);
    node_unref(make_file(dir, "old", "y"), 1);
    node_unref(make_dir(dir, "gonedir"), 1);
    assert_int_equal(node_setxattr(dir, "user.b", "b", 1, 0), 0);
}

static void drop_things(void)
{
    node_unref(file, 1);
    node_unref(other, 1);
    node_unref(dir, 1);
}

/* ---- tests ---- */

static void test_nothing_changes_below(void **state)
{
    pthread_t t[CHANGES];
    make_things();
    assert_false(volume_is_frozen(v));
    assert_int_equal(volume_freeze(v, 600), 0);
    assert_true(volume_is_frozen(v));
    unsigned long long before = picture();
    start_changes(t);
    nap(300);
    assert_int_equal(ended, 0);
    assert_true(holds(file, "text of the file")); /* reads go on */
    assert_true(holds(other, "other text"));
    struct node *n = must_walk("dir/old");
    struct stat st;
    char value[4];
    assert_int_equal(node_getattr(n, &st), 0);
    assert_int_equal(node_getxattr(dir, "user.b", value, sizeof value), 1);
    node_unref(n, 1);
    struct dir_stream *s;
    struct dir_entry e;
    assert_int_equal(dir_open(dir, &s), 0);
    assert_int_equal(dir_next(s, 0, &e), 1);
    dir_close(s);
    assert_true(picture() == before);
    assert_int_equal(volume_thaw(v), 0);
    join_changes(t);
    assert_false(volume_is_frozen(v));
    assert_true(picture() != before);
    assert_int_equal(volume_thaw(v), -EINVAL);
    drop_things();
}

static void test_copy_is_clean(void **state)
{
    struct replay_report report;
    char big[20000];
    make_things();
    memset(big, 'b', sizeof big);
    assert_int_equal(file_write(other, big, sizeof big, 0), (ssize_t)sizeof big);
    assert_int_equal(file_fsync(other, false), 0);
    assert_int_equal(file_write(other, "later", 5, 4096), 5); /* only in the journal */
    assert_int_equal(volume_freeze(v, 600), 0);
    assert_true(journal_is_clean());
    struct volume *c = open_copy(&report), *mine = v;
    assert_false(report.unclean);
    v = c;
    struct node *n = must_walk("dir/other");
    assert_int_equal(file_read(n, big, sizeof big, 0), (ssize_t)sizeof big);
    assert_memory_equal(big + 4096, "laterbbb", 8);
    node_unref(n, 1);
    assert_int_equal(volume_close(c), 0);
    v = mine;
    assert_int_equal(volume_thaw(v), 0);
    assert_false(journal_is_clean());
    /* The journal works again, and a copy taken now has something to replay. */
    assert_int_equal(file_write(other, "after", 5, 8192), 5);
    assert_int_equal(file_fsync(other, false), 0);
    c = open_copy(&report);
    assert_true(report.unclean);
    assert_int_equal(volume_close(c), 0);
    drop_things();
}

/* A time that a program has set is there at once, although the file is still open. */
static void test_times_are_put_back(void **state)
{
    struct stat want = {.st_mtim = {.tv_sec = 12345}}, st;
    char path[512], full[700];
    make_things();
    assert_int_equal(file_open(file, true), 0);
    assert_int_equal(file_write(file, "changed", 7, 0), 7);
    assert_int_equal(node_setattr(file, &want, SET_MTIME, &st), 0);
    assert_int_equal(volume_freeze(v, 600), 0);
    assert_int_equal(node_cipher_path(file, path, sizeof path), 0);
    snprintf(full, sizeof full, "%s/%s", volume_dir, path);
    assert_int_equal(stat(full, &st), 0);
    assert_int_equal(st.st_mtim.tv_sec, 12345);
    unsigned long long before = picture();
    file_close(file);
    assert_true(picture() == before);
    assert_int_equal(volume_thaw(v), 0);
    drop_things();
}

static void test_second_is_refused(void **state)
{
    assert_int_equal(volume_freeze(v, 0), LFS_ERR_MISUSE);
    assert_int_equal(volume_freeze(v, FREEZE_SECONDS_MAX + 1), LFS_ERR_MISUSE);
    assert_int_equal(volume_freeze(v, 600), 0);
    assert_int_equal(volume_freeze(v, 600), LFS_ERR_BUSY);
    assert_int_equal(volume_thaw(v), 0);
    assert_int_equal(volume_freeze(v, 600), 0);
    assert_int_equal(volume_thaw(v), 0);
}

/* Nobody thaws: who waits finds that the time is over. */
static void test_ends_by_itself(void **state)
{
    make_things();
    assert_int_equal(volume_freeze(v, 1), 0);
    assert_int_equal(file_write(file, "waited", 6, 0), 6);
    assert_false(volume_is_frozen(v));
    assert_int_equal(volume_thaw(v), -EINVAL);
    assert_int_equal(volume_freeze(v, 1), 0);
    while (volume_is_frozen(v))
        nap(50);
    assert_int_equal(volume_freeze(v, 600), 0); /* the one before is over, though nobody has ended it */
    assert_int_equal(volume_thaw(v), 0);
    assert_int_equal(volume_freeze(v, 1), 0);
    while (volume_is_frozen(v))
        nap(50);
    assert_int_equal(volume_thaw(v), -EINVAL); /* too late, but it ends it */
    assert_true(volume_try_change(v));
    volume_end_change(v);
    drop_things();
}

static void *write_once(void *arg)
{
    return (void *)(intptr_t)(file_write(file, "before the lock", 15, 0) == 15 ? 0 : 1);
}

static void test_lock_ends_it(void **state)
{
    pthread_t t;
    void *r;
    make_things();
    assert_int_equal(volume_freeze(v, 600), 0);
    assert_int_equal(pthread_create(&t, NULL, write_once, NULL), 0);
    nap(100);
    assert_int_equal(volume_lock_begin(v), 0);
    assert_int_equal(pthread_join(t, &r), 0);
    assert_null(r); /* dirty pages still pass */
    assert_int_equal(volume_freeze(v, 600), LFS_ERR_NOKEY);
    assert_int_equal(volume_lock_finish(v), 0);
    assert_int_equal(volume_freeze(v, 600), LFS_ERR_NOKEY);
    assert_int_equal(volume_unlock(v, &plain_keys), 0);
    assert_true(holds(file, "before the lockk") || holds(file, "before the locke"));
    drop_things();
}

static void test_lock_of_a_directory_ends_it(void **state)
{
    struct keyset inner = plain_keys;
    randombytes_buf(inner.pd_id, ID_BYTES);
    randombytes_buf(inner.name_key, LFS_KEY_BYTES);
    struct node *top = make_dir(root(), "top");
    assert_int_equal(node_protect(top, &inner), 0);
    node_unref(make_file(top, "f", "text"), 1);
    assert_int_equal(volume_freeze(v, 600), 0);
    assert_int_equal(volume_pd_lock_begin(v, inner.pd_id), 0);
    assert_false(volume_is_frozen(v));
    assert_int_equal(volume_freeze(v, 600), 0); /* of the rest: in between, too */
    assert_int_equal(volume_pd_lock_finish(v, inner.pd_id), 0);
    assert_false(volume_is_frozen(v));
    assert_int_equal(volume_pd_unlock(v, &inner), 0);
    struct node *n = must_walk("top/f");
    assert_true(holds(n, "text"));
    node_unref(n, 1);
    node_unref(top, 1);
}

static struct keyset newer;
static struct node *to_protect;

static void *protect_with_newer_keys(void *arg)
{
    return (void *)(intptr_t)node_protect(to_protect, &newer);
}

/* A change may wait for all calls to be over (newer keys), so a freeze that waits for it may not be one. */
static void test_freezes_beside_new_keys(void **state)
{
    pthread_t t;
    void *r;
    newer = plain_keys;
    randombytes_buf(newer.pd_id, ID_BYTES);
    randombytes_buf(newer.name_key, LFS_KEY_BYTES);
    for (int i = 0; i < 40; i++) {
        char name[16];
        snprintf(name, sizeof name, "d%d", i);
        to_protect = make_dir(root(), name);
        newer.active = newer.least = newer.versions[0].version = (uint32_t)i + 1;
        assert_int_equal(pthread_create(&t, NULL, protect_with_newer_keys, NULL), 0);
        assert_int_equal(volume_freeze(v, 600), 0);
        assert_int_equal(volume_thaw(v), 0);
        assert_int_equal(pthread_join(t, &r), 0);
        assert_null(r);
        node_unref(to_protect, 1);
    }
}

static void test_close_ends_it(void **state)
{
    make_things();
    drop_things();
    assert_int_equal(volume_freeze(v, 600), 0);
    reopen_volume();
    struct node *n = must_walk("dir/file");
    assert_true(holds(n, "text of the file"));
    node_unref(n, 1);
}

static void test_try_does_not_wait(void **state)
{
    assert_true(volume_try_change(v));
    assert_true(volume_try_change(v));
    assert_int_equal(volume_freeze(v, 600), LFS_ERR_MISUSE); /* it would wait for this thread */
    volume_end_change(v);
    volume_end_change(v);
    assert_int_equal(volume_freeze(v, 600), 0);
    assert_false(volume_try_change(v));
    assert_int_equal(volume_thaw(v), 0);
}

/* Writers, readers and a flusher all the time: each copy is a state in which every file is whole. */
static atomic_bool stop;
static struct node *busy[4];

static void *keep_writing(void *arg)
{
    struct node *n = arg;
    char text[9000];
    for (unsigned char c = 'a'; !stop; c = c == 'z' ? 'a' : (unsigned char)(c + 1)) {
        memset(text, c, sizeof text);
        if (file_write(n, text, sizeof text, 0) != (ssize_t)sizeof text)
            return (void *)1;
        if (c == 'm' && file_fsync(n, false))
            return (void *)2;
    }
    return NULL;
}

static void *keep_reading(void *arg)
{
    char text[9000];
    while (!stop)
        if (file_read(arg, text, sizeof text, 0) < 0)
            return (void *)1;
    return NULL;
}

static void test_under_load(void **state)
{
    pthread_t t[8];
    struct replay_report report;
    assert_int_equal(volume_start(v), 0);
    stop = false;
    for (int i = 0; i < 4; i++) {
        char name[16];
        snprintf(name, sizeof name, "f%d", i);
        busy[i] = make_file(root(), name, "");
        assert_int_equal(pthread_create(&t[i], NULL, keep_writing, busy[i]), 0);
        assert_int_equal(pthread_create(&t[4 + i], NULL, keep_reading, busy[i]), 0);
    }
    for (int round = 0; round < 6; round++) {
        nap(30);
        assert_int_equal(volume_freeze(v, 600), 0);
        unsigned long long before = picture();
        struct volume *c = open_copy(&report), *mine = v;
        assert_false(report.unclean);
        v = c;
        for (int i = 0; i < 4; i++) {
            char name[16], text[9000];
            snprintf(name, sizeof name, "f%d", i);
            struct node *n = must_walk(name);
            ssize_t len = file_read(n, text, sizeof text, 0);
            assert_true(len == 0 || len == (ssize_t)sizeof text);
            for (ssize_t k = 1; k < len; k++)
                assert_int_equal(text[k], text[0]); /* one write's, whole */
            node_unref(n, 1);
        }
        assert_int_equal(volume_close(c), 0);
        v = mine;
        assert_true(picture() == before);
        assert_int_equal(volume_thaw(v), 0);
    }
    stop = true;
    for (int i = 0; i < 8; i++) {
        void *r;
        assert_int_equal(pthread_join(t[i], &r), 0);
        assert_null(r);
    }
    for (int i = 0; i < 4; i++)
        node_unref(busy[i], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nothing_changes_below, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_copy_is_clean, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_times_are_put_back, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_second_is_refused, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_ends_by_itself, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_lock_ends_it, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_lock_of_a_directory_ends_it, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_freezes_beside_new_keys, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_close_ends_it, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_try_does_not_wait, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_under_load, volume_setup, volume_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
