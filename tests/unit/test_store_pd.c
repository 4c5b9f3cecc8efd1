/* Protected directories: made, locked and unlocked while the rest goes on, and kept apart. */
#include "fs/store/file.h"
#include "pd_fixture.h"

#include <signal.h>
#include <sys/resource.h>

static struct node *root(void)
{
    return volume_root(v);
}

/* ---- making one ---- */

static void test_protect(void **state)
{
    struct keyset k = pd_keyset();
    struct node *a = make_top(root(), "a", &k), *sub = make_dir(a, "sub");
    struct node *f = make_file(sub, "f", "inside"), *g = make_file(root(), "g", "outside");
    assert_true(is_in(a, &k) && is_in(sub, &k) && is_in(f, &k) && !is_in(g, &k) && !is_in(root(), &k));
    assert_true(is_top(a) && is_top(root()) && !is_top(sub) && !is_top(f));
    struct file_header in = header_of(f), out = header_of(g);
    assert_memory_equal(in.pd_id, k.pd_id, ID_BYTES);
    assert_memory_equal(out.pd_id, plain_keys.pd_id, ID_BYTES);
    node_unref(f, 1);
    node_unref(g, 1);
    node_unref(sub, 1);
    node_unref(a, 1);
    reopen_volume();
    unlock_pd(&k);
    f = must_walk("a/sub/f");
    assert_true(holds(f, "inside"));
    node_unref(f, 1);
}

static void test_protect_refuses(void **state)
{
    struct keyset k = pd_keyset(), other = pd_keyset(), foreign = pd_keyset();
    struct node *a = make_dir(root(), "a"), *f = make_file(a, "f", "x");
    assert_int_equal(node_protect(a, &k), -ENOTEMPTY);
    assert_int_equal(node_protect(f, &k), -ENOTDIR);
    assert_int_equal(node_protect(root(), &k), LFS_ERR_MISUSE);
    assert_int_equal(node_protect(a, &plain_keys), LFS_ERR_MISUSE);
    assert_int_equal(node_unlink(a, "f"), 0);
    foreign.volume_id[0] ^= 1;
    assert_int_equal(node_protect(a, &foreign), LFS_ERR_MISUSE);
    assert_int_equal(node_protect(a, &k), 0);
    assert_int_equal(node_protect(a, &other), LFS_ERR_MISUSE);
    assert_true(is_in(a, &k));
    node_unref(f, 1);
    node_unref(a, 1);
}

/* A directory without entries may have attributes; they go over to the new keys. */
static void test_protect_keeps_attributes(void **state)
{
    struct keyset k = pd_keyset();
    char value[16], list[64];
    struct node *a = make_dir(root(), "a");
    assert_int_equal(node_setxattr(a, "user.one", "1", 1, 0), 0);
    assert_int_equal(node_setxattr(a, "user.two", "two", 3, 0), 0);
    assert_int_equal(node_protect(a, &k), 0);
    assert_int_equal(node_getxattr(a, "user.two", value, sizeof value), 3);
    assert_memory_equal(value, "two", 3);
    assert_int_equal(node_listxattr(a, list, sizeof list, true), 18);
    lock_pd(&k);
    assert_int_equal(node_getxattr(a, "user.two", value, sizeof value), LFS_ERR_NOKEY);
    assert_int_equal(node_setxattr(a, "user.two", "x", 1, 0), LFS_ERR_NOKEY);
    assert_int_equal(node_listxattr(a, list, sizeof list, true), 0);
    node_unref(a, 1);
    reopen_volume();
    unlock_pd(&k);
    struct volume_stats st;
    a = must_walk("a");
    assert_int_equal(node_getxattr(a, "user.one", value, sizeof value), 1);
    assert_int_equal(node_listxattr(a, list, sizeof list, true), 18);
    node_unref(a, 1);
    volume_stats(v, &st);
    assert_int_equal(st.auth_failures, 0);
}

/* ---- locked ---- */

struct open_things {
    struct node *top, *sub, *file, *link;
    struct dir_stream *stream;
};

static struct open_things open_all(const struct keyset *k)
{
    struct open_things o;
    struct stat st;
    o.top = make_top(root(), "a", k);
    o.sub = make_dir(o.top, "sub");
    o.file = make_file(o.sub, "f", "inside");
    assert_int_equal(node_symlink(o.sub, "l", "target", &st, &o.link), 0);
    assert_int_equal(file_open(o.file, true), 0);
    assert_int_equal(dir_open(o.sub, &o.stream), 0);
    return o;
}

