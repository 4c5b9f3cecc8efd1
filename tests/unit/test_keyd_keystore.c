/* The codec of latchfs.ini. */
#include "keyd_support.h"

static struct store_text store;

static int setup(void **state)
{
    (void)state;
    store = make_store();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    drop_store(&store);
    return 0;
}

/* What keystore_parse says to a text on the heap, exactly as long. */
static int parse(const char *text, size_t len, unsigned *line)
{
    char *exact = exact_copy(text, len);
    struct keystore *ks = NULL;
    int r = keystore_parse(exact, len, &ks, line);
    assert_true(r == 0 ? ks != NULL : ks == NULL);
    keystore_free(ks);
    free(exact);
    return r;
}

/* The store with the first `from` replaced. */
static char *replaced(const char *from, const char *to, size_t *len)
{
    char *at = memmem(store.ini, store.len, from, strlen(from));
    assert_non_null(at);
    size_t head = (size_t)(at - store.ini), n = strlen(from), m = strlen(to);
    char *out = malloc(store.len + m + 1);
    assert_non_null(out);
    memcpy(out, store.ini, head);
    memcpy(out + head, to, m);
    memcpy(out + head + m, at + n, store.len - head - n);
    *len = store.len - n + m;
    return out;
}

static void round_trip(void **state)
{
    struct keystore *ks;
    char *text;
    size_t len;
    assert_int_equal(keystore_parse(store.ini, store.len, &ks, NULL), 0);
    assert_int_equal(ks->slot_count, 2);
    assert_int_equal(ks->slots[0].type, SLOT_PASSPHRASE);
    assert_string_equal(ks->slots[0].label, "first");
    assert_true(ks->slots[0].fast);
    assert_int_equal(ks->slots[1].type, SLOT_RECOVERY);
    assert_int_equal(ks->dir_count, 1);
    assert_ptr_equal(keystore_dir(ks, NULL), ks->dirs);
    assert_true(keystore_signed_by(store.ini, store.len, ks->signing_public));
    assert_int_equal(keystore_encode(ks, &text, &len), 0);
    assert_true(len < store.len && memcmp(text, store.ini, len) == 0);
    free(text);
    keystore_free(ks);
}

static void many_directories(void **state)
{
    struct keystore *ks, *back;
    char *ini;
    size_t len;
    uint8_t secret_key[64] = {1};
    assert_int_equal(keystore_parse(store.ini, store.len, &ks, NULL), 0);
    for (uint32_t i = 1; i < KEYSTORE_DIRS_MAX; i++) {
        struct keystore_dir *d = keystore_add_dir(ks);
        assert_non_null(d);
        *d = ks->dirs[0];
        d->id[0] = (uint8_t)i;
        d->id[1] ^= 0x55;
    }
    assert_null(keystore_add_dir(ks));
    assert_int_equal(keystore_encode_signed(ks, secret_key, &ini, &len), 0);
    assert_int_equal(keystore_parse(ini, len, &back, NULL), 0);
    assert_int_equal(back->dir_count, KEYSTORE_DIRS_MAX);
    keystore_free(back);
    keystore_free(ks);
    free(ini);
}

/* No changed file is both taken and signed. */
static void bit_flips(void **state)
{
    struct rng rng = {2026};
    char *text = exact_copy(store.ini, store.len);
    struct keystore *ks = NULL;
    for (int i = 0; i < 4000; i++) {
        size_t at = rng_below(&rng, store.len);
        char bit = (char)(1 << rng_below(&rng, 8));
        text[at] ^= bit;
        if (keystore_parse(text, store.len, &ks, NULL) == 0) {
            assert_false(keystore_signed_by(text, store.len, ks->signing_public));
            keystore_free(ks);
        }
        text[at] ^= bit;
    }
    free(text);
}

static void truncations(void **state)
{
    for (size_t len = 0; len < store.len; len += len < 300 ? 1 : 7)
        assert_int_not_equal(parse(store.ini, len, NULL), 0);
}

