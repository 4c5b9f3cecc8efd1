/* Protected directories under pressure: cuts at every step of making one, and threads. */
#include "pd_fixture.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

static struct node *root(void)
{
    return volume_root(v);
}

/* ---- node_protect, cut at every system call that changes something ---- */

static long calls_left = -1; /* before the process ends; -1: it goes on */

static void cut_here(void)
{
    if (calls_left >= 0 && calls_left-- == 0)
        _exit(42);
}

int renameat(int olddir, const char *old, int newdir, const char *new)
{
    cut_here();
    return (int)syscall(SYS_renameat2, olddir, old, newdir, new, 0);
}

int unlinkat(int dir, const char *path, int flags)
{
    cut_here();
    return (int)syscall(SYS_unlinkat, dir, path, flags);
}

ssize_t pwrite(int fd, const void *buf, size_t len, off_t at)
{
    cut_here();
    return syscall(SYS_pwrite64, fd, buf, len, at);
}

int fsync(int fd)
{
    cut_here();
    return (int)syscall(SYS_fsync, fd);
}

static __thread bool hold_set; /* this thread's next fsetxattr waits until it is released */
static atomic_bool holding, released;

int fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)
{
    cut_here();
    if (hold_set) {
        hold_set = false;
        holding = true;
        while (!released)
            sched_yield();
    }
    return (int)syscall(SYS_fsetxattr, fd, name, value, size, flags);
}

int fremovexattr(int fd, const char *name)
{
    cut_here();
    return (int)syscall(SYS_fremovexattr, fd, name);
}

/* True if the process came to its end. */
static bool protect_cut(const struct keyset *k, long calls)
{
    int status;
    assert_int_equal(volume_close(v), 0);
    v = NULL;
    pid_t child = fork();
    if (child == 0) {
        open_volume();
        struct node *a = must_walk("a");
        calls_left = calls;
        int r = node_protect(a, k);
        calls_left = -1;
        _exit(r ? 1 : 0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 42));
    open_volume();
    return WEXITSTATUS(status) == 0;
}

static void test_protect_is_cut(void **state)
{
    bool done = false, old = false, new = false;
    for (long calls = 0; !done; calls++) {
        struct keyset k = pd_keyset();
        char value[8];
        struct node *a = make_dir(root(), "a");
        assert_int_equal(node_setxattr(a, "user.x", "value", 5, 0), 0);
        node_unref(a, 1);
        done = protect_cut(&k, calls);
        unlock_pd(&k);
        a = must_walk("a");
        if (is_in(a, &k))
            new = true;
        else
            old = true;
        assert_true(!done || is_in(a, &k));
        assert_int_equal(node_getxattr(a, "user.x", value, sizeof value), 5);
        struct node *f = make_file(a, "f", "usable");
        assert_true(holds(f, "usable") && is_in(f, &k) == is_in(a, &k));
        assert_int_equal(node_unlink(a, "f"), 0);
        node_unref(f, 1);
        if (!is_in(a, &k)) /* and can be done again */
            assert_int_equal(node_protect(a, &k), 0);
        node_unref(a, 1);
        assert_int_equal(node_rmdir(root(), "a"), 0);
    }
    assert_true(old && new);
}

/* ---- threads ---- */

#define WORKERS 4

static struct keyset thread_keys[2];
static atomic_bool stop;
static _Atomic unsigned served[2], refused[2];

/* Works in one directory; what is not refused for want of a key must be right. */
static void work_once(struct node *dir, int pd, int me, unsigned round)
{
    char name[32], text[64], back[64] = "";
    struct node *f;
    struct stat st;
    snprintf(name, sizeof name, "f%d.%u", me, round % 5);
    snprintf(text, sizeof text, "%d in round %08u", me, round);
    int r = node_create(dir, name, 0644, false, &st, &f);
    if (!r) {
        ssize_t n = file_write(f, text, strlen(text), 0);
        ssize_t m = n < 0 ? n : file_read(f, back, sizeof back - 1, 0);
        if (m >= 0)
            assert_string_equal(back, text);
        r = m < 0 ? (int)m : 0;
        node_unref(f, 1);
    }
    if (!r && round % 7 == 0)
        r = node_unlink(dir, name);
    assert_true(r == 0 || r == LFS_ERR_NOKEY);
    if (r)
        refused[pd]++;
    else
        served[pd]++;
}

