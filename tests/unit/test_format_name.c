#include "format_vectors.h"
#include "latchfs/err.h"
#include "latchfs/name.h"
#include "support.h"

#include <errno.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

static struct name_keys keys;

static int set_up(void **state)
{
    name_keys_derive(names_name_key, &keys);
    return 0;
}

static void test_subkeys(void **state)
{
    struct name_keys k;
    name_keys_derive(subkey_root, &k);
    assert_memory_equal(k.siv, subkey_name_1, SIV_KEY_BYTES);
    assert_memory_equal(k.dirrec, subkey_name_2, LFS_KEY_BYTES);
    assert_memory_equal(k.symlink, subkey_name_3, LFS_KEY_BYTES);
    assert_memory_equal(k.xattr, subkey_name_4, LFS_KEY_BYTES);
}

static void test_b64_known_answers(void **state)
{
    /* RFC 4648 section 10 without padding, and the two characters that base64url has of its own. */
    static const char *const pairs[][2] = {
        {"", ""},           {"f", "Zg"},          {"fo", "Zm8"},       {"foo", "Zm9v"},
        {"foob", "Zm9vYg"}, {"fooba", "Zm9vYmE"}, {"\xfb\xff", "-_8"}, {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < COUNT(pairs); i++) {
        char text[16];
        uint8_t data[16];
        size_t n = b64_encode(pairs[i][0], strlen(pairs[i][0]), text);
        assert_string_equal(text, pairs[i][1]);
        assert_int_equal(n, strlen(text));
        assert_int_equal(b64_decode(text, n, data, &n), 0);
        assert_int_equal(n, strlen(pairs[i][0]));
        assert_memory_equal(data, pairs[i][0], n);
    }
}

static void test_b64_is_strict(void **state)
{
    static const char *const bad[] = {"A",    "AAAAA", "Zh",   "ZI",   "Zm9",  "ZmC",
                                      "AA==", "A+AA",  "A/AA", "AA A", "AA\n", "\xc3\xa9zz"};
    uint8_t out[8] = {7};
    size_t n = 99;
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_int_equal(b64_decode(bad[i], strlen(bad[i]), out, &n), LFS_ERR_CORRUPT);
        assert_false(b64_is_whole(bad[i], strlen(bad[i])));
    }
    assert_true(b64_is_whole("-_8", 3));
    assert_int_equal(b64_decode("AA\0A", 4, out, &n), LFS_ERR_CORRUPT);
    assert_int_equal(n, 99);
    assert_int_equal(out[0], 7);
}

static void test_b64_round_trips(void **state)
{
    struct rng rng = {11};
    for (size_t len = 0; len < 300; len++) {
        uint8_t data[300], *back = exact_copy(data, len * 4 / 3 * 3 / 4 + 1);
        char *text = malloc((len * 4 + 2) / 3 + 1);
        size_t n;
        rng_fill(&rng, data, len);
        n = b64_encode(data, len, text);
        assert_int_equal(n, (len * 4 + 2) / 3);
        assert_int_equal(b64_decode(text, n, back, &n), 0);
        assert_int_equal(n, len);
        assert_memory_equal(back, data, len);
        free(back);
        free(text);
    }
}

static void test_known_answers(void **state)
{
    for (size_t i = 0; i < COUNT(name_vectors); i++) {
        const struct name_vector *v = &name_vectors[i];
        char plain[NAME_PLAIN_MAX + 1], back[NAME_PLAIN_MAX + 1];
        struct cipher_name c;
        memcpy(plain, v->plain, v->len);
        plain[v->len] = '\0';
        assert_int_equal(name_encrypt(&keys, names_dir_id, plain, &c), 0);
        assert_string_equal(c.encoded, v->encoded);
        assert_string_equal(c.stored, v->stored);
        assert_int_equal(c.is_long, strlen(v->encoded) > NAME_CIPHER_MAX);
        assert_int_equal(name_decrypt(&keys, names_dir_id, v->encoded, strlen(v->encoded), back), 0);
        assert_string_equal(back, plain);
        assert_int_equal(name_stored_kind(c.stored), c.is_long ? STORED_LONG : STORED_NAME);
    }
}

