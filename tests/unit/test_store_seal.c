/* The life of a seal: made after idleness, at close and on request, opened by the first change, kept by a
 * rewrap, and always right for what lies in place. */
#include "seal_fixture.h"

#include <limits.h>
#include <pthread.h>

/* ---- making ---- */

static void test_close_seals(void **state)
{
    static const size_t sizes[] = {1,
                                   INLINE_MAX,
                                   INLINE_MAX + 1,
                                   PAGE_BYTES,
                                   112 * PAGE_BYTES,
                                   112 * PAGE_BYTES + 1,
                                   SEVERAL_GROUPS,
                                   MANY_GROUPS + 77};
    char name[16];
    for (size_t i = 0; i < COUNT(sizes); i++) {
        snprintf(name, sizeof name, "f%zu", i);
        node_unref(big_file(name, sizes[i], i), 1);
    }
    reopen_volume();
    for (size_t i = 0; i < COUNT(sizes); i++) {
        snprintf(name, sizeof name, "f%zu", i);
        struct node *n = must_walk(name);
        bool sealed = false;
        assert_int_equal(placed_sealed(n), sizes[i] > INLINE_MAX);
        assert_int_equal(file_verify_seal(n, &sealed), 0);
        assert_int_equal(sealed, sizes[i] > INLINE_MAX);
        assert_true(reads_as(n, sizes[i], i));
        assert_int_equal(placed_header(n).seal_generation, sealed);
        node_unref(n, 1);
    }
    assert_int_equal(stats().auth_failures, 0);
}

/* Waits until the flusher has made so many seals and has put them in place. */
static void wait_for_seals(uint64_t seals)
{
    for (int i = 0; i < 600 && (stats().seals < seals || stats().journal_used); i++)
        usleep(100000);
    assert_int_equal(stats().seals, seals);
    assert_int_equal(stats().journal_used, 0);
}

static void test_idle(void **state)
{
    assert_int_equal(volume_close(v), 0);
    open_sealing(1, true);
    struct node *n = big_file("idle", SEVERAL_GROUPS, 1), *m = big_file("other", 5000, 2);
    wait_for_seals(2);
    assert_int_equal(stats().seals_waiting, 0);
    assert_true(placed_sealed(n) && placed_sealed(m));
    assert_int_equal(file_write(n, "x", 1, 9), 1);
    wait_for_seals(3);
    assert_true(placed_sealed(n));
    assert_int_equal(placed_header(n).seal_generation, 2);
    assert_int_equal(placed_header(m).seal_generation, 1);
    node_unref(n, 1);
    node_unref(m, 1);
}

static void test_never(void **state)
{
    assert_int_equal(volume_close(v), 0);
    open_sealing(UINT_MAX, false);
    struct node *n = big_file("never", 5000, 1);
    seal_all();
    assert_int_equal(stats().seals + stats().seals_waiting, 0);
    assert_false(placed_sealed(n));
    node_unref(n, 1);
}

static void test_many(void **state)
{
    char name[16];
    for (unsigned i = 0; i < 1500; i++) {
        snprintf(name, sizeof name, "m%u", i);
        node_unref(big_file(name, 3600 + i, i), 1);
    }
    assert_int_equal(volume_checkpoint(v), 0);
    assert_int_equal(stats().seals_waiting, 1500);
    reopen_volume();
    for (unsigned i = 0; i < 1500; i++) {
        snprintf(name, sizeof name, "m%u", i);
        struct node *n = must_walk(name);
        assert_true(placed_sealed(n));
        assert_true(i % 100 || reads_as(n, 3600 + i, i));
        node_unref(n, 1);
    }
}

/* What is removed does not wait, so that its space comes back. */
static void test_removed(void **state)
{
    struct node *n = big_file("gone", SEVERAL_GROUPS, 1);
    assert_int_equal(volume_checkpoint(v), 0);
    node_unref(n, 1);
    uint64_t nodes = stats().nodes;
    assert_int_equal(stats().seals_waiting, 1);
    assert_int_equal(node_unlink(volume_root(v), "gone"), 0);
    assert_int_equal(stats().seals_waiting, 0);
    assert_int_equal(stats().nodes, nodes - 1);
}