static void *worker(void *arg)
{
    int me = (int)(intptr_t)arg;
    for (unsigned round = 1; !stop; round++) {
        struct node *dir;
        int pd = me % 2;
        assert_int_equal(walk(pd ? "a" : "b", &dir), 0);
        work_once(dir, pd, me, round);
        node_unref(dir, 1);
        if (round % 500 == 0)
            volume_checkpoint(v);
    }
    volume_wipe_thread();
    return NULL;
}

/* Locking one over and over, and giving newer keys to it and to the other, disturbs only its own workers. */
static void test_threads(void **state)
{
    pthread_t t[WORKERS];
    for (int i = 0; i < 2; i++)
        thread_keys[i] = pd_keyset();
    node_unref(make_top(root(), "a", &thread_keys[1]), 1);
    node_unref(make_top(root(), "b", &thread_keys[0]), 1);
    for (intptr_t i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, worker, (void *)i), 0);
    for (int i = 0; i < 10 || !served[0] || !served[1] || !refused[1]; i++) {
        lock_pd(&thread_keys[1]);
        unsigned before = refused[1];
        while (refused[1] == before && i % 5 == 0)
            sched_yield();
        if (i % 4 == 0 && i < 40) {
            add_version(&thread_keys[1]);
            add_version(&thread_keys[0]);
            unlock_pd(&thread_keys[0]);
        }
        unlock_pd(&thread_keys[1]);
        before = served[1];
        while (served[1] == before)
            sched_yield();
        unlock_pd(&thread_keys[1]);
    }
    stop = true;
    for (int i = 0; i < WORKERS; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(refused[0], 0);
    struct volume_stats st;
    volume_stats(v, &st);
    assert_int_equal(st.auth_failures, 0);
}

/* ---- who takes keys away waits for the calls under way, and for nothing else ---- */

static __thread bool hold_me; /* this thread's next fgetxattr waits until it is released */

ssize_t fgetxattr(int fd, const char *name, void *value, size_t size)
{
    if (hold_me) {
        hold_me = false;
        holding = true;
        while (!released)
            sched_yield();
    }
    return syscall(SYS_fgetxattr, fd, name, value, size);
}

static void *held_call(void *arg)
{
    char value[8];
    hold_me = true;
    ssize_t n = node_getxattr(arg, "user.x", value, sizeof value);
    return (void *)(intptr_t)(n == 5 && memcmp(value, "value", 5) == 0);
}

/* True if the call under way was released before this came to its end. */
static void *lock_it(void *arg)
{
    const struct keyset *k = arg;
    int r = volume_pd_lock_begin(v, k->pd_id);
    if (!r)
        r = volume_pd_lock_finish(v, k->pd_id);
    return (void *)(intptr_t)(r == 0 && released);
}

static void *replace_it(void *arg)
{
    struct keyset *k = arg;
    add_version(k);
    int r = volume_pd_unlock(v, k);
    return (void *)(intptr_t)(r == 0 && released);
}

static void work_beside(void)
{
    struct node *f;
    struct stat st;
    for (int i = 0; i < 20; i++) {
        assert_int_equal(node_create(root(), "beside", 0644, false, &st, &f), 0);
        assert_int_equal(file_write(f, "x", 1, 0), 1);
        node_unref(f, 1);
        usleep(5000); /* time for one that does not wait to end too early */
    }
}