static void test_refused_plain_names(void **state)
{
    char name[NAME_PLAIN_MAX + 2];
    struct cipher_name c = {.encoded = "untouched"};
    memset(name, 'n', sizeof name);
    name[NAME_PLAIN_MAX + 1] = '\0';
    assert_int_equal(name_encrypt(&keys, names_dir_id, name, &c), -ENAMETOOLONG);
    assert_int_equal(name_encrypt(&keys, names_dir_id, "", &c), LFS_ERR_MISUSE);
    assert_int_equal(name_encrypt(&keys, names_dir_id, ".", &c), LFS_ERR_MISUSE);
    assert_int_equal(name_encrypt(&keys, names_dir_id, "..", &c), LFS_ERR_MISUSE);
    assert_int_equal(name_encrypt(&keys, names_dir_id, "a/b", &c), LFS_ERR_MISUSE);
    assert_string_equal(c.encoded, "untouched");
    assert_int_equal(name_encrypt(&keys, names_dir_id, "...", &c), 0);
    name[NAME_PLAIN_MAX] = '\0';
    assert_int_equal(name_encrypt(&keys, names_dir_id, name, &c), 0);
    assert_int_equal(strlen(c.encoded), NAME_ENCODED_MAX);
}

/* Well encrypted, but nothing that a directory may hold. */
static void test_refused_decrypted_names(void **state)
{
    static const struct {
        const char *plain;
        size_t len;
    } bad[] = {{".", 1}, {"..", 2}, {"a/b", 3}, {"a\0b", 3}};
    for (size_t i = 0; i < COUNT(bad); i++) {
        uint8_t raw[32];
        char text[64], plain[NAME_PLAIN_MAX + 1] = "untouched";
        assert_int_equal(siv_seal(keys.siv, names_dir_id, ID_BYTES, bad[i].plain, bad[i].len, raw), 0);
        size_t n = b64_encode(raw, 16 + bad[i].len, text);
        assert_int_equal(name_decrypt(&keys, names_dir_id, text, n, plain), LFS_ERR_CORRUPT);
        assert_string_equal(plain, "untouched");
    }
}

static void test_bound_to_directory_and_key(void **state)
{
    uint8_t other_dir[ID_BYTES];
    char plain[NAME_PLAIN_MAX + 1];
    struct name_keys other = keys;
    const char *encoded = name_vectors[1].encoded;
    memcpy(other_dir, names_dir_id, ID_BYTES);
    other_dir[0] ^= 1;
    other.siv[63] ^= 1;
    assert_int_equal(name_decrypt(&keys, other_dir, encoded, strlen(encoded), plain), LFS_ERR_AUTH);
    assert_int_equal(name_decrypt(&other, names_dir_id, encoded, strlen(encoded), plain), LFS_ERR_AUTH);
}

static void test_damaged_names(void **state)
{
    char plain[NAME_PLAIN_MAX + 1];
    for (size_t i = 0; i < COUNT(name_vectors); i++) {
        size_t len = strlen(name_vectors[i].encoded);
        char *text = exact_copy(name_vectors[i].encoded, len);
        for (size_t bit = 0; bit < len * 8; bit++) {
            text[bit / 8] ^= (char)(1 << bit % 8);
            int err = name_decrypt(&keys, names_dir_id, text, len, plain);
            assert_true(err == LFS_ERR_CORRUPT || err == LFS_ERR_AUTH);
            text[bit / 8] ^= (char)(1 << bit % 8);
        }
        free(text);
        for (size_t cut = 0; cut < len; cut++) {
            text = exact_copy(name_vectors[i].encoded, cut);
            int err = name_decrypt(&keys, names_dir_id, text, cut, plain);
            assert_true(err == LFS_ERR_CORRUPT || err == LFS_ERR_AUTH);
            free(text);
        }
    }
    char *longer = malloc(NAME_ENCODED_MAX + 2);
    memset(longer, 'A', NAME_ENCODED_MAX + 2);
    assert_int_equal(name_decrypt(&keys, names_dir_id, longer, NAME_ENCODED_MAX + 2, plain), LFS_ERR_CORRUPT);
    free(longer);
}