static void close_all(struct open_things *o)
{
    dir_close(o->stream);
    file_close(o->file);
    node_unref(o->link, 1);
    node_unref(o->file, 1);
    node_unref(o->sub, 1);
    node_unref(o->top, 1);
}

/* Everything in it answers LFS_ERR_NOKEY, its own name does not. */
static void check_locked(const struct open_things *o)
{
    char buf[SYMLINK_PLAIN_MAX + 1];
    struct node *n;
    struct stat st;
    struct dir_entry e;
    struct dir_stream *s;
    assert_int_equal(node_lookup(root(), "a", &st, &n), 0);
    assert_int_equal(node_getattr(n, &st), 0);
    st.st_mode = 0750;
    assert_int_equal(node_setattr(n, &st, SET_MODE, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0750);
    node_unref(n, 1);
    assert_int_equal(node_lookup(o->top, "sub", &st, &n), LFS_ERR_NOKEY);
    assert_int_equal(node_lookup(o->sub, "f", &st, &n), LFS_ERR_NOKEY);
    assert_int_equal(node_lookup(o->top, "none", &st, &n), LFS_ERR_NOKEY);
    assert_int_equal(dir_open(o->top, &s), LFS_ERR_NOKEY);
    assert_int_equal(dir_next(o->stream, 0, &e), LFS_ERR_NOKEY);
    assert_int_equal(node_create(o->top, "new", 0644, true, &st, &n), LFS_ERR_NOKEY);
    assert_int_equal(node_mkdir(o->sub, "new", 0755, &st, &n), LFS_ERR_NOKEY);
    assert_int_equal(node_mknod(o->sub, "new", S_IFIFO | 0644, 0, &st, &n), LFS_ERR_NOKEY);
    assert_int_equal(node_symlink(o->sub, "new", "x", &st, &n), LFS_ERR_NOKEY);
    assert_int_equal(node_link(o->file, o->sub, "new", &st, &n), LFS_ERR_NOKEY);
    assert_int_equal(node_link(o->file, root(), "new", &st, &n), -EXDEV);
    assert_int_equal(node_unlink(o->sub, "f"), LFS_ERR_NOKEY);
    assert_int_equal(node_rmdir(o->top, "sub"), LFS_ERR_NOKEY);
    assert_int_equal(node_rename(o->sub, "f", o->sub, "g", 0), LFS_ERR_NOKEY);
    assert_int_equal(node_readlink(o->link, buf), LFS_ERR_NOKEY);
    assert_int_equal(node_getattr(o->file, &st), LFS_ERR_NOKEY);
    assert_int_equal(node_getattr(o->sub, &st), LFS_ERR_NOKEY);
    assert_int_equal(node_setattr(o->file, &st, SET_MODE, &st), LFS_ERR_NOKEY);
    assert_int_equal(node_getxattr(o->file, "user.x", buf, 10), LFS_ERR_NOKEY);
    assert_int_equal(file_open(o->file, false), LFS_ERR_NOKEY);
    assert_int_equal(file_read(o->file, buf, 10, 0), LFS_ERR_NOKEY);
    assert_int_equal(file_write(o->file, buf, 10, 0), LFS_ERR_NOKEY);
    assert_int_equal(file_append(o->file, buf, 10), LFS_ERR_NOKEY);
    assert_int_equal(file_truncate(o->file, 0), LFS_ERR_NOKEY);
    assert_int_equal(file_fallocate(o->file, 0, 0, 10), LFS_ERR_NOKEY);
    assert_int_equal(file_seek(o->file, 0, SEEK_DATA), LFS_ERR_NOKEY);
    assert_int_equal(file_fsync(o->file, false), LFS_ERR_NOKEY);
    assert_int_equal(dir_fsync(o->sub), LFS_ERR_NOKEY);
}

static void test_lock_and_unlock(void **state)
{
    struct keyset k = pd_keyset(), k2 = pd_keyset();
    struct open_things o = open_all(&k);
    struct node *g = make_file(root(), "g", "outside"), *b = make_top(root(), "b", &k2);
    struct node *h = make_file(b, "h", "beside"), *n;
    struct stat st;
    struct statvfs vfs;
    char target[SYMLINK_PLAIN_MAX + 1];
    assert_int_equal(volume_pd_lock_begin(v, k.pd_id), 0);
    assert_int_equal(node_lookup(o.sub, "f", &st, &n), LFS_ERR_NOKEY);
    assert_int_equal(file_write(o.file, "INSIDE", 6, 0), 6); /* a dirty page, late */
    assert_int_equal(volume_pd_lock_finish(v, k.pd_id), 0);
    check_locked(&o);
    assert_true(holds(g, "outside") && holds(h, "beside"));
    assert_int_equal(volume_statfs(v, &vfs), 0);
    assert_int_equal(volume_checkpoint(v), 0);
    unlock_pd(&k);
    assert_true(holds(o.file, "INSIDE"));
    assert_int_equal(node_readlink(o.link, target), 0);
    assert_string_equal(target, "target");
    close_all(&o);
    node_unref(h, 1);
    node_unref(b, 1);
    node_unref(g, 1);
}

/* Looked at from a fresh start, when nothing of it was ever loaded. */
static void test_locked_from_the_start(void **state)
{
    struct keyset k = pd_keyset();
    struct node *a = make_top(root(), "a", &k), *n;
    struct stat st;
    struct dir_stream *s;
    node_unref(make_file(a, "f", "x"), 1);
    node_unref(a, 1);
    reopen_volume();
    a = must_walk("a");
    assert_true(is_in(a, &k) && is_top(a));
    assert_int_equal(node_getattr(a, &st), 0);
    assert_int_equal(node_lookup(a, "f", &st, &n), LFS_ERR_NOKEY);
    assert_int_equal(dir_open(a, &s), LFS_ERR_NOKEY);
    assert_int_equal(node_rmdir(root(), "a"), -ENOTEMPTY);
    unlock_pd(&k);
    assert_int_equal(node_lookup(a, "f", &st, &n), 0);
    assert_true(holds(n, "x"));
    node_unref(n, 1);
    node_unref(a, 1);
}

/* What is pending goes in place when it is locked, and a lock that fails to do so leaves it to later. */
static void test_entries_outlive_the_keys(void **state)
{
    static uint8_t page[PAGE_BYTES], back[PAGE_BYTES];
    struct keyset k = pd_keyset();
    struct node *a = make_top(root(), "a", &k), *f = make_file(a, "f", "");
    struct rlimit was, low;
    struct volume_stats st;
    memset(page, 'p', sizeof page);
    assert_int_equal(file_truncate(f, 24u << 20), 0);
    assert_int_equal(file_fsync(f, false), 0);
    assert_int_equal(file_write(f, page, sizeof page, 20u << 20), sizeof page);
    getrlimit(RLIMIT_FSIZE, &was);
    low = (struct rlimit){16u << 20, was.rlim_max}; /* beyond the journal, before the page */
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &low);
    assert_int_equal(volume_pd_lock_begin(v, k.pd_id), 0);
    assert_int_equal(volume_pd_lock_finish(v, k.pd_id), -EFBIG);
    setrlimit(RLIMIT_FSIZE, &was);
    assert_int_equal(file_read(f, back, sizeof back, 20u << 20), LFS_ERR_NOKEY);
    volume_stats(v, &st);
    assert_true(st.journal_used > 0);
    unlock_pd(&k);
    assert_int_equal(file_read(f, back, sizeof back, 20u << 20), sizeof back);
    assert_memory_equal(back, page, sizeof page);
    lock_pd(&k); /* which puts it in place */
    assert_int_equal(file_read(f, back, sizeof back, 20u << 20), LFS_ERR_NOKEY);
    volume_stats(v, &st);
    assert_int_equal(st.journal_used, 0);
    unlock_pd(&k);
    assert_int_equal(file_read(f, back, sizeof back, 20u << 20), sizeof back);
    assert_memory_equal(back, page, sizeof page);
    node_unref(f, 1);
    node_unref(a, 1);
}