/* A file that an earlier life left open waits once it is loaded. */
static void test_left_open(void **state)
{
    assert_int_equal(volume_close(v), 0);
    open_sealing(UINT_MAX, false);
    node_unref(big_file("left", SEVERAL_GROUPS, 1), 1);
    reopen_volume();
    struct node *n = must_walk("left");
    assert_int_equal(stats().seals_waiting, 0);
    assert_int_equal(file_open(n, false), 0);
    file_close(n);
    assert_int_equal(stats().seals_waiting, 1);
    seal_all();
    assert_true(placed_sealed(n));
    node_unref(n, 1);
}

/* Locking seals what it can. */
static void test_lock(void **state)
{
    struct keyset other = pd_keyset();
    struct node *n = big_file("n", 9000, 1), *top = make_top(volume_root(v), "top", &other);
    struct node *m = make_file(top, "m", "");
    uint8_t buf[9000] = {1};
    assert_int_equal(file_write(m, buf, sizeof buf, 0), sizeof buf);
    lock_pd(&other);
    int fd = backing(m, O_RDONLY);
    uint8_t image[HEADER_BYTES];
    struct file_header h;
    assert_int_equal(pread(fd, image, sizeof image, 0), sizeof image);
    assert_int_equal(header_decode(image, &h), 0);
    assert_int_equal(h.seal_state, SEAL_SEALED);
    close(fd);
    assert_false(placed_sealed(n));
    assert_int_equal(volume_lock_begin(v), 0);
    assert_int_equal(volume_lock_finish(v), 0);
    assert_true(placed_sealed(n));
    assert_int_equal(volume_unlock(v, &plain_keys), 0);
    assert_true(reads_as(n, 9000, 1));
    node_unref(n, 1);
    node_unref(m, 1);
    node_unref(top, 1);
}

/* ---- opening ---- */

struct change {
    int (*run)(struct node *n);
    bool inlined; /* the file is not paged afterwards */
};

static int overwrite(struct node *n)
{
    return file_write(n, "new", 3, 5000) == 3 ? 0 : -1;
}

static int append_small(struct node *n)
{
    return file_append(n, "more", 4) == 4 ? 0 : -1;
}

static int append_large(struct node *n)
{
    static uint8_t buf[3u << 20];
    return file_append(n, buf, sizeof buf) == sizeof buf ? 0 : -1;
}

static int shrink(struct node *n)
{
    return file_truncate(n, SEVERAL_GROUPS - GROUP);
}

static int grow(struct node *n)
{
    return file_truncate(n, 5 * GROUP);
}

static int empty(struct node *n)
{
    return file_truncate(n, 0);
}

static int punch(struct node *n)
{
    return file_fallocate(n, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGE_BYTES, 8 * PAGE_BYTES);
}

static int punch_group(struct node *n)
{
    return file_fallocate(n, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, SEVERAL_GROUPS);
}

static const struct change changes[] = {{overwrite}, {append_small}, {append_large}, {shrink},
                                        {grow},      {empty, true},  {punch},        {punch_group}};

static void test_changes(void **state)
{
    for (size_t i = 0; i < COUNT(changes); i++) {
        char name[16];
        bool sealed = true;
        snprintf(name, sizeof name, "c%zu", i);
        struct node *n = big_file(name, SEVERAL_GROUPS, i);
        seal_all();
        assert_true(placed_sealed(n));
        assert_int_equal(changes[i].run(n), 0);
        assert_true(placed_sealed(n)); /* nothing of the change is in place yet */
        assert_int_equal(file_verify_seal(n, &sealed), 0);
        assert_false(sealed);
        assert_int_equal(volume_checkpoint(v), 0);
        assert_int_equal(placed_header(n).seal_state, SEAL_OPEN);
        assert_int_equal(placed_header(n).seal_generation, 1);
        seal_all();
        assert_int_equal(placed_sealed(n), !changes[i].inlined);
        assert_int_equal(placed_header(n).seal_generation, changes[i].inlined ? 1 : 2);
        node_unref(n, 1);
    }
    reopen_volume();
    assert_int_equal(stats().auth_failures, 0);
}

