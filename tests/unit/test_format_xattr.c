#include "format_vectors.h"
#include "latchfs/err.h"
#include "latchfs/xattr.h"
#include "support.h"

#include <errno.h>

static struct name_keys keys;
static struct aead *aead;

static int set_up(void **state)
{
    name_keys_derive(names_name_key, &keys);
    aead = aead_new();
    return aead ? 0 : -1;
}

static int tear_down(void **state)
{
    aead_freep(&aead);
    return 0;
}

static struct xattr_owner owner_of(const struct xattr_vector *v)
{
    return (struct xattr_owner){(uint8_t)v->kind, (uint8_t)v->suite, (uint16_t)v->epoch, xattr_owner_id};
}

static void test_known_names(void **state)
{
    static const char *const pairs[][2] = {{"user.comment", xattr_stored_name},
                                           {xattr_longest_plain, xattr_longest_stored}};
    for (size_t i = 0; i < COUNT(pairs); i++) {
        char stored[256], name[XATTR_PLAIN_MAX + 1];
        assert_int_equal(xattr_name_encrypt(&keys, xattr_owner_id, pairs[i][0], stored), 0);
        assert_string_equal(stored, pairs[i][1]);
        assert_int_equal(xattr_name_decrypt(&keys, xattr_owner_id, stored, name), 0);
        assert_string_equal(name, pairs[i][0]);
    }
    assert_int_equal(strlen(xattr_longest_stored), 255);
}

static void test_refused_names(void **state)
{
    char stored[256] = "untouched", name[XATTR_PLAIN_MAX + 2];
    memset(name, 'n', sizeof name);
    name[XATTR_PLAIN_MAX + 1] = '\0';
    assert_int_equal(xattr_name_encrypt(&keys, xattr_owner_id, name, stored), -ENAMETOOLONG);
    assert_int_equal(xattr_name_encrypt(&keys, xattr_owner_id, "", stored), LFS_ERR_MISUSE);
    assert_string_equal(stored, "untouched");
}

/* A directory's child and its attribute of the same name must not be exchangeable. */
static void test_names_differ_from_file_names(void **state)
{
    char name[XATTR_PLAIN_MAX + 1], stored[256];
    struct cipher_name c;
    assert_int_equal(name_encrypt(&keys, xattr_owner_id, "user.comment", &c), 0);
    snprintf(stored, sizeof stored, "user.latchfs.%.200s", c.encoded);
    assert_int_equal(xattr_name_decrypt(&keys, xattr_owner_id, stored, name), LFS_ERR_AUTH);
}

static void test_damaged_names(void **state)
{
    size_t len = strlen(xattr_stored_name);
    char name[XATTR_PLAIN_MAX + 1] = "untouched";
    for (size_t bit = 0; bit < len * 8; bit++) {
        char *text = exact_copy(xattr_stored_name, len + 1);
        text[bit / 8] ^= (char)(1 << bit % 8);
        int err = xattr_name_decrypt(&keys, xattr_owner_id, text, name);
        assert_true(err == LFS_ERR_CORRUPT || err == LFS_ERR_AUTH);
        free(text);
    }
    for (size_t cut = 0; cut < len; cut++) {
        char *text = exact_copy(xattr_stored_name, cut + 1);
        text[cut] = '\0';
        int err = xattr_name_decrypt(&keys, xattr_owner_id, text, name);
        assert_true(err == LFS_ERR_CORRUPT || err == LFS_ERR_AUTH);
        free(text);
    }
    char longer[300];
    memset(longer, 'A', sizeof longer - 1);
    memcpy(longer, XATTR_STORED_PREFIX, strlen(XATTR_STORED_PREFIX));
    longer[299] = '\0';
    assert_int_equal(xattr_name_decrypt(&keys, xattr_owner_id, longer, name), LFS_ERR_CORRUPT);
    assert_string_equal(name, "untouched");
}

static void test_known_values(void **state)
{
    for (size_t i = 0; i < COUNT(xattr_vectors); i++) {
        const struct xattr_vector *v = &xattr_vectors[i];
        struct xattr_owner o = owner_of(v);
        uint8_t out[128];
        size_t len = v->len + XATTR_OVERHEAD;
        assert_int_equal(aead_set_key(aead, (enum suite)v->suite, xattr_key), 0);
        assert_int_equal(xattr_value_epoch(v->stored, len), v->epoch);
        assert_int_equal(xattr_value_open(aead, &o, "user.comment", v->stored, len, out), 0);
        assert_memory_equal(out, v->value, v->len);
    }
}