/* The same, but the checkpoint comes while it is locked. */
static void test_checkpoint_while_locked(void **state)
{
    static uint8_t page[PAGE_BYTES], back[PAGE_BYTES];
    struct keyset k = pd_keyset();
    struct node *a = make_top(root(), "a", &k), *f = make_file(a, "f", "");
    struct rlimit was, low;
    struct volume_stats st;
    memset(page, 'q', sizeof page);
    assert_int_equal(file_truncate(f, 24u << 20), 0);
    assert_int_equal(file_fsync(f, false), 0);
    assert_int_equal(file_write(f, page, sizeof page, 20u << 20), sizeof page);
    getrlimit(RLIMIT_FSIZE, &was);
    low = (struct rlimit){16u << 20, was.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &low);
    assert_int_equal(volume_pd_lock_begin(v, k.pd_id), 0);
    assert_int_equal(volume_pd_lock_finish(v, k.pd_id), -EFBIG);
    setrlimit(RLIMIT_FSIZE, &was);
    node_unref(f, 1);
    node_unref(a, 1);
    assert_int_equal(volume_checkpoint(v), 0);
    volume_stats(v, &st);
    assert_int_equal(st.journal_used, 0);
    reopen_volume();
    unlock_pd(&k);
    f = must_walk("a/f");
    assert_int_equal(file_read(f, back, sizeof back, 20u << 20), sizeof back);
    assert_memory_equal(back, page, sizeof page);
    node_unref(f, 1);
}