static void refuses(void **state)
{
    static const struct {
        const char *from, *to;
        int err;
    } cases[] = {
        {"format = 1\n", "format = 2\n", LFS_ERR_UNSUPPORTED},
        {"suite = aes-256-gcm\n", "suite = rot13\n", LFS_ERR_UNSUPPORTED},
        {"suite = aes-256-gcm\n", "suite = auto\n", LFS_ERR_UNSUPPORTED},
        {"format = 1\n", "", LFS_ERR_CORRUPT},
        {"format = 1\n", "format = 01\n", LFS_ERR_CORRUPT},
        {"format = 1\n", "format =  1\n", LFS_ERR_CORRUPT},
        {"format = 1\n", "format=1\n", LFS_ERR_CORRUPT},
        {"format = 1\n", "format = 1\r\n", LFS_ERR_CORRUPT},
        {"format = 1\n", "format = 1\n\n", LFS_ERR_CORRUPT},
        {"format = 1\n", "# note\nformat = 1\n", LFS_ERR_CORRUPT},
        {"format = 1\n", "format = 1 ; note\n", LFS_ERR_CORRUPT},
        {"format = 1\n", "format = 1\nformat = 1\n", LFS_ERR_CORRUPT},
        {"format = 1\n", "format = 1\n more = 1\n", LFS_ERR_CORRUPT},
        {"format = 1\n", "format = 1\nunknown = 1\n", LFS_ERR_CORRUPT},
        {"generation = 1\n", "generation = 0\n", LFS_ERR_CORRUPT},
        {"generation = 1\n", "generation = 9999999999999999999\n", LFS_ERR_CORRUPT},
        {"[slot 1]\n", "[slot 2]\n", LFS_ERR_CORRUPT},
        {"[slot 1]\n", "[slot 3]\n", LFS_ERR_CORRUPT},
        {"[slot 1]\n", "[slot 01]\n", LFS_ERR_CORRUPT},
        {"[slot 1]\n", "[slot]\n", LFS_ERR_CORRUPT},
        {"[slot 1]\n", "[vault]\n", LFS_ERR_CORRUPT},
        {"type = passphrase\n", "type = telepathy\n", LFS_ERR_CORRUPT},
        {"type = passphrase\n", "type = keyfile\n", LFS_ERR_CORRUPT}, /* has parameters of Argon2id */
        {"passes = 3\n", "passes = 2\n", LFS_ERR_CORRUPT},
        {"passes = 3\n", "passes = 65\n", LFS_ERR_CORRUPT},
        {"memory-kib = 65536\n", "memory-kib = 65535\n", LFS_ERR_CORRUPT},
        {"memory-kib = 65536\n", "memory-kib = 1048577\n", LFS_ERR_CORRUPT},
        {"memory-kib = 65536\n", "memory-kib = 4294967295\n", LFS_ERR_CORRUPT},
        {"passes = 3\nmemory-kib = 65536\n", "passes = 9\nmemory-kib = 1048576\n", LFS_ERR_CORRUPT},
        {"fast = yes\n", "fast = no\n", LFS_ERR_CORRUPT},
        {"label = first\n", "label = fi:rst\n", LFS_ERR_CORRUPT},
        {"sealed.1 = ", "sealed.3 = ", LFS_ERR_CORRUPT},
        {"state = active\n", "state = retired\n", LFS_ERR_CORRUPT},
        {"[master 1]\n", "[master 2]\n", LFS_ERR_CORRUPT},
        {"[journal]\nmaster = 1\n", "[journal]\nmaster = 2\n", LFS_ERR_CORRUPT},
        {"least = 1\n", "least = 2\n", LFS_ERR_CORRUPT},
        {"name-version = 1\n", "name-version = 2\n", LFS_ERR_CORRUPT},
        {"[signature]\n", "[signature]\n[signature]\n", LFS_ERR_CORRUPT},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        size_t len;
        char *text = replaced(cases[i].from, cases[i].to, &len);
        int r = parse(text, len, NULL);
        if (r != cases[i].err)
            fail_msg("%s instead of %s gave %d", cases[i].to, cases[i].from, r);
        free(text);
    }
}

static void names_the_line(void **state)
{
    size_t len;
    unsigned line = 0;
    char *text = replaced("suite = aes-256-gcm\n", "suite = aes-256-gcm\x7f\n", &len);
    assert_int_equal(parse(text, len, &line), LFS_ERR_CORRUPT);
    assert_int_equal(line, 5);
    free(text);
}

static void refuses_long_lines(void **state)
{
    char line[256] = "label = ", *text;
    size_t len;
    memset(line + 8, 'a', 200);
    strcpy(line + 208, "\n");
    text = replaced("label = first\n", line, &len);
    assert_int_equal(parse(text, len, NULL), LFS_ERR_CORRUPT);
    free(text);
}

static void refuses_oversize(void **state)
{
    size_t len = KEYSTORE_MAX_BYTES + 1;
    char *text = malloc(len);
    assert_non_null(text);
    for (size_t i = 0; i < len; i++)
        text[i] = store.ini[i % store.len];
    assert_int_equal(parse(text, len, NULL), LFS_ERR_CORRUPT);
    free(text);
}

static void labels(void **state)
{
    assert_false(keystore_label_ok("ann (home)"));
    assert_true(keystore_label_ok("ann@home laptop-2"));
    assert_false(keystore_label_ok(""));
    assert_false(keystore_label_ok(" a"));
    assert_false(keystore_label_ok("a "));
    assert_false(keystore_label_ok("a\nb"));
    assert_false(keystore_label_ok("a;b"));
    assert_false(keystore_label_ok("0123456789012345678901234567890123456789012345678901234567890123456"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(many_directories),
        cmocka_unit_test(bit_flips),
        cmocka_unit_test(truncations),
        cmocka_unit_test(refuses),
        cmocka_unit_test(names_the_line),
        cmocka_unit_test(refuses_long_lines),
        cmocka_unit_test(refuses_oversize),
        cmocka_unit_test(labels),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
