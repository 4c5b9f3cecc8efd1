/* The tables of a view: nodes, groups of ciphertext, long names. */
#include "fs/view/groups.h"
#include "fs/view/longnames.h"
#include "fs/view/vnode.h"
#include "support.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

static const uint8_t no_id[ID_BYTES] = {1};

/* ---- nodes ---- */

static void assert_path(const struct vnode *n, const char *name, const char *want)
{
    char *path = vnode_path(n, name);
    assert_string_equal(path, want);
    free(path);
}

static void test_paths(void **state)
{
    struct vtable *t = vtable_new();
    struct vnode *a = vnode_get(t, vtable_root(t), V_DIR, "a", no_id);
    struct vnode *b = vnode_get(t, a, V_DIR, "bb", no_id);
    assert_path(vtable_root(t), NULL, "");
    assert_path(vtable_root(t), "x", "x");
    assert_path(a, NULL, "a");
    assert_path(b, NULL, "a/bb");
    assert_path(b, "c", "a/bb/c");
    vtable_free(t);
}

static void test_same_place_same_node(void **state)
{
    struct vtable *t = vtable_new();
    struct vnode *root = vtable_root(t), *file = vnode_get(t, root, V_FILE, "x", no_id);
    assert_ptr_equal(vnode_get(t, root, V_FILE, "x", no_id), file);
    assert_ptr_not_equal(vnode_get(t, root, V_DIR, "x", no_id), file);
    assert_ptr_not_equal(vnode_get(t, root, V_NAMECAR, "x", no_id), file);
    assert_int_equal(vtable_count(t), 3);
    vnode_forget(t, file, 1);
    assert_int_equal(vtable_count(t), 3);
    vnode_forget(t, file, 1);
    assert_int_equal(vtable_count(t), 2);
    vtable_free(t);
}

/* A directory that the kernel forgot before what is in it goes with the last of that. */
static void test_parents_stay(void **state)
{
    struct vtable *t = vtable_new();
    struct vnode *a = vnode_get(t, vtable_root(t), V_DIR, "a", no_id);
    struct vnode *b = vnode_get(t, a, V_DIR, "b", no_id), *c = vnode_get(t, b, V_FILE, "c", no_id);
    vnode_forget(t, a, 1);
    vnode_forget(t, b, 1);
    assert_int_equal(vtable_count(t), 3);
    assert_path(c, NULL, "a/b/c");
    vnode_forget(t, c, 1);
    assert_int_equal(vtable_count(t), 0);
    vtable_free(t);
}

static void test_many_nodes(void **state)
{
    enum { MANY = 20000 };
    struct vtable *t = vtable_new();
    static struct vnode *nodes[MANY];
    char name[32];
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "n%d", i);
        nodes[i] = vnode_get(t, vtable_root(t), V_FILE, name, no_id);
    }
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "n%d", i);
        assert_ptr_equal(vnode_get(t, vtable_root(t), V_FILE, name, no_id), nodes[i]);
        vnode_forget(t, nodes[i], 2);
    }
    assert_int_equal(vtable_count(t), 0);
    vtable_free(t);
}

static void test_sizes_while_open(void **state)
{
    struct vtable *t = vtable_new();
    struct vnode *n = vnode_get(t, vtable_root(t), V_FILE, "x", no_id);
    assert_int_equal(vnode_size(n, 10), 10);
    vnode_pin(n, 10);
    assert_int_equal(vnode_size(n, 20), 10);
    vnode_pin(n, 15);
    assert_int_equal(vnode_size(n, 20), 15);
    vnode_unpin(n);
    vnode_unpin(n);
    assert_int_equal(vnode_size(n, 20), 20);
    vtable_free(t);
}

/* ---- groups ---- */

static struct group_key key_of(uint64_t group)
{
    return (struct group_key){.size = 1 << 30, .group = group, .dir_version = 1};
}