#define HASH43 "0123456789012345678901234567890123456789_-0"

static void test_stored_kinds(void **state)
{
    static const struct {
        const char *name;
        enum stored_kind kind;
    } known[] = {
        {KEYSTORE_NAME, STORED_OURS},
        {KEYSTORE_BAK_NAME, STORED_OURS},
        {JOURNAL_NAME, STORED_OURS},
        {DIRREC_NAME, STORED_OURS},
        {"latchfs.link.0123456789abcdef0123456789abcdef", STORED_OURS},
        {"latchfs.link.0123456789ABCDEF0123456789abcdef", STORED_FOREIGN},
        {"latchfs.link.0123456789abcdef0123456789abcde", STORED_FOREIGN},
        {"latchfs.tmp.1", STORED_TMP},
        {"latchfs.tmp.", STORED_TMP},
        {"latchfs.long." HASH43, STORED_LONG},
        {"latchfs.long." HASH43 ".name", STORED_LONG_SIDECAR},
        {"latchfs.long." HASH43 ".nam", STORED_FOREIGN},
        {"latchfs.long." HASH43 "A", STORED_FOREIGN},
        {"latchfs.long.A", STORED_FOREIGN},
        {"latchfs.long.+123456789012345678901234567890123456789_-0", STORED_FOREIGN},
        {"AAAAAAAAAAAAAAAAAAAAAAA", STORED_NAME},
        {"AAAAAAAAAAAAAAAAAAAAAAB", STORED_FOREIGN}, /* bits left over */
        {"AAAAAAAAAAAAAAAAAAAAAA", STORED_FOREIGN},  /* too short */
        {"AAAAAAAAAAAAAAAAAAAAAAAA", STORED_NAME},
        {"AAAAAAAAAAAAAAAAAAAAAAA.", STORED_FOREIGN},
        {"notes.txt", STORED_FOREIGN},
        {"", STORED_FOREIGN},
        {"latchfs", STORED_FOREIGN},
    };
    for (size_t i = 0; i < COUNT(known); i++)
        assert_int_equal(name_stored_kind(known[i].name), known[i].kind);
}

static void test_siv_limits(void **state)
{
    uint8_t in[17] = {0}, out[32];
    assert_int_equal(siv_seal(keys.siv, "d", 1, in, 0, out), LFS_ERR_MISUSE);
    assert_int_equal(siv_seal(keys.siv, "d", 0, in, 1, out), LFS_ERR_MISUSE);
    assert_int_equal(siv_open(keys.siv, "d", 1, in, 15, out), LFS_ERR_MISUSE);
    assert_int_equal(siv_open(keys.siv, "d", 1, in, 16, out), LFS_ERR_AUTH);
    out[0] = 1;
    assert_int_equal(siv_open(keys.siv, "d", 1, in, 17, out), LFS_ERR_AUTH);
    assert_int_equal(out[0], 0);
}

/* AES-256-SIV of another library. */
static void other_seal(const uint8_t *key, const void *ad, size_t ad_len, const uint8_t *in, size_t len,
                       uint8_t *out)
{
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, "AES-256-SIV", NULL);
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    int n;
    assert_int_equal(EVP_CipherInit_ex2(c, cipher, key, NULL, 1, NULL), 1);
    assert_int_equal(EVP_CipherUpdate(c, NULL, &n, ad, (int)ad_len), 1);
    assert_int_equal(EVP_CipherUpdate(c, out + 16, &n, in, (int)len), 1);
    assert_int_equal(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, 16, out), 1);
    EVP_CIPHER_CTX_free(c);
    EVP_CIPHER_free(cipher);
}

