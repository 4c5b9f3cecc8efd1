/* Seeded random operations on a volume with several protected directories and a plain directory side by side,
 * and several threads at once on one volume. A seed on the command line runs that one. */
#include "tree_mirror.h"

#include <pthread.h>

#define STEPS 600
#define SEEDS 4

static uint64_t only_seed;

/* Few names, so that operations meet; some of them long. */
static void random_path(struct rng *r, char path[static MIRROR_PATH_MAX])
{
    unsigned depth = (unsigned)rng_below(r, 3) + 1;
    size_t at = 0;
    for (unsigned i = 0; i < depth; i++) {
        unsigned k = (unsigned)rng_below(r, 5);
        size_t len = k == 4 ? 230 : 1;
        if (i)
            path[at++] = '/';
        memset(path + at, (int)('a' + k), len);
        at += len;
    }
    path[at] = '\0';
}

static void random_text(struct rng *r, char *text, size_t max)
{
    size_t len = rng_below(r, max) + 1;
    for (size_t i = 0; i < len; i++)
        text[i] = (char)('a' + rng_below(r, 26));
    text[len] = '\0';
}

static bool is_symlink(const char *path)
{
    struct stat st;
    return fstatat(plain_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode);
}

/* The targets here name nothing, so the plain side never follows a symlink within a path; but a path through
 * one answers ENOENT there and ENOTDIR here. */
static bool through_symlink(const char *path)
{
    char part[MIRROR_PATH_MAX];
    for (const char *p = path; (p = strchr(p, '/')); p++) {
        memcpy(part, path, (size_t)(p - path));
        part[p - path] = '\0';
        if (is_symlink(part))
            return true;
    }
    return false;
}

/* ---- protected directories, which the plain side knows nothing of ---- */

static struct keyset pds[3];
static unsigned protected;

static bool pd_of_parent(const char *path, uint8_t id[static ID_BYTES])
{
    struct node *dir;
    const char *name;
    int r = at_parent(path, &dir, &name);
    if (r)
        return false;
    r = S_ISDIR(node_type(dir)) ? node_pd_id(dir, id, NULL) : -ENOTDIR;
    node_unref(dir, 1);
    return r == 0;
}

static bool crosses(const char *a, const char *b)
{
    uint8_t ids[2][ID_BYTES];
    return pd_of_parent(a, ids[0]) && pd_of_parent(b, ids[1]) && memcmp(ids[0], ids[1], ID_BYTES) != 0;
}

static void rename_step(const char *a, const char *b, unsigned flags)
{
    struct node *from, *to;
    const char *name, *newname;
    if (!crosses(a, b)) {
        both_rename(a, b, flags);
        return;
    }
    assert_int_equal(at_parent(a, &from, &name), 0);
    assert_int_equal(at_parent(b, &to, &newname), 0);
    assert_int_equal(node_rename(from, name, to, newname, flags), -EXDEV);
    node_unref(from, 1);
    node_unref(to, 1);
}

static void link_step(const char *a, const char *b)
{
    struct node *n, *dir, *out;
    const char *name;
    struct stat st;
    if (!crosses(a, b)) {
        both_link(a, b);
        return;
    }
    if (walk(a, &n))
        return;
    assert_int_equal(at_parent(b, &dir, &name), 0);
    assert_int_equal(node_link(n, dir, name, &st, &out), S_ISDIR(node_type(n)) ? -EPERM : -EXDEV);
    node_unref(dir, 1);
    node_unref(n, 1);
}

static void make_pds(void)
{
    for (size_t i = 0; i < COUNT(pds); i++) {
        pds[i] = plain_keys;
        randombytes_buf(pds[i].pd_id, ID_BYTES);
        randombytes_buf(pds[i].name_key, LFS_KEY_BYTES);
        randombytes_buf(pds[i].versions[0].key, LFS_KEY_BYTES);
    }
    protected = 0;
}

static void unlock_pds(void)
{
    for (size_t i = 0; i < COUNT(pds); i++)
        assert_int_equal(volume_pd_unlock(v, &pds[i]), 0);
}

static void protect_step(struct rng *r, const char *path)
{
    struct node *n;
    if (walk(path, &n))
        return;
    int got = node_protect(n, &pds[rng_below(r, COUNT(pds))]);
    assert_true(got == 0 || got == -ENOTEMPTY || got == -ENOTDIR || got == LFS_ERR_MISUSE);
    protected += got == 0;
    node_unref(n, 1);
}

static void lock_step(struct rng *r)
{
    const struct keyset *k = &pds[rng_below(r, COUNT(pds))];
    assert_int_equal(volume_pd_lock_begin(v, k->pd_id), 0);
    assert_int_equal(volume_pd_lock_finish(v, k->pd_id), 0);
    assert_int_equal(volume_pd_unlock(v, k), 0);
}

/* ---- steps ---- */

static void random_step(struct rng *r)
{
    static const unsigned flags[] = {0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE};
    char a[MIRROR_PATH_MAX], b[MIRROR_PATH_MAX], text[4001];
    random_path(r, a);
    random_path(r, b);
    if (through_symlink(a) || through_symlink(b))
        return;
    switch (rng_below(r, 14)) {
    case 0:
    case 1:
        both_mkdir(a, 0755);
        break;
    case 2:
    case 3:
        random_text(r, text, 200);
        both_write(a, text);
        break;
    case 4:
        random_text(r, text, rng_below(r, 4) ? 60 : 4000);
        both_symlink(text, a);
        break;
    case 5:
        if (!is_symlink(a)) /* elsewhere such a link is a symlink of its own */
            link_step(a, b);
        break;
    case 6:
        both_unlink(a);
        break;
    case 7:
        both_rmdir(a);
        break;
    case 8:
        both_mkdir(a, 0755);
        protect_step(r, a);
        break;
    case 9:
        if (rng_below(r, 4) == 0)
            lock_step(r);
        break;
    default:
        rename_step(a, b, flags[rng_below(r, COUNT(flags))]);
    }
}

