#include "format_vectors.h"
#include "latchfs/err.h"
#include "latchfs/symlink.h"
#include "support.h"

#include <errno.h>

static struct name_keys keys;
static struct aead *aead;

static int set_up(void **state)
{
    name_keys_derive(symlink_name_key, &keys);
    aead = aead_new();
    return aead ? 0 : -1;
}

static int tear_down(void **state)
{
    aead_freep(&aead);
    return 0;
}

static int decrypt(int suite, const uint8_t *dir_id, const char *text, size_t len, char *target)
{
    return symlink_decrypt(aead, (enum suite)suite, &keys, dir_id, text, len, target);
}

static void test_known_answers(void **state)
{
    for (size_t i = 0; i < COUNT(symlink_vectors); i++) {
        const struct symlink_vector *v = &symlink_vectors[i];
        char target[SYMLINK_PLAIN_MAX + 1];
        assert_int_equal(decrypt(v->suite, symlink_dir_id, v->encoded, strlen(v->encoded), target), 0);
        assert_string_equal(target, v->target);
        assert_int_equal(symlink_plain_len(strlen(v->encoded)), strlen(v->target));
    }
}

static void test_round_trips(void **state)
{
    char target[SYMLINK_PLAIN_MAX + 2], encoded[SYMLINK_ENCODED_MAX + 1], again[SYMLINK_ENCODED_MAX + 1];
    char back[SYMLINK_PLAIN_MAX + 1];
    for (size_t len = 1; len <= SYMLINK_PLAIN_MAX; len += len < 50 ? 1 : 809) {
        enum suite suite = len % 2 ? SUITE_AES_256_GCM : SUITE_CHACHA20_POLY1305;
        memset(target, 't', len);
        target[len] = '\0';
        assert_int_equal(symlink_encrypt(aead, suite, &keys, symlink_dir_id, target, encoded), 0);
        assert_int_equal(symlink_encrypt(aead, suite, &keys, symlink_dir_id, target, again), 0);
        assert_string_not_equal(encoded, again);
        assert_int_equal(symlink_plain_len(strlen(encoded)), len);
        assert_int_equal(decrypt((int)suite, symlink_dir_id, encoded, strlen(encoded), back), 0);
        assert_string_equal(back, target);
    }
    memset(target, 't', SYMLINK_PLAIN_MAX + 1);
    target[SYMLINK_PLAIN_MAX + 1] = '\0';
    assert_int_equal(symlink_encrypt(aead, SUITE_AES_256_GCM, &keys, symlink_dir_id, target, encoded),
                     -ENAMETOOLONG);
    assert_int_equal(symlink_encrypt(aead, SUITE_AES_256_GCM, &keys, symlink_dir_id, "", encoded),
                     LFS_ERR_MISUSE);
    assert_int_equal(symlink_encrypt(aead, 9, &keys, symlink_dir_id, "x", encoded), LFS_ERR_UNSUPPORTED);
}

static void test_bound_to_directory_and_suite(void **state)
{
    const struct symlink_vector *v = &symlink_vectors[0];
    uint8_t other[ID_BYTES];
    char target[SYMLINK_PLAIN_MAX + 1];
    memcpy(other, symlink_dir_id, ID_BYTES);
    other[3] ^= 4;
    assert_int_equal(decrypt(v->suite, other, v->encoded, strlen(v->encoded), target), LFS_ERR_AUTH);
    assert_int_equal(decrypt(3 - v->suite, symlink_dir_id, v->encoded, strlen(v->encoded), target),
                     LFS_ERR_AUTH);
}

static void test_damage(void **state)
{
    const struct symlink_vector *v = &symlink_vectors[0];
    size_t len = strlen(v->encoded);
    char target[SYMLINK_PLAIN_MAX + 1] = "untouched";
    for (size_t bit = 0; bit < len * 8; bit++) {
        char *text = exact_copy(v->encoded, len);
        text[bit / 8] ^= (char)(1 << bit % 8);
        int err = decrypt(v->suite, symlink_dir_id, text, len, target);
        assert_true(err == LFS_ERR_CORRUPT || err == LFS_ERR_AUTH);
        free(text);
    }
    for (size_t cut = 0; cut < len; cut++) {
        char *text = exact_copy(v->encoded, cut);
        int err = decrypt(v->suite, symlink_dir_id, text, cut, target);
        assert_true(err == LFS_ERR_CORRUPT || err == LFS_ERR_AUTH);
        free(text);
    }
    assert_string_equal(target, "untouched");
}

static void test_lengths(void **state)
{
    for (size_t blob = 0; blob <= SYMLINK_BLOB_MAX; blob++) {
        size_t text = (blob * 4 + 2) / 3;
        int want = blob > SYMLINK_OVERHEAD ? (int)(blob - SYMLINK_OVERHEAD) : LFS_ERR_CORRUPT;
        assert_int_equal(symlink_plain_len(text), want);
    }
    assert_int_equal(symlink_plain_len(61), LFS_ERR_CORRUPT); /* no encoding has this length */
    assert_int_equal(symlink_plain_len(SYMLINK_ENCODED_MAX + 1), LFS_ERR_CORRUPT);
    assert_int_equal(symlink_plain_len(SIZE_MAX), LFS_ERR_CORRUPT);
}

static void test_sidecar_form(void **state)
{
    static const char good[] = "latchfs.link.0123456789abcdef0123456789abcdef";
    assert_true(symlink_is_sidecar(good, sizeof good - 1));
    for (size_t cut = 0; cut < sizeof good - 1; cut++) {
        char *text = exact_copy(good, cut);
        assert_false(symlink_is_sidecar(text, cut));
        free(text);
    }
    for (size_t i = 0; i < sizeof good - 1; i++) {
        char text[sizeof good];
        memcpy(text, good, sizeof good);
        text[i] = 'F';
        assert_false(symlink_is_sidecar(text, sizeof good - 1));
    }
    assert_false(symlink_is_sidecar("latchfs.link.0123456789abcdef0123456789abcdef0", 46));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_bound_to_directory_and_suite),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_sidecar_form),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