/* Volumes were written with libcrypto's. */
static void test_siv_as_libcrypto(void **state)
{
    struct rng rng = {77};
    for (size_t len = 1; len <= NAME_PLAIN_MAX; len++) {
        uint8_t key[SIV_KEY_BYTES], ad[ID_BYTES + 1], in[NAME_PLAIN_MAX], one[16 + sizeof in],
            other[16 + sizeof in];
        size_t ad_len = len % 2 ? ID_BYTES : 1 + len % sizeof ad;
        rng_fill(&rng, key, sizeof key);
        rng_fill(&rng, ad, sizeof ad);
        rng_fill(&rng, in, len);
        assert_int_equal(siv_seal(key, ad, ad_len, in, len, one), 0);
        other_seal(key, ad, ad_len, in, len, other);
        assert_memory_equal(one, other, 16 + len);
        assert_int_equal(siv_open(key, ad, ad_len, other, 16 + len, one), 0);
        assert_memory_equal(one, in, len);
        other[rng_below(&rng, 16 + len)] ^= 4;
        assert_int_equal(siv_open(key, ad, ad_len, other, 16 + len, one), LFS_ERR_AUTH);
    }
}

/* More keys than a thread caches, in turns, with the cache dropped now and then by another thread. */
static void *use_many_keys(void *arg)
{
    struct rng rng = {(uint64_t)(uintptr_t)arg};
    for (int i = 0; i < 400; i++) {
        uint8_t key[SIV_KEY_BYTES] = {(uint8_t)rng_below(&rng, 9)}, raw[64], back[48];
        size_t len = 1 + rng_below(&rng, sizeof back);
        rng_fill(&rng, back, len);
        uint8_t *plain = exact_copy(back, len);
        bool ok = siv_seal(key, "dir", 3, plain, len, raw) == 0 &&
                  siv_open(key, "dir", 3, raw, 16 + len, back) == 0 && memcmp(plain, back, len) == 0;
        key[5] = 1;
        ok = ok && siv_open(key, "dir", 3, raw, 16 + len, back) == LFS_ERR_AUTH;
        free(plain);
        if (!ok)
            return NULL;
        if (i % 50 == 0)
            siv_forget();
    }
    return arg;
}

static void test_cached_keys_in_threads(void **state)
{
    pthread_t t[4];
    for (uintptr_t i = 0; i < COUNT(t); i++)
        assert_int_equal(pthread_create(&t[i], NULL, use_many_keys, (void *)(i + 1)), 0);
    for (uintptr_t i = 0; i < COUNT(t); i++) {
        void *result;
        assert_int_equal(pthread_join(t[i], &result), 0);
        assert_ptr_equal(result, (void *)(i + 1));
    }
    assert_ptr_equal(use_many_keys((void *)9), (void *)9);
}

static void test_child_starts_anew(void **state)
{
    struct cipher_name c;
    int status;
    assert_int_equal(name_encrypt(&keys, names_dir_id, "hello world.txt", &c), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct cipher_name again;
        siv_forget();
        _exit(name_encrypt(&keys, names_dir_id, "hello world.txt", &again) ||
              strcmp(again.encoded, c.encoded) != 0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_subkeys),
        cmocka_unit_test(test_b64_known_answers),
        cmocka_unit_test(test_b64_is_strict),
        cmocka_unit_test(test_b64_round_trips),
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_refused_plain_names),
        cmocka_unit_test(test_refused_decrypted_names),
        cmocka_unit_test(test_bound_to_directory_and_key),
        cmocka_unit_test(test_damaged_names),
        cmocka_unit_test(test_stored_kinds),
        cmocka_unit_test(test_siv_limits),
        cmocka_unit_test(test_siv_as_libcrypto),
        cmocka_unit_test(test_cached_keys_in_threads),
        cmocka_unit_test(test_child_starts_anew),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