/* Some nodes are held for a while, as the kernel does. */
static void run_seed(uint64_t seed)
{
    struct rng r = {seed};
    struct node *held[8] = {0};
    char path[MIRROR_PATH_MAX];
    make_pds();
    for (int i = 0; i < STEPS; i++) {
        random_step(&r);
        random_path(&r, path);
        struct node **slot = &held[rng_below(&r, COUNT(held))];
        if (*slot)
            node_unref(*slot, 1);
        *slot = NULL;
        walk(path, slot);
        if (i % 50 == 49)
            compare_dir(volume_root(v), "");
    }
    for (size_t i = 0; i < COUNT(held); i++)
        if (held[i])
            node_unref(held[i], 1);
    compare_all();
    reopen_volume();
    unlock_pds();
    compare_all();
    assert_true(protected > 0);
}

static void test_random(void **state)
{
    char cmd[128];
    for (uint64_t seed = only_seed ? only_seed : 1; seed <= (only_seed ? only_seed : SEEDS); seed++) {
        print_message("seed %llu\n", (unsigned long long)seed);
        run_seed(seed);
        assert_int_equal(volume_close(v), 0);
        v = NULL;
        snprintf(cmd, sizeof cmd, "rm -rf %s", base);
        assert_int_equal(system(cmd), 0);
        keyset_free(keys);
        close(plain_fd);
        mirror_setup(state);
    }
}

/* ---- threads ---- */

#define THREADS 4
#define THREAD_STEPS 400

static struct node *arena[2];

static void thread_step(struct rng *r)
{
    char a[2] = {(char)('a' + rng_below(r, 6)), '\0'}, b[2] = {(char)('a' + rng_below(r, 6)), '\0'};
    struct node *d = arena[rng_below(r, 2)], *e = arena[rng_below(r, 2)], *n = NULL;
    struct dir_stream *s;
    struct dir_entry ent;
    char target[SYMLINK_PLAIN_MAX + 1];
    struct stat st;
    int got = -1;
    switch (rng_below(r, 10)) {
    case 0:
        got = node_create(d, a, 0644, rng_below(r, 2), &st, &n);
        break;
    case 1:
        got = node_mkdir(d, a, 0755, &st, &n);
        break;
    case 2:
        got = node_symlink(d, a, "target", &st, &n);
        break;
    case 3:
        node_unlink(d, a);
        break;
    case 4:
        node_rmdir(d, a);
        break;
    case 5:
    case 6:
        node_rename(d, a, e, b, rng_below(r, 3) ? 0 : RENAME_EXCHANGE);
        break;
    case 7:
        if (dir_open(d, &s) == 0) {
            for (uint64_t cookie = 0; dir_next(s, cookie, &ent) > 0; cookie = ent.cookie)
                ;
            dir_close(s);
        }
        break;
    default:
        got = node_lookup(d, a, &st, &n);
        struct node *linked;
        if (!got && rng_below(r, 2) && !S_ISDIR(st.st_mode) && !node_link(n, e, b, &st, &linked))
            node_unref(linked, 1);
    }
    if (got)
        return;
    node_getattr(n, &st);
    if (S_ISREG(node_type(n)))
        file_write(n, "text", 4, rng_below(r, 100));
    else if (S_ISLNK(node_type(n)) && node_readlink(n, target) == 0)
        assert_string_equal(target, "target");
    node_unref(n, 1);
}

static void *thread_run(void *arg)
{
    struct rng r = {(uintptr_t)arg};
    for (int i = 0; i < THREAD_STEPS; i++)
        thread_step(&r);
    return NULL;
}

static void test_threads(void **state)
{
    pthread_t t[THREADS];
    arena[0] = make_dir(volume_root(v), "x");
    arena[1] = make_dir(volume_root(v), "y");
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, thread_run, (void *)(i + 1)), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    struct volume_stats s;
    assert_int_equal(volume_checkpoint(v), 0);
    volume_stats(v, &s);
    assert_int_equal(s.auth_failures, 0);
    assert_int_equal(s.pinned_fds, 0);
    assert_int_equal(s.nodes, 3); /* the root and the two */
    node_unref(arena[0], 1);
    node_unref(arena[1], 1);
    /* What is there is whole. */
    reopen_volume();
    for (int i = 0; i < 2; i++) {
        struct node *d = must_walk(i ? "y" : "x"), *n;
        char name[2] = "a", target[SYMLINK_PLAIN_MAX + 1];
        struct stat st;
        for (; name[0] < 'g'; name[0]++) {
            int r = node_lookup(d, name, &st, &n);
            if (r == -ENOENT)
                continue;
            assert_int_equal(r, 0);
            if (S_ISLNK(st.st_mode))
                assert_int_equal(node_readlink(n, target), 0);
            else if (S_ISDIR(st.st_mode))
                assert_true(entries_of(n) >= 2);
            else
                assert_true(file_read(n, target, 8, 0) >= 0);
            node_unref(n, 1);
        }
        node_unref(d, 1);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_random, mirror_setup, mirror_teardown),
        cmocka_unit_test_setup_teardown(test_threads, mirror_setup, mirror_teardown),
    };
    umask(022);
    only_seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
    return cmocka_run_group_tests_name("store_random", tests, NULL, NULL);
}
