/* The codec of latchfs.ini. */
#include "store_support.h"

#include "keystore_vector.h"

static struct store_text store; /* two slots, no more */
static struct opened full;      /* every kind of section */

static int setup(void **state)
{
    static const uint8_t seed[32] = {7};
    uint8_t public_key[32];
    struct secret *key_file = key_file_of(1);
    (void)state;
    store = make_store();
    crypto_scalarmult_base(public_key, seed);
    full = make_full(key_file, public_key);
    secret_free(key_file);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    drop_store(&store);
    drop_opened(&full);
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

/* The text with the first `from` replaced. */
static char *replaced_in(const char *ini, size_t ini_len, const char *from, const char *to, size_t *len)
{
    const char *at = memmem(ini, ini_len, from, strlen(from));
    if (!at)
        fail_msg("the store has no %s", from);
    size_t head = (size_t)(at - ini), n = strlen(from), m = strlen(to);
    char *out = malloc(ini_len + m + 1);
    assert_non_null(out);
    memcpy(out, ini, head);
    memcpy(out + head, to, m);
    memcpy(out + head + m, at + n, ini_len - head - n);
    *len = ini_len - n + m;
    return out;
}

static char *replaced(const char *from, const char *to, size_t *len)
{
    return replaced_in(store.ini, store.len, from, to, len);
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

static const struct keystore_dir *dir_where(const struct keystore *ks, bool shredded, bool held, bool named)
{
    for (uint32_t i = 0; i < ks->dir_count; i++) {
        const struct keystore_dir *d = &ks->dirs[i];
        if (d->shredded == shredded && d->held == held && d->named == named)
            return d;
    }
    fail_msg("no such directory");
    return NULL;
}

static void round_trip_of_everything(void **state)
{
    struct keystore *ks;
    char *text;
    size_t len;
    assert_int_equal(keystore_parse(full.ini, full.len, &ks, NULL), 0);
    assert_string_equal(ks->environment, "production");
    assert_int_equal(ks->slot_count, 5);
    assert_int_equal(ks->slots[3].type, SLOT_RECIPIENT);
    assert_true(sodium_is_zero(ks->slots[3].sealed, sizeof ks->slots[3].sealed));
    assert_string_equal(ks->slots[3].label, "officer");
    assert_int_equal(ks->slots[4].type, SLOT_COMMAND);
    assert_string_equal(ks->slots[4].command, "clevis");
    assert_int_equal(ks->slots[4].blob_len, 300);
    for (unsigned i = 0; i < 300; i++)
        assert_int_equal(ks->slots[4].blob[i], (uint8_t)(i * 7));
    assert_int_equal(ks->masters[0].state, KEY_DESTROYED);
    assert_int_equal(dir_where(ks, true, false, false)->keys[0].state, KEY_DESTROYED);
    assert_true(dir_where(ks, false, true, true)->least == 1);
    const struct keystore_dir *d = dir_where(ks, false, false, true);
    assert_int_equal(d->least, 2);
    assert_int_equal(d->data_version, 3);
    assert_int_equal(d->keys[0].state, KEY_DESTROYED);
    assert_int_equal(ks->next_backup, 3);
    assert_string_equal(ks->backups[0].label, "tape 7");
    assert_int_equal(ks->backups[0].need_count, 3);
    assert_int_equal(ks->backups[1].needs[1].most, 3);
    assert_int_equal(keystore_encode(ks, &text, &len), 0);
    assert_true(len < full.len && memcmp(text, full.ini, len) == 0);
    free(text);
    keystore_free(ks);
}

/* A file from before these sections stays the same, byte for byte. */
static void older_files_stay(void **state)
{
    struct keystore *ks;
    char *text;
    size_t len;
    assert_int_equal(keystore_parse(vector_keystore, sizeof vector_keystore - 1, &ks, NULL), 0);
    assert_int_equal(keystore_encode(ks, &text, &len), 0);
    assert_memory_equal(text, vector_keystore, len);
    assert_true(keystore_signed_by(vector_keystore, sizeof vector_keystore - 1, ks->signing_public));
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

/* Parses and is signed: what anybody would believe. */
static bool believed(const char *text, size_t len)
{
    struct keystore *ks = NULL;
    bool yes = keystore_parse(text, len, &ks, NULL) == 0 && keystore_signed_by(text, len, ks->signing_public);
    keystore_free(ks);
    return yes;
}

/* No changed file is both taken and signed. */
static void flip_bits(const char *ini, size_t len, int times)
{
    struct rng rng = {2026};
    char *text = exact_copy(ini, len);
    for (int i = 0; i < times; i++) {
        size_t at = rng_below(&rng, len);
        char bit = (char)(1 << rng_below(&rng, 8));
        text[at] ^= bit;
        assert_false(believed(text, len));
        text[at] ^= bit;
    }
    free(text);
}

static void bit_flips(void **state)
{
    flip_bits(store.ini, store.len, 4000);
    flip_bits(full.ini, full.len, 8000);
}

static void truncations(void **state)
{
    for (size_t len = 0; len < store.len; len += len < 300 ? 1 : 7)
        assert_int_not_equal(parse(store.ini, len, NULL), 0);
    for (size_t len = 0; len < full.len; len += 3)
        assert_int_not_equal(parse(full.ini, len, NULL), 0);
}

/* Lines that change places, come twice or go. An optional one may be missing, but then nobody signed it. */
static void lines_moved(void **state)
{
    struct rng rng = {7};
    char *text = malloc(full.len + 200);
    assert_non_null(text);
    for (int i = 0; i < 3000; i++) {
        size_t a = rng_below(&rng, full.len - 1), b = rng_below(&rng, full.len - 1);
        while (a && full.ini[a - 1] != '\n')
            a--;
        while (b && full.ini[b - 1] != '\n')
            b--;
        size_t n = (size_t)((char *)memchr(full.ini + a, '\n', full.len - a) + 1 - (full.ini + a));
        bool drop = rng_below(&rng, 3) == 0;
        size_t head = drop ? a : b, tail = drop ? a + n : b;
        memcpy(text, full.ini, head);
        memcpy(text + head, full.ini + a, drop ? 0 : n);
        memcpy(text + head + (drop ? 0 : n), full.ini + tail, full.len - tail);
        assert_false(believed(text, full.len - (tail - head) + (drop ? 0 : n)));
    }
    free(text);
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

/* In the store that has everything. */
static void refuses_in_full(void **state)
{
    static const struct {
        const char *from, *to;
    } cases[] = {
        {"environment = production\n", "environment = prod=1\n"},
        {"environment = production\n", ""}, /* parses, but is not what was signed: see below */
        {"next-backup = 3\n", "next-backup = 2\n"},
        {"next-backup = 3\n", "next-backup = 0\n"},
        {"type = recipient\n", "type = keyfile\n"},
        {"type = recovery\n", "type = recipient\n"},
        {"type = command\n", "type = keyfile\n"},
        {"type = keyfile\n", "type = command\n"},
        {"command = clevis\n", "command = Clevis\n"},
        {"command = clevis\n", "command = ../clevis\n"},
        {"command = clevis\n", ""},
        {"blob.1 = ", "blob.2 = "},
        {"blob.4 = ", "blob.5 = "},
        {"blob.4 = ", "blob.04 = "},
        {"[master 1]\nstate = destroyed\n", "[master 1]\nstate = retired\n"},
        {"[master 2]\nstate = active\n", "[master 2]\nstate = destroyed\n"},
        {"[journal]\nmaster = 2\n", "[journal]\nmaster = 1\n"},
        {"shredded = yes\n", ""},
        {"shredded = yes\n", "shredded = yes\nleast = 1\n"},
        {"held = yes\n", "shredded = yes\nheld = yes\n"},
        {"data-version = 3\n", "data-version = 4\n"},
        {"name-version = 3\n", "name-version = 1\n"},
        {"[backup 1]\n", "[backup 3]\n"},
        {"[backup 1]\n", "[backup 2]\n"},
        {"[backup 1]\n", "[backup 0]\n"},
        {"[need 1 ", "[need 2 "},
        {"master-least = 2\n", "master-least = 3\n"},
        {"master-least = 2\n", "master-least = 0\n"},
        {"least = 2\nmost = 3\n", "least = 4\nmost = 3\n"},
        {"label = tape 7\n", "label = tape;7\n"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        size_t len;
        struct keystore *ks = NULL;
        char *text = replaced_in(full.ini, full.len, cases[i].from, cases[i].to, &len);
        int r = keystore_parse(text, len, &ks, NULL);
        if (believed(text, len) || (r == 0 && i != 1))
            fail_msg("%s instead of %s gave %d", cases[i].to, cases[i].from, r);
        keystore_free(ks);
        free(text);
    }
}

static void blobs_are_limited(void **state)
{
    char line[160], *text, *grown;
    size_t len, n = 0;
    memset(line, 'A', 128);
    line[128] = '\0';
    char *pieces = malloc(140 * 150);
    assert_non_null(pieces);
    for (unsigned i = 1; i <= 129; i++)
        n += (size_t)sprintf(pieces + n, "blob.%u = %s\n", i, line);
    text = replaced_in(full.ini, full.len, "blob.1 = ", "blob.1 = A\nblob.1 = ", &len);
    assert_int_equal(parse(text, len, NULL), LFS_ERR_CORRUPT);
    free(text);
    /* too many pieces in place of the blob */
    const char *at = memmem(full.ini, full.len, "blob.1 = ", 9);
    const char *end = memmem(at, full.len - (size_t)(at - full.ini), "store-key.1", 11);
    size_t head = (size_t)(at - full.ini), tail = full.len - (size_t)(end - full.ini);
    grown = malloc(full.len + n);
    assert_non_null(grown);
    memcpy(grown, full.ini, head);
    for (int whole = 0; whole < 2; whole++) {
        size_t cut = n - (whole ? 0 : strlen("blob.129 = \n") + 128); /* 128 pieces are as many as may be */
        memcpy(grown + head, pieces, cut);
        memcpy(grown + head + cut, end, tail);
        assert_int_equal(parse(grown, head + cut + tail, NULL), whole ? LFS_ERR_CORRUPT : 0);
    }
    free(grown);
    free(pieces);
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
    assert_true(keystore_command_ok("a"));
    assert_false(keystore_command_ok("a_b"));
    assert_false(keystore_label_ok("0123456789012345678901234567890123456789012345678901234567890123456"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),       cmocka_unit_test(round_trip_of_everything),
        cmocka_unit_test(older_files_stay), cmocka_unit_test(lines_moved),
        cmocka_unit_test(refuses_in_full),  cmocka_unit_test(blobs_are_limited),
        cmocka_unit_test(many_directories), cmocka_unit_test(bit_flips),
        cmocka_unit_test(truncations),      cmocka_unit_test(refuses),
        cmocka_unit_test(names_the_line),   cmocka_unit_test(refuses_long_lines),
        cmocka_unit_test(refuses_oversize), cmocka_unit_test(labels),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