static void make(struct groups *g, uint64_t group)
{
    struct group_key k = key_of(group);
    struct group *place;
    assert_null(groups_get(g, &k, &place));
    assert_non_null(place);
    place->image[0] = (uint8_t)group;
    groups_made(g, place, 0, true);
    groups_put(g, place);
}

static void test_groups_are_kept(void **state)
{
    struct groups *g = groups_new();
    make(g, 1);
    struct group_key k = key_of(1);
    struct group *held = groups_get(g, &k, NULL);
    assert_non_null(held);
    assert_int_equal(held->image[0], 1);
    for (uint64_t i = 2; i < 100; i++)
        make(g, i);
    assert_int_equal(held->image[0], 1); /* what is held stays */
    groups_put(g, held);
    k.group = 50;
    assert_null(groups_get(g, &k, NULL));
    groups_free(g);
}

/* Another stamp, size, version, owner or file is another group. */
static void test_groups_differ(void **state)
{
    struct groups *g = groups_new();
    make(g, 7);
    struct group_key other[6];
    for (size_t i = 0; i < COUNT(other); i++)
        other[i] = key_of(7);
    other[0].stamp.mtime.tv_nsec++;
    other[1].stamp.ctime.tv_sec++;
    other[2].size++;
    other[3].dir_version++;
    other[4].owner++;
    other[5].id[3]++;
    for (size_t i = 0; i < COUNT(other); i++)
        assert_null(groups_get(g, &other[i], NULL));
    groups_free(g);
}

static void test_failed_group_is_made_again(void **state)
{
    struct groups *g = groups_new();
    struct group_key k = key_of(3);
    struct group *place, *second;
    groups_get(g, &k, &place);
    groups_made(g, place, 0, false);
    assert_null(groups_get(g, &k, &second));
    assert_non_null(second);
    groups_made(g, second, 5, true); /* for one reader alone */
    groups_put(g, second);
    assert_null(groups_get(g, &k, NULL));
    k.owner = 5;
    assert_non_null(groups_get(g, &k, NULL));
    groups_free(g);
}

static void *wait_for_group(void *arg)
{
    struct group_key k = key_of(9);
    struct group *got = groups_get(arg, &k, NULL);
    uintptr_t first = got ? got->image[0] : 0;
    if (got)
        groups_put(arg, got);
    return (void *)first;
}

static void test_two_want_one_group(void **state)
{
    struct groups *g = groups_new();
    struct group_key k = key_of(9);
    struct group *place;
    pthread_t other;
    void *seen = NULL;
    groups_get(g, &k, &place);
    assert_int_equal(pthread_create(&other, NULL, wait_for_group, g), 0);
    usleep(1000); /* most likely it waits now; it gets the same if it does not */
    place->image[0] = 99;
    groups_made(g, place, 0, true);
    groups_put(g, place);
    pthread_join(other, &seen);
    assert_int_equal((uintptr_t)seen, 99);
    groups_free(g);
}

/* ---- long names ---- */

static void test_long_names(void **state)
{
    struct longnames *l = longnames_new();
    const uint8_t other[ID_BYTES] = {2};
    char plain[NAME_PLAIN_MAX + 1];
    assert_false(longnames_find(l, no_id, "latchfs.long.H", plain));
    longnames_note(l, no_id, "latchfs.long.H", "the name");
    assert_true(longnames_find(l, no_id, "latchfs.long.H", plain));
    assert_string_equal(plain, "the name");
    assert_false(longnames_find(l, other, "latchfs.long.H", plain));
    longnames_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_same_place_same_node),
        cmocka_unit_test(test_parents_stay),
        cmocka_unit_test(test_many_nodes),
        cmocka_unit_test(test_sizes_while_open),
        cmocka_unit_test(test_groups_are_kept),
        cmocka_unit_test(test_groups_differ),
        cmocka_unit_test(test_failed_group_is_made_again),
        cmocka_unit_test(test_two_want_one_group),
        cmocka_unit_test(test_long_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