static void test_value_round_trips(void **state)
{
    struct xattr_owner o = {KIND_XATTR, SUITE_AES_256_GCM, 2, xattr_owner_id};
    static uint8_t value[65536], stored[65536 + XATTR_OVERHEAD], back[65536];
    struct rng rng = {12};
    rng_fill(&rng, value, sizeof value);
    assert_int_equal(aead_set_key(aead, SUITE_AES_256_GCM, xattr_key), 0);
    for (size_t len = 0; len <= sizeof value; len = len * 2 + (len == 0)) {
        assert_int_equal(xattr_value_seal(aead, &o, "user.x", value, len, stored), 0);
        assert_int_equal(xattr_value_epoch(stored, len + XATTR_OVERHEAD), 2);
        assert_int_equal(xattr_value_open(aead, &o, "user.x", stored, len + XATTR_OVERHEAD, back), 0);
        assert_memory_equal(back, value, len);
    }
    assert_int_equal(xattr_value_seal(aead, &o, "", value, 1, stored), LFS_ERR_MISUSE);
    o.epoch = 0;
    assert_int_equal(xattr_value_seal(aead, &o, "user.x", value, 1, stored), LFS_ERR_MISUSE);
    o = (struct xattr_owner){KIND_CHUNK, SUITE_AES_256_GCM, 2, xattr_owner_id};
    assert_int_equal(xattr_value_seal(aead, &o, "user.x", value, 1, stored), LFS_ERR_MISUSE);
}

static void test_values_are_bound(void **state)
{
    const struct xattr_vector *v = &xattr_vectors[0];
    struct xattr_owner good = owner_of(v), o;
    uint8_t out[128], other[ID_BYTES] = {1};
    size_t len = v->len + XATTR_OVERHEAD;
    assert_int_equal(aead_set_key(aead, (enum suite)v->suite, xattr_key), 0);
    o = good;
    o.kind = KIND_DIR_XATTR;
    assert_int_equal(xattr_value_open(aead, &o, "user.comment", v->stored, len, out), LFS_ERR_AUTH);
    o = good;
    o.id = other;
    assert_int_equal(xattr_value_open(aead, &o, "user.comment", v->stored, len, out), LFS_ERR_AUTH);
    o = good;
    o.epoch++;
    assert_int_equal(xattr_value_open(aead, &o, "user.comment", v->stored, len, out), LFS_ERR_AUTH);
    assert_int_equal(xattr_value_open(aead, &good, "user.commenT", v->stored, len, out), LFS_ERR_AUTH);
}

static void test_damaged_values(void **state)
{
    const struct xattr_vector *v = &xattr_vectors[0];
    struct xattr_owner o = owner_of(v);
    size_t len = v->len + XATTR_OVERHEAD;
    uint8_t out[128];
    assert_int_equal(aead_set_key(aead, (enum suite)v->suite, xattr_key), 0);
    for (size_t bit = 0; bit < len * 8; bit++) {
        uint8_t *bytes = exact_copy(v->stored, len);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(xattr_value_open(aead, &o, "user.comment", bytes, len, out), LFS_ERR_AUTH);
        free(bytes);
    }
    for (size_t cut = 0; cut < len; cut++) {
        uint8_t *bytes = exact_copy(v->stored, cut);
        int err = xattr_value_open(aead, &o, "user.comment", bytes, cut, out);
        assert_true(err == LFS_ERR_CORRUPT || err == LFS_ERR_AUTH);
        free(bytes);
    }
    uint8_t no_epoch[XATTR_OVERHEAD] = {1};
    assert_int_equal(xattr_value_epoch(no_epoch, sizeof no_epoch), LFS_ERR_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_names),
        cmocka_unit_test(test_refused_names),
        cmocka_unit_test(test_names_differ_from_file_names),
        cmocka_unit_test(test_damaged_names),
        cmocka_unit_test(test_known_values),
        cmocka_unit_test(test_value_round_trips),
        cmocka_unit_test(test_values_are_bound),
        cmocka_unit_test(test_damaged_values),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