/* They go in place before the file replaces another, whether it was read since the unlock or not. */
static void test_entries_before_a_rename(void **state)
{
    static uint8_t page[PAGE_BYTES];
    struct keyset k = pd_keyset();
    struct node *a = make_top(root(), "a", &k), *n = make_file(a, "f", "");
    struct rlimit was, low;
    struct file *f;
    node_unref(make_file(a, "g", "old"), 1);
    memset(page, 'r', sizeof page);
    assert_int_equal(file_truncate(n, 24u << 20), 0);
    assert_int_equal(file_fsync(n, false), 0);
    assert_int_equal(file_write(n, page, sizeof page, 20u << 20), sizeof page);
    getrlimit(RLIMIT_FSIZE, &was);
    low = (struct rlimit){16u << 20, was.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &low);
    assert_int_equal(volume_pd_lock_begin(v, k.pd_id), 0);
    assert_int_equal(volume_pd_lock_finish(v, k.pd_id), -EFBIG);
    setrlimit(RLIMIT_FSIZE, &was);
    unlock_pd(&k);
    assert_int_equal(file_get(n, &f), 0);
    assert_true(f->first_seq && !f->loaded);
    assert_int_equal(node_rename(a, "f", a, "g", 0), 0);
    assert_true(!f->first_seq && overlay_is_empty(&f->ov));
    file_put(f);
    node_unref(n, 1);
    node_unref(a, 1);
}

/* ---- keys change ---- */

static void test_newer_keys(void **state)
{
    struct keyset k = pd_keyset(), first = k, other = k;
    struct node *a = make_top(root(), "a", &k), *f = make_file(a, "f", "old");
    add_version(&k);
    unlock_pd(&k);
    struct node *g = make_file(a, "g", "new");
    assert_int_equal(header_of(f).key_version, 1);
    assert_int_equal(header_of(g).key_version, 2);
    assert_int_equal(volume_pd_unlock(v, &first), LFS_ERR_ROLLBACK);
    other.active = 2;
    other.name_key[0] ^= 1;
    assert_int_equal(volume_pd_unlock(v, &other), LFS_ERR_MISUSE);
    assert_true(holds(f, "old") && holds(g, "new"));
    assert_int_equal(file_open(f, false), 0);
    lock_pd(&k);
    k.least = 2;
    unlock_pd(&k);
    char buf[8];
    assert_int_equal(file_read(f, buf, sizeof buf, 0), LFS_ERR_ROLLBACK); /* its keys were wiped */
    assert_true(holds(g, "new"));
    file_close(f);
    node_unref(g, 1);
    node_unref(f, 1);
    node_unref(a, 1);
}

static void read_least(const struct pd_status *st, void *arg)
{
    if (memcmp(st->id, plain_keys.pd_id, ID_BYTES) != 0)
        *(uint32_t *)arg = st->least;
}

static uint32_t least_now(void)
{
    uint32_t least = 0;
    volume_pd_each(v, read_least, &least);
    return least;
}

/* Another top of a directory whose keys are there brings none, so no older ones. */
static void test_protect_keeps_newer_keys(void **state)
{
    struct keyset k = pd_keyset(), wrong;
    add_version(&k);
    struct keyset before = k;
    struct node *a = make_top(root(), "a", &k), *b = make_dir(root(), "b"), *c = make_dir(root(), "c");
    k.least = 2;
    unlock_pd(&k);
    assert_int_equal(node_protect(b, &before), 0);
    assert_int_equal(least_now(), 2);
    wrong = k;
    wrong.name_key[0] ^= 1;
    assert_int_equal(node_protect(c, &wrong), LFS_ERR_MISUSE);
    unlock_pd(&before); /* on purpose */
    assert_int_equal(least_now(), 1);
    add_version(&k);
    assert_int_equal(node_protect(c, &k), 0);
    assert_int_equal(least_now(), 2);
    node_unref(c, 1);
    node_unref(b, 1);
    node_unref(a, 1);
}

