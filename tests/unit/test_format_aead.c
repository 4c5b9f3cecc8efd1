#include "format_vectors.h"
#include "latchfs/aead.h"
#include "latchfs/err.h"
#include "latchfs/keywrap.h"
#include "support.h"

#include <sys/wait.h>
#include <unistd.h>

static void test_known_answers(void **state)
{
    struct aead *a = aead_new();
    uint8_t out[PAGE_BYTES], tag[TAG_BYTES];
    for (size_t i = 0; i < COUNT(aead_vectors); i++) {
        const struct aead_vector *v = &aead_vectors[i];
        assert_int_equal(aead_set_key(a, v->suite, v->key), 0);
        assert_int_equal(aead_seal(a, v->nonce, aead_ad, sizeof aead_ad, v->plain, v->len, out, tag), 0);
        assert_memory_equal(out, v->cipher, v->len);
        assert_memory_equal(tag, v->tag, TAG_BYTES);
        assert_int_equal(aead_open(a, v->nonce, aead_ad, sizeof aead_ad, v->cipher, v->len, out, v->tag), 0);
        assert_memory_equal(out, v->plain, v->len);
    }
    aead_free(a);
}

static void test_in_place(void **state)
{
    struct aead *a = aead_new();
    for (size_t i = 0; i < COUNT(aead_vectors); i++) {
        const struct aead_vector *v = &aead_vectors[i];
        uint8_t *buf = exact_copy(v->plain, v->len), tag[TAG_BYTES];
        assert_int_equal(aead_set_key(a, v->suite, v->key), 0);
        assert_int_equal(aead_seal(a, v->nonce, aead_ad, sizeof aead_ad, buf, v->len, buf, tag), 0);
        assert_memory_equal(buf, v->cipher, v->len);
        assert_int_equal(aead_open(a, v->nonce, aead_ad, sizeof aead_ad, buf, v->len, buf, tag), 0);
        assert_memory_equal(buf, v->plain, v->len);
        free(buf);
    }
    aead_free(a);
}

static void flip(uint8_t *p, size_t bit)
{
    p[bit / 8] ^= (uint8_t)(1 << bit % 8);
}

/* Every bit of nonce, associated data, ciphertext and tag counts, and a refused message leaves zeros. */
static void test_every_bit_counts(void **state)
{
    static const uint8_t key[32] = {1}, zero[20];
    uint8_t m[12 + 9 + 20 + 16], plain[20]; /* nonce | ad | text | tag */
    struct aead *a = aead_new();
    for (int suite = 1; suite <= 2; suite++) {
        struct rng rng = {9};
        rng_fill(&rng, m, sizeof m);
        assert_int_equal(aead_set_key(a, suite, key), 0);
        assert_int_equal(aead_seal(a, m, m + 12, 9, m + 21, 20, m + 21, m + 41), 0);
        for (size_t bit = 0; bit < sizeof m * 8; bit++) {
            flip(m, bit);
            memset(plain, 0xaa, sizeof plain);
            assert_int_equal(aead_open(a, m, m + 12, 9, m + 21, 20, plain, m + 41), LFS_ERR_AUTH);
            assert_memory_equal(plain, zero, sizeof plain);
            flip(m, bit);
        }
        assert_int_equal(aead_open(a, m, m + 12, 9, m + 21, 20, plain, m + 41), 0);
    }
    aead_free(a);
}

static void test_key_is_needed_and_forgotten(void **state)
{
    static const uint8_t key[32] = {1};
    uint8_t nonce[12] = {2}, text[4] = "abc", tag[16];
    struct aead *a = aead_new();
    assert_int_equal(aead_seal(a, nonce, "", 0, text, 4, text, tag), LFS_ERR_MISUSE);
    assert_int_equal(aead_set_key(a, 3, key), LFS_ERR_UNSUPPORTED);
    assert_int_equal(aead_set_key(a, SUITE_AES_256_GCM, key), 0);
    assert_int_equal(aead_seal(a, nonce, "", 0, text, 4, text, tag), 0);
    aead_clear_key(a);
    assert_int_equal(aead_open(a, nonce, "", 0, text, 4, text, tag), LFS_ERR_MISUSE);
    assert_int_equal(aead_set_key(a, SUITE_AES_256_GCM, key), 0);
    assert_int_equal(aead_open(a, nonce, "", 0, text, 4, text, tag), 0);
    assert_string_equal((char *)text, "abc");
    aead_freep(&a);
    assert_null(a);
}