static void check_waits(struct keyset *k, struct node *a, void *(*take)(void *arg))
{
    pthread_t call, taker;
    void *ok;
    holding = released = false;
    assert_int_equal(pthread_create(&call, NULL, held_call, a), 0);
    while (!holding)
        sched_yield();
    assert_int_equal(pthread_create(&taker, NULL, take, k), 0);
    work_beside();
    released = true;
    pthread_join(taker, &ok);
    assert_non_null(ok);
    pthread_join(call, &ok);
    assert_non_null(ok);
}

static void test_keys_wait_for_calls(void **state)
{
    struct keyset k = pd_keyset();
    struct node *a = make_top(root(), "a", &k);
    assert_int_equal(node_setxattr(a, "user.x", "value", 5, 0), 0);
    check_waits(&k, a, replace_it);
    check_waits(&k, a, lock_it);
    node_unref(a, 1);
}

static void *put_files(void *arg)
{
    struct node *dir = arg, *f;
    struct stat st;
    for (int i = 0; i < 200 && !stop; i++) {
        int r = node_create(dir, "f", 0644, true, &st, &f);
        assert_true(r == 0 || r == -EEXIST || r == -ESTALE);
        if (r == 0)
            node_unref(f, 1);
        node_unlink(dir, "f");
    }
    return NULL;
}

/* A directory is protected while others put files into it: none is left that nobody can name. */
static void test_protect_against_creators(void **state)
{
    char name[16];
    for (int i = 0; i < 30; i++) {
        struct keyset k = pd_keyset();
        pthread_t t;
        snprintf(name, sizeof name, "d%d", i);
        struct node *d = make_dir(root(), name);
        stop = false;
        assert_int_equal(pthread_create(&t, NULL, put_files, d), 0);
        int r;
        do
            r = node_protect(d, &k);
        while (r == -ENOTEMPTY);
        assert_int_equal(r, 0);
        stop = true;
        pthread_join(t, NULL);
        node_unlink(d, "f");
        assert_int_equal(node_rmdir(root(), name), 0); /* -ENOTEMPTY: something is left */
        node_unref(d, 1);
    }
    stop = false;
}

static void *held_set(void *arg)
{
    hold_set = true;
    return (void *)(intptr_t)(node_setxattr(arg, "user.x", "value", 5, 0) == 0);
}

static struct keyset protect_keys;

static void *protect_it(void *arg)
{
    return (void *)(intptr_t)(node_protect(arg, &protect_keys) == 0);
}

/* An attribute that is being set while its directory is protected is there afterwards. */
static void test_protect_against_attributes(void **state)
{
    pthread_t setter, protector;
    char value[8];
    void *ok;
    struct volume_stats st;
    struct node *a = make_dir(root(), "a");
    protect_keys = pd_keyset();
    holding = released = false;
    assert_int_equal(pthread_create(&setter, NULL, held_set, a), 0);
    while (!holding)
        sched_yield();
    assert_int_equal(pthread_create(&protector, NULL, protect_it, a), 0);
    work_beside(); /* time for one that does not wait */
    released = true;
    pthread_join(setter, &ok);
    assert_non_null(ok);
    pthread_join(protector, &ok);
    assert_non_null(ok);
    assert_true(is_in(a, &protect_keys));
    assert_int_equal(node_getxattr(a, "user.x", value, sizeof value), 5);
    assert_memory_equal(value, "value", 5);
    volume_stats(v, &st);
    assert_int_equal(st.auth_failures, 0);
    node_unref(a, 1);
}

#define PD_TEST(t) cmocka_unit_test_setup_teardown(t, volume_setup, volume_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PD_TEST(test_protect_is_cut),
        PD_TEST(test_threads),
        PD_TEST(test_keys_wait_for_calls),
        PD_TEST(test_protect_against_creators),
        PD_TEST(test_protect_against_attributes),
    };
    umask(022);
    return cmocka_run_group_tests_name("store_pd_threads", tests, NULL, NULL);
}