static void test_newer_keys_of_the_root(void **state)
{
    struct keyset k = plain_keys;
    add_version(&k);
    unlock_pd(&k);
    struct node *f = make_file(root(), "f", "x");
    assert_int_equal(header_of(f).key_version, 2);
    node_unref(f, 1);
    plain_keys = k;
    assert_int_equal(volume_pd_lock_begin(v, k.pd_id), LFS_ERR_MISUSE);
    assert_int_equal(volume_pd_lock_finish(v, k.pd_id), LFS_ERR_MISUSE);
}

static void test_whole_lock_takes_all(void **state)
{
    struct keyset k = pd_keyset();
    struct node *a = make_top(root(), "a", &k), *f = make_file(a, "f", "x");
    struct stat st;
    assert_int_equal(volume_lock_begin(v), 0);
    assert_int_equal(volume_pd_unlock(v, &k), LFS_ERR_NOKEY);
    assert_int_equal(volume_lock_finish(v), 0);
    assert_int_equal(volume_pd_unlock(v, &k), LFS_ERR_NOKEY);
    assert_true(is_in(f, &k) && is_top(a));
    assert_int_equal(volume_unlock(v, &plain_keys), 0);
    assert_int_equal(node_getattr(a, &st), 0);
    assert_int_equal(node_getattr(f, &st), LFS_ERR_NOKEY);
    unlock_pd(&k);
    assert_true(holds(f, "x"));
    node_unref(f, 1);
    node_unref(a, 1);
}

/* ---- what is known about them ---- */

struct seen {
    unsigned count, locked;
    struct pd_status last;
};

static void see(const struct pd_status *st, void *arg)
{
    struct seen *s = arg;
    s->count++;
    s->locked += st->locked;
    if (memcmp(st->id, plain_keys.pd_id, ID_BYTES) != 0)
        s->last = *st;
}

static void count_node(struct node *n, void *arg)
{
    ++*(unsigned *)arg;
}

static void test_status(void **state)
{
    struct keyset k = pd_keyset();
    struct seen s = {0};
    unsigned nodes = 0;
    volume_pd_each(v, see, &s);
    assert_int_equal(s.count, 1);
    struct open_things o = open_all(&k);
    node_unref(make_file(root(), "g", "x"), 1);
    s = (struct seen){0};
    volume_pd_each(v, see, &s);
    assert_int_equal(s.count, 2);
    assert_int_equal(s.locked, 0);
    assert_memory_equal(s.last.id, k.pd_id, ID_BYTES);
    assert_int_equal(s.last.active, 1);
    assert_true(s.last.last_use > 0 && s.last.last_use <= (uint64_t)time(NULL));
    volume_pd_each_node(v, k.pd_id, count_node, &nodes);
    assert_int_equal(nodes, 4); /* a, sub, f, l */
    lock_pd(&k);
    nodes = 0;
    volume_pd_each_node(v, k.pd_id, count_node, &nodes);
    assert_int_equal(nodes, 4);
    s = (struct seen){0};
    volume_pd_each(v, see, &s);
    assert_int_equal(s.locked, 1);
    assert_true(s.last.locked && s.last.active == 0);
    close_all(&o);
}

static void test_table_is_bounded(void **state)
{
    struct keyset k;
    int r = 0;
    unsigned count = 0;
    while (!r && count < 300) {
        k = pd_keyset();
        r = volume_pd_unlock(v, &k);
        count += !r;
    }
    assert_int_equal(r, -ENOMEM);
    assert_int_equal(count, 255);
}

#define PD_TEST(t) cmocka_unit_test_setup_teardown(t, volume_setup, volume_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PD_TEST(test_protect),
        PD_TEST(test_protect_refuses),
        PD_TEST(test_protect_keeps_attributes),
        PD_TEST(test_lock_and_unlock),
        PD_TEST(test_locked_from_the_start),
        PD_TEST(test_entries_outlive_the_keys),
        PD_TEST(test_checkpoint_while_locked),
        PD_TEST(test_entries_before_a_rename),
        PD_TEST(test_newer_keys),
        PD_TEST(test_protect_keeps_newer_keys),
        PD_TEST(test_newer_keys_of_the_root),
        PD_TEST(test_whole_lock_takes_all),
        PD_TEST(test_status),
        PD_TEST(test_table_is_bounded),
    };
    umask(022);
    return cmocka_run_group_tests_name("store_pd", tests, NULL, NULL);
}