/* Nothing goes in place as fresh before the entry that opens the seal is on disk. */
static void test_fresh_waits(void **state)
{
    static uint8_t buf[64 * PAGE_BYTES];
    struct node *n = big_file("fresh", 50 * PAGE_BYTES, 1);
    struct stat st, after;
    seal_all();
    int fd = backing(n, O_RDONLY);
    uint64_t syncs = stats().journal_syncs;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(file_append(n, buf, sizeof buf), sizeof buf);
    assert_int_equal(fstat(fd, &after), 0);
    assert_int_equal(st.st_size, after.st_size);
    assert_int_equal(stats().journal_syncs, syncs);
    assert_int_equal(file_append(n, buf, PAGE_BYTES), PAGE_BYTES); /* too small for a sync */
    assert_int_equal(stats().journal_syncs, syncs);
    assert_int_equal(file_append(n, buf, sizeof buf), sizeof buf);
    assert_int_equal(fstat(fd, &after), 0);
    assert_true(after.st_size > st.st_size);
    assert_true(stats().journal_syncs > syncs);
    close(fd);
    node_unref(n, 1);
}

/* ---- rotations ---- */

static void reopen_volume_and_nodes(struct node **n, struct node **m)
{
    node_unref(*n, 1);
    node_unref(*m, 1);
    reopen_volume();
    *n = must_walk("kept");
    *m = must_walk("rewritten");
}

static void test_rewrap_keeps(void **state)
{
    struct rotate_progress p;
    struct node *n = big_file("kept", SEVERAL_GROUPS, 1), *m = big_file("rewritten", MANY_GROUPS, 2);
    seal_all();
    next_version();
    assert_int_equal(run(volume_rewrap, &p), 0);
    assert_int_equal(placed_header(n).key_version, 2);
    assert_true(placed_sealed(n) && placed_sealed(m));
    assert_int_equal(placed_header(n).seal_generation, 1);
    next_version();
    assert_int_equal(run(volume_reencrypt, &p), 0);
    assert_int_equal(placed_header(m).seal_state, SEAL_OPEN);
    assert_int_equal(placed_header(m).seal_generation, 1);
    seal_all();
    assert_true(placed_sealed(n) && placed_sealed(m));
    assert_true(reads_as(n, SEVERAL_GROUPS, 1) && reads_as(m, MANY_GROUPS, 2));
    reopen_volume_and_nodes(&n, &m);
    next_version(); /* of files whose seals nobody has asked yet */
    assert_int_equal(run(volume_reencrypt, &p), 0);
    assert_int_equal(p.changed, 2);
    seal_all();
    assert_true(placed_sealed(n) && placed_sealed(m));
    assert_true(reads_as(n, SEVERAL_GROUPS, 1) && reads_as(m, MANY_GROUPS, 2));
    node_unref(n, 1);
    node_unref(m, 1);
}

/* ---- random changes: every seal is right, with the hashes that were kept ---- */

#define RANDOM_MAX (6u << 20)

static void random_change(struct node *n, struct rng *r)
{
    static uint8_t buf[300000];
    uint64_t off = rng_below(r, RANDOM_MAX), len = 1 + rng_below(r, rng_below(r, 2) ? 9000 : sizeof buf);
    switch (rng_below(r, 8)) {
    case 0:
        assert_int_equal(file_truncate(n, rng_below(r, 3) ? off : off / 20), 0);
        break;
    case 1:
        assert_int_equal(file_fallocate(n, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len * 8), 0);
        break;
    case 2:
        assert_int_equal(file_fallocate(n, FALLOC_FL_ZERO_RANGE, off, len), 0);
        break;
    case 3:
        assert_int_equal(file_append(n, buf, len), len);
        break;
    default:
        rng_fill(r, buf, len);
        assert_int_equal(file_write(n, buf, len, off), len);
    }
}

static void random_seed(uint64_t seed)
{
    struct rng r = {seed};
    char name[24];
    snprintf(name, sizeof name, "random%llu", (unsigned long long)seed);
    node_unref(make_file(volume_root(v), name, "begin"), 1);
    for (int life = 0; life < 3; life++) {
        struct node *n = must_walk(name);
        assert_int_equal(file_open(n, true), 0); /* so that hashes are kept */
        for (int i = 0; i < 30; i++) {
            for (uint64_t k = rng_below(&r, 4); k > 0; k--)
                random_change(n, &r);
            if (!rng_below(&r, 3))
                assert_int_equal(volume_checkpoint(v), 0);
            if (rng_below(&r, 3))
                continue;
            bool sealed, paged;
            seal_all();
            paged = placed_header(n).state == FILE_PAGED;
            assert_int_equal(placed_sealed(n), paged);
            assert_int_equal(file_verify_seal(n, &sealed), 0);
            assert_int_equal(sealed, paged);
        }
        file_close(n);
        node_unref(n, 1);
        reopen_volume();
    }
    assert_int_equal(stats().auth_failures, 0);
}