static int compare_nonces(const void *a, const void *b)
{
    return memcmp(a, b, NONCE_BYTES);
}

static void test_nonces_do_not_repeat(void **state)
{
    enum { DRAWN = 5000 };
    static uint8_t nonces[DRAWN][NONCE_BYTES];
    static const uint8_t zero[NONCE_BYTES];
    struct aead *a = aead_new();
    for (int i = 0; i < DRAWN; i++) {
        aead_nonce(a, nonces[i]);
        assert_memory_not_equal(nonces[i], zero, NONCE_BYTES);
    }
    qsort(nonces, DRAWN, NONCE_BYTES, compare_nonces);
    for (int i = 1; i < DRAWN; i++)
        assert_memory_not_equal(nonces[i - 1], nonces[i], NONCE_BYTES);
    aead_free(a);
}

/* With half a pool in hand, parent and child must go on with different nonces. */
static void test_fork_gets_other_nonces(void **state)
{
    enum { DRAWN = 200 };
    static uint8_t ours[DRAWN][NONCE_BYTES], theirs[DRAWN][NONCE_BYTES];
    int fds[2], status;
    struct aead *a = aead_new();
    aead_nonce(a, ours[0]);
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    for (int i = 0; i < DRAWN; i++)
        aead_nonce(a, ours[i]);
    if (pid == 0)
        _exit(write(fds[1], ours, sizeof ours) != sizeof ours);
    assert_int_equal(read(fds[0], theirs, sizeof theirs), sizeof theirs);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    for (int i = 0; i < DRAWN; i++)
        for (int j = 0; j < DRAWN; j++)
            assert_memory_not_equal(ours[i], theirs[j], NONCE_BYTES);
    close(fds[0]);
    close(fds[1]);
    aead_free(a);
}

static void test_suite_names(void **state)
{
    enum suite s;
    assert_string_equal(suite_name(SUITE_AES_256_GCM), "aes-256-gcm");
    assert_string_equal(suite_name(SUITE_CHACHA20_POLY1305), "chacha20-poly1305");
    assert_null(suite_name(0));
    assert_null(suite_name(3));
    assert_int_equal(suite_by_name("chacha20-poly1305", &s), 0);
    assert_int_equal(s, SUITE_CHACHA20_POLY1305);
    assert_int_equal(suite_by_name("auto", &s), 0);
    assert_int_equal(s, aead_best_suite());
    assert_int_equal(suite_by_name("AES-256-GCM", &s), LFS_ERR_UNSUPPORTED);
}

static void test_keywrap(void **state)
{
    uint8_t key[32], blob[32 + KEYWRAP_OVERHEAD];
    assert_int_equal(
        keywrap_open(keywrap_kek, keywrap_ad, sizeof keywrap_ad, keywrap_blob, sizeof keywrap_blob, key), 0);
    assert_memory_equal(key, keywrap_key, 32);
    assert_int_equal(keywrap_seal(keywrap_kek, keywrap_ad, sizeof keywrap_ad, keywrap_key, 32, blob), 0);
    assert_memory_not_equal(blob, keywrap_blob, 24); /* its own nonce */
    memset(key, 0, sizeof key);
    assert_int_equal(keywrap_open(keywrap_kek, keywrap_ad, sizeof keywrap_ad, blob, sizeof blob, key), 0);
    assert_memory_equal(key, keywrap_key, 32);
    for (size_t bit = 0; bit < sizeof blob * 8; bit++) {
        flip(blob, bit);
        assert_int_equal(keywrap_open(keywrap_kek, keywrap_ad, sizeof keywrap_ad, blob, sizeof blob, key),
                         LFS_ERR_AUTH);
        flip(blob, bit);
    }
    assert_int_equal(keywrap_open(keywrap_kek, "other", 5, blob, sizeof blob, key), LFS_ERR_AUTH);
    assert_int_equal(keywrap_open(keywrap_kek, "", 0, blob, KEYWRAP_OVERHEAD - 1, key), LFS_ERR_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),        cmocka_unit_test(test_in_place),
        cmocka_unit_test(test_every_bit_counts),     cmocka_unit_test(test_key_is_needed_and_forgotten),
        cmocka_unit_test(test_nonces_do_not_repeat), cmocka_unit_test(test_fork_gets_other_nonces),
        cmocka_unit_test(test_suite_names),          cmocka_unit_test(test_keywrap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
