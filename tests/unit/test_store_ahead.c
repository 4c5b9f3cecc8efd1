/* Long directories are read ahead: whatever way they are read, each name comes once. */
#include "tree_fixture.h"

#include <pthread.h>

#define NAMES 2500 /* several buffers */

static struct node *dir;

static int setup(void **state)
{
    int r = volume_setup(state);
    char name[16];
    struct stat st;
    struct node *n;
    dir = make_dir(volume_root(v), "dir");
    for (int i = 0; i < NAMES; i++) {
        snprintf(name, sizeof name, "%d", i);
        assert_int_equal(node_create(dir, name, 0600, true, &st, &n), 0);
        node_unref(n, 1);
    }
    return r;
}

static int teardown(void **state)
{
    node_unref(dir, 1);
    return volume_teardown(state);
}

/* Reads count entries (fewer at the end) from *cookie on, and counts each in seen. */
static unsigned read_some(struct dir_stream *s, uint64_t *cookie, unsigned count, uint8_t seen[static NAMES])
{
    struct dir_entry e;
    unsigned got = 0;
    while (got < count && dir_next(s, *cookie, &e) > 0) {
        *cookie = e.cookie;
        got++;
        if (e.name[0] != '.')
            seen[atoi(e.name)]++;
    }
    return got;
}

static void assert_all(const uint8_t seen[static NAMES], uint8_t times)
{
    for (int i = 0; i < NAMES; i++)
        assert_int_equal(seen[i], times);
}

static void test_each_once(void **state)
{
    uint8_t seen[NAMES] = {0};
    uint64_t cookie = 0;
    struct dir_stream *s;
    assert_int_equal(dir_open(dir, &s), 0);
    assert_int_equal(read_some(s, &cookie, NAMES + 3, seen), NAMES + 2);
    assert_all(seen, 1);
    assert_int_equal(read_some(s, &cookie, 1, seen), 0); /* the end stays the end */
    dir_close(s);
}

static void test_back_to_the_middle(void **state)
{
    uint8_t before[NAMES] = {0}, once[NAMES] = {0}, again[NAMES] = {0};
    uint64_t cookie = 0, from;
    struct dir_stream *s;
    assert_int_equal(dir_open(dir, &s), 0);
    read_some(s, &cookie, 700, before);
    from = cookie;
    read_some(s, &cookie, 1100, once);
    usleep(50000); /* the next ones have been read by now */
    assert_int_equal(read_some(s, &from, 1100, again), 1100);
    assert_memory_equal(once, again, sizeof once);
    read_some(s, &from, NAMES, before);
    for (int i = 0; i < NAMES; i++)
        assert_int_equal(before[i] + once[i], 1);
    dir_close(s);
}

static void test_from_the_beginning_again(void **state)
{
    uint8_t seen[NAMES] = {0}, part[NAMES] = {0};
    struct dir_stream *s;
    struct stat st;
    struct node *n;
    assert_int_equal(dir_open(dir, &s), 0);
    for (unsigned count = 1; count < NAMES; count += 613) {
        uint64_t cookie = 0;
        read_some(s, &cookie, count, part);
    }
    /* What was made since then is seen by who begins again. */
    assert_int_equal(node_unlink(dir, "7"), 0);
    assert_int_equal(node_create(dir, "7", 0600, true, &st, &n), 0);
    node_unref(n, 1);
    uint64_t cookie = 0;
    read_some(s, &cookie, NAMES + 3, seen);
    assert_all(seen, 1);
    dir_close(s);
}

static void *read_whole(void *result)
{
    uint8_t *seen = result;
    uint64_t cookie = 0;
    struct dir_stream *s;
    if (dir_open(dir, &s))
        return NULL;
    read_some(s, &cookie, NAMES + 3, seen);
    dir_close(s);
    return result;
}

static void test_several_at_once(void **state)
{
    static uint8_t seen[4][NAMES];
    pthread_t t[4];
    struct dir_stream *left;
    uint8_t part[NAMES] = {0};
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, read_whole, seen[i]), 0);
    for (int i = 0; i < 50; i++) { /* closed while more is asked for */
        uint64_t cookie = 0;
        assert_int_equal(dir_open(dir, &left), 0);
        read_some(left, &cookie, 1 + (unsigned)i % 3, part);
        dir_close(left);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(t[i], NULL), 0);
        assert_all(seen[i], 1);
    }
}

#define AHEAD_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        AHEAD_TEST(test_each_once),
        AHEAD_TEST(test_back_to_the_middle),
        AHEAD_TEST(test_from_the_beginning_again),
        AHEAD_TEST(test_several_at_once),
    };
    return cmocka_run_group_tests_name("store_ahead", tests, NULL, NULL);
}