static void test_random(void **state)
{
    for (uint64_t seed = 1; seed <= 8; seed++)
        random_seed(seed);
}

/* ---- lives that end in the middle ---- */

static void die_in(uint64_t seed)
{
    struct rng r = {seed};
    *keys = plain_keys;
    open_volume();
    struct node *n = must_walk("killed");
    for (int i = 0; i < 12; i++) {
        random_change(n, &r);
        if (!rng_below(&r, 4))
            assert_int_equal(volume_checkpoint(v), 0);
        if (!rng_below(&r, 3))
            assert_int_equal(volume_seal_all(v), 0);
    }
    _exit(0);
}

static void test_killed(void **state)
{
    node_unref(big_file("killed", SEVERAL_GROUPS, 1), 1);
    assert_int_equal(volume_close(v), 0);
    for (uint64_t seed = 1; seed <= 25; seed++) {
        struct volume_options ro = {.read_only = true};
        uint8_t byte;
        int status;
        bool sealed;
        pid_t pid = fork();
        if (pid == 0)
            die_in(seed);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        for (int writable = 0; writable < 2; writable++) {
            if (writable)
                open_volume();
            else
                assert_int_equal(volume_open(volume_dir, &plain_keys, &ro, NULL, &v), 0);
            struct node *n = must_walk("killed");
            assert_int_equal(file_open(n, writable), 0);
            assert_true(file_read(n, &byte, 1, 0) >= 0);
            assert_int_equal(file_verify_seal(n, &sealed), 0);
            file_close(n);
            node_unref(n, 1);
            assert_int_equal(volume_close(v), 0);
        }
        open_volume();
        struct node *n = must_walk("killed");
        assert_int_equal(placed_sealed(n), placed_header(n).state == FILE_PAGED);
        node_unref(n, 1);
        assert_int_equal(volume_close(v), 0);
    }
    open_volume();
}

/* ---- threads: changes, checkpoints, seals, checks and removals side by side ---- */

#define WORKERS 3

static atomic_int working;

static void *change_files(void *arg)
{
    struct rng r = {(uintptr_t)arg};
    char name[16];
    for (int i = 0; i < 60; i++) {
        snprintf(name, sizeof name, "t%u", (unsigned)rng_below(&r, 4));
        struct node *n;
        struct stat st;
        if (walk(name, &n) && node_create(volume_root(v), name, 0600, false, &st, &n))
            continue;
        if (file_open(n, true) == 0) {
            static const uint8_t buf[70000];
            bool sealed;
            if (rng_below(&r, 4))
                file_write(n, buf, 1 + rng_below(&r, sizeof buf), rng_below(&r, SEVERAL_GROUPS));
            else
                file_truncate(n, rng_below(&r, SEVERAL_GROUPS));
            assert_int_equal(file_verify_seal(n, &sealed), 0);
            file_close(n);
        }
        if (!rng_below(&r, 10))
            node_unlink(volume_root(v), name);
        node_unref(n, 1);
    }
    atomic_fetch_sub(&working, 1);
    return NULL;
}

static void *seal_them(void *arg)
{
    while (atomic_load(&working)) {
        assert_int_equal(volume_checkpoint(v), 0);
        assert_int_equal(volume_seal_all(v), 0);
    }
    return NULL;
}

static void test_threads(void **state)
{
    pthread_t t[WORKERS + 1];
    char name[16];
    assert_int_equal(volume_close(v), 0);
    open_sealing(1, true);
    atomic_store(&working, WORKERS);
    for (uintptr_t i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, change_files, (void *)(i + 1)), 0);
    assert_int_equal(pthread_create(&t[WORKERS], NULL, seal_them, NULL), 0);
    for (int i = 0; i <= WORKERS; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(stats().auth_failures, 0);
    reopen_volume();
    for (unsigned i = 0; i < 4; i++) {
        struct node *n;
        snprintf(name, sizeof name, "t%u", i);
        if (walk(name, &n))
            continue;
        bool sealed;
        assert_int_equal(file_verify_seal(n, &sealed), 0);
        if (sealed)
            assert_true(placed_sealed(n));
        node_unref(n, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_close_seals, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_idle, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_never, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_many, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_removed, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_left_open, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_lock, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_changes, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_fresh_waits, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_rewrap_keeps, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_random, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_killed, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_threads, volume_setup, volume_teardown),
    };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
