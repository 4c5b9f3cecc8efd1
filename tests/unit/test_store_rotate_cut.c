/* Rotations that are cut, by a stop or by the end of the process: nothing is lost, and the next one ends it.
 */
#include "rotate_samples.h"

struct cut {
    atomic_bool stop;
    unsigned at, calls;
};

static void count_calls(const struct rotate_progress *p, void *arg)
{
    struct cut *c = arg;
    if (++c->calls == c->at)
        atomic_store(&c->stop, true);
}

/* The volume as a process leaves it that ends without a word. */
static void cut_process(rotation *how, struct cut *c)
{
    assert_int_equal(volume_close(v), 0);
    v = NULL;
    pid_t child = fork();
    if (child == 0) {
        struct rotate_progress p;
        struct rotate_options o = {.stop = &c->stop, .progress = count_calls, .arg = c};
        open_volume();
        memcpy(o.pd_id, plain_keys.pd_id, ID_BYTES);
        _exit(how(v, &o, &p) == -EINTR ? 1 : 0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    open_volume();
    atomic_store(&c->stop, WEXITSTATUS(status) == 1);
}

static void cut_within(rotation *how, struct cut *c)
{
    struct rotate_progress p;
    struct rotate_options o = {.stop = &c->stop, .progress = count_calls, .arg = c};
    memcpy(o.pd_id, plain_keys.pd_id, ID_BYTES);
    int r = how(v, &o, &p);
    assert_true(r == 0 || r == -EINTR);
    atomic_store(&c->stop, r == -EINTR);
}

static void cut_everywhere(rotation *how, void (*cut)(rotation *, struct cut *), bool data)
{
    struct rotate_progress p;
    unsigned cuts = 0;
    bool done = true;
    atomic_store(&fast_clock, true);
    make_samples();
    for (unsigned i = 0; i < 31; i++) {
        struct cut c = {.at = 1 + i * 5 % 31};
        if (done || i % 7 == 0) { /* each rotation is cut several times, at different steps */
            assert_int_equal(run(how, &p), 0);
            check_headers(plain_keys.active, data ? (uint16_t)plain_keys.active : 1);
            next_version();
        }
        cut(how, &c);
        done = !c.stop;
        cuts += c.stop;
        check_samples();
    }
    assert_true(cuts > 15);
    atomic_store(&fast_clock, false);
    assert_int_equal(run(how, &p), 0);
    only_newest();
    check_samples();
}

static void test_rewrap_stopped(void **state)
{
    cut_everywhere(volume_rewrap, cut_within, false);
}

static void test_rewrap_killed(void **state)
{
    cut_everywhere(volume_rewrap, cut_process, false);
}

static void test_reencrypt_stopped(void **state)
{
    cut_everywhere(volume_reencrypt, cut_within, true);
}

static void test_reencrypt_killed(void **state)
{
    cut_everywhere(volume_reencrypt, cut_process, true);
}

/* A header with two keys is wrapped with both, and its re-encryption goes on. */
static void test_rewrap_unfinished(void **state)
{
    struct rotate_progress p;
    struct cut c = {.at = 24};
    unsigned two = 0;
    make_samples();
    next_version();
    atomic_store(&fast_clock, true);
    cut_within(volume_reencrypt, &c);
    atomic_store(&fast_clock, false);
    assert_true(c.stop);
    next_version();
    assert_int_equal(run(volume_rewrap, &p), 0);
    assert_int_equal(p.least_found, 3);
    for (size_t i = 0; i < COUNT(samples); i++) {
        struct node *n = must_walk(samples[i].path);
        if (samples[i].size) {
            struct file_header h = placed_header(n);
            assert_int_equal(h.key_version, 3);
            two += places(&h) == 2;
        }
        node_unref(n, 1);
    }
    assert_true(two > 0);
    only_newest();
    check_samples();
    assert_int_equal(run(volume_scan_versions, &p), 0);
    assert_int_equal(p.changed, two);
    assert_int_equal(run(volume_reencrypt, &p), 0);
    assert_int_equal(p.changed, two);
    reopen_volume();
    check_samples();
}

#define T(name) cmocka_unit_test_setup_teardown(name, volume_setup, volume_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_rewrap_stopped),   T(test_rewrap_killed),     T(test_reencrypt_stopped),
        T(test_reencrypt_killed), T(test_rewrap_unfinished),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
