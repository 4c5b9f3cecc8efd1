#include "format_vectors.h"
#include "latchfs/dirrec.h"
#include "latchfs/err.h"
#include "support.h"

static struct name_keys keys;

static int set_up(void **state)
{
    name_keys_derive(dirrec_name_key, &keys);
    return 0;
}

static void flip(uint8_t *p, size_t bit)
{
    p[bit / 8] ^= (uint8_t)(1 << bit % 8);
}

static void check_known(const uint8_t *bytes, bool moving)
{
    static const uint8_t none[ID_BYTES];
    struct dirrec d;
    uint8_t out[DIRREC_BYTES];
    assert_int_equal(dirrec_parse(bytes, &d), 0);
    assert_memory_equal(d.id, dirrec_id, ID_BYTES);
    assert_memory_equal(d.parent[0], dirrec_parent_0, ID_BYTES);
    assert_memory_equal(d.parent[1], moving ? dirrec_parent_1 : none, ID_BYTES);
    assert_memory_equal(d.name[0], dirrec_name_0, DIRREC_NAME_BYTES);
    assert_memory_equal(d.name[1], moving ? dirrec_name_1 : none, DIRREC_NAME_BYTES);
    assert_memory_equal(d.pd_id, dirrec_pd_id, ID_BYTES);
    assert_int_equal(dirrec_check(bytes, &keys), 0);
    dirrec_encode(&d, &keys, out);
    assert_memory_equal(out, bytes, DIRREC_BYTES);
}

static void test_known_answers(void **state)
{
    check_known(dirrec_plain_bytes, false);
    check_known(dirrec_moving_bytes, true);
}

static void test_other_key(void **state)
{
    struct name_keys other = keys;
    other.dirrec[0] ^= 1;
    assert_int_equal(dirrec_check(dirrec_plain_bytes, &other), LFS_ERR_AUTH);
}

static void test_damage(void **state)
{
    uint8_t *bytes = exact_copy(dirrec_moving_bytes, DIRREC_BYTES);
    struct dirrec d;
    for (size_t bit = 0; bit < DIRREC_BYTES * 8; bit++) {
        flip(bytes, bit);
        assert_int_equal(dirrec_check(bytes, &keys), LFS_ERR_AUTH);
        flip(bytes, bit);
    }
    for (size_t len = DIRREC_BYTES; len-- > 0;) {
        bytes[len] = 0;
        if (memcmp(bytes, dirrec_moving_bytes, DIRREC_BYTES) != 0)
            assert_int_equal(dirrec_check(bytes, &keys), LFS_ERR_AUTH);
    }
    assert_int_equal(dirrec_parse(bytes, &d), LFS_ERR_CORRUPT);
    free(bytes);
}

static void expect_parse(size_t at, uint8_t value, size_t count, int want)
{
    uint8_t bytes[DIRREC_BYTES];
    struct dirrec d = {.id = "untouched"};
    memcpy(bytes, dirrec_plain_bytes, sizeof bytes);
    memset(bytes + at, value, count);
    assert_int_equal(dirrec_parse(bytes, &d), want);
    assert_string_equal((char *)d.id, "untouched");
}

static void test_places(void **state)
{
    struct dirrec d = {.id = "i", .parent = {"p", "q"}};
    dirrec_name_tag("one", d.name[0]);
    dirrec_name_tag("two", d.name[1]);
    uint8_t p[ID_BYTES] = "p", q[ID_BYTES] = "q", i[ID_BYTES] = "i";
    assert_true(dirrec_is_at(&d, p, "one"));
    assert_true(dirrec_is_at(&d, q, "two"));
    assert_false(dirrec_is_at(&d, p, "two"));
    assert_false(dirrec_is_at(&d, q, "one"));
    assert_false(dirrec_is_at(&d, i, "one"));
    assert_false(dirrec_is_at(&d, p, NULL));
    struct dirrec root = {.id = "i", .parent = {"i"}};
    assert_true(dirrec_is_at(&root, i, NULL));
    assert_false(dirrec_is_at(&root, i, "one"));
}

static void test_impossible_fields(void **state)
{
    expect_parse(0, 'X', 1, LFS_ERR_CORRUPT);
    expect_parse(8, 2, 1, LFS_ERR_UNSUPPORTED);
    expect_parse(10, 1, 1, LFS_ERR_UNSUPPORTED);
    expect_parse(16, 0, ID_BYTES, LFS_ERR_CORRUPT);
    expect_parse(32, 0, ID_BYTES, LFS_ERR_CORRUPT);
    for (size_t at = 80; at < 128; at++)
        expect_parse(at, 1, 1, LFS_ERR_CORRUPT);
    for (size_t at = 160; at < 480; at++)
        expect_parse(at, 1, 1, LFS_ERR_CORRUPT);
    expect_parse(128, 0, DIRREC_NAME_BYTES, LFS_ERR_CORRUPT); /* a parent without a name */
    expect_parse(144, 1, 1, LFS_ERR_CORRUPT);                 /* a name without a parent */
    expect_parse(48, 1, 1, LFS_ERR_CORRUPT);
    for (size_t at = 12; at < 16; at++)
        expect_parse(at, 1, 1, LFS_ERR_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_other_key),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_impossible_fields),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
