#include "format_vectors.h"
#include "latchfs/aead.h"
#include "latchfs/err.h"
#include "latchfs/header.h"
#include "support.h"

static void flip(uint8_t *p, size_t bit)
{
    p[bit / 8] ^= (uint8_t)(1 << bit % 8);
}

static struct file_header decoded(const uint8_t *bytes)
{
    struct file_header h;
    assert_int_equal(header_decode(bytes, &h), 0);
    return h;
}

static void test_subkeys(void **state)
{
    static const uint8_t *const want[] = {subkey_file_1, subkey_file_2, subkey_file_3, subkey_file_4};
    uint8_t out[LFS_KEY_BYTES];
    for (int i = 0; i < 4; i++) {
        file_subkey(subkey_root, (enum file_subkey)(i + 1), out);
        assert_memory_equal(out, want[i], sizeof out);
    }
}

/* The order of trust: decode, unwrap, check the MAC. */
static int trust(const uint8_t *bytes, const uint8_t *dir_key, struct file_header *h)
{
    uint8_t file_key[LFS_KEY_BYTES], mac_key[LFS_KEY_BYTES];
    int err = header_decode(bytes, h);
    if (!err)
        err = header_unwrap_key(h, header_newest(h), dir_key, file_key);
    if (err)
        return err;
    file_subkey(file_key, FILE_SUB_HEADER, mac_key);
    return header_check_mac(h, mac_key);
}

static void test_known_inline(void **state)
{
    struct file_header h;
    uint8_t key[LFS_KEY_BYTES], out[HEADER_BYTES], rec[RECORD_BYTES];
    assert_int_equal(trust(header_inline_bytes, header_inline_dir_key, &h), 0);
    assert_int_equal(h.suite, SUITE_AES_256_GCM);
    assert_int_equal(h.state, FILE_INLINE);
    assert_int_equal(h.flags, 0);
    assert_memory_equal(h.file_id, header_inline_file_id, ID_BYTES);
    assert_memory_equal(h.pd_id, header_inline_pd_id, ID_BYTES);
    assert_int_equal(h.key_version, 0x01020304);
    assert_int_equal(h.place[0].epoch, 3);
    assert_int_equal(h.place[1].epoch, 0);
    assert_int_equal(h.size, 1000);
    assert_int_equal(h.chunk_writes, 5);
    assert_int_equal(h.generation, 6);
    assert_int_equal(h.seal_state, SEAL_OPEN);
    assert_int_equal(h.seal_generation, 9);
    record_encode(&h.inline_record, rec);
    assert_memory_equal(rec, header_inline_record, RECORD_BYTES);
    assert_int_equal(header_unwrap_key(&h, 0, header_inline_dir_key, key), 0);
    assert_memory_equal(key, header_inline_file_key_0, sizeof key);
    assert_int_equal(header_unwrap_key(&h, 1, header_inline_dir_key, key), LFS_ERR_MISUSE);
    header_encode(&h, out);
    assert_memory_equal(out, header_inline_bytes, HEADER_BYTES);
}

static void test_known_paged(void **state)
{
    struct file_header h;
    uint8_t key[LFS_KEY_BYTES], out[HEADER_BYTES];
    assert_int_equal(trust(header_paged_bytes, header_paged_dir_key, &h), 0);
    assert_int_equal(h.suite, SUITE_CHACHA20_POLY1305);
    assert_int_equal(h.state, FILE_PAGED);
    assert_true(h.size == UINT64_C(1) << 40);
    assert_true(h.chunk_writes == UINT64_C(1) << 33);
    assert_true(h.generation == (UINT64_C(1) << 50) + 1);
    assert_int_equal(h.seal_state, SEAL_SEALED);
    assert_int_equal(h.seal_generation, 77);
    assert_memory_equal(h.seal_root, header_paged_root, 32);
    assert_memory_equal(h.home[0], header_paged_home_0, ID_BYTES);
    assert_memory_equal(h.home[1], header_paged_home_1, ID_BYTES);
    assert_true(record_is_hole(&h.inline_record));
    assert_int_equal(header_newest(&h), 1);
    assert_int_equal(header_place(&h, 8), 0);
    assert_int_equal(header_place(&h, 9), 1);
    assert_int_equal(header_place(&h, 0), -1);
    assert_int_equal(header_place(&h, 10), -1);
    assert_int_equal(header_unwrap_key(&h, 0, header_paged_dir_key, key), 0);
    assert_memory_equal(key, header_paged_file_key_0, sizeof key);
    assert_int_equal(header_unwrap_key(&h, 1, header_paged_dir_key, key), 0);
    assert_memory_equal(key, header_paged_file_key_1, sizeof key);
    header_encode(&h, out);
    assert_memory_equal(out, header_paged_bytes, HEADER_BYTES);
}

static void test_wrap_and_mac(void **state)
{
    static const uint8_t dir_key[32] = {1}, file_key[32] = {2}, mac_key[32] = {3}, other[32] = {4};
    struct file_header h = {.suite = 1, .state = FILE_INLINE, .key_version = 7}, wrong;
    uint8_t out[32], bytes[HEADER_BYTES];
    assert_int_equal(header_wrap_key(&h, 2, 1, dir_key, file_key), LFS_ERR_MISUSE);
    assert_int_equal(header_wrap_key(&h, 0, 0, dir_key, file_key), LFS_ERR_MISUSE);
    assert_int_equal(header_wrap_key(&h, 1, 5, dir_key, file_key), 0);
    assert_int_equal(h.place[1].epoch, 5);
    assert_int_equal(header_newest(&h), 1);
    header_set_mac(&h, mac_key);
    header_encode(&h, bytes);
    h = decoded(bytes);
    assert_int_equal(header_check_mac(&h, mac_key), 0);
    assert_int_equal(header_check_mac(&h, other), LFS_ERR_AUTH);
    assert_int_equal(header_unwrap_key(&h, 1, dir_key, out), 0);
    assert_memory_equal(out, file_key, 32);
    assert_int_equal(header_unwrap_key(&h, 1, other, out), LFS_ERR_AUTH);
    wrong = h;
    wrong.key_version = 8;
    assert_int_equal(header_unwrap_key(&wrong, 1, dir_key, out), LFS_ERR_AUTH);
    wrong = h;
    wrong.place[0] = h.place[1]; /* from one place to the other */
    assert_int_equal(header_unwrap_key(&wrong, 0, dir_key, out), LFS_ERR_AUTH);
    wrong = h;
    wrong.size = 1;
    assert_int_equal(header_check_mac(&wrong, mac_key), LFS_ERR_AUTH);
}

/* What has no meaning in a state is written as zeros, whatever the struct holds. */
static void test_encode_is_canonical(void **state)
{
    struct file_header h = decoded(header_paged_bytes);
    uint8_t bytes[HEADER_BYTES];
    h.seal_state = SEAL_OPEN;
    memset(&h.inline_record, 5, sizeof h.inline_record);
    h.place[0].epoch = 0;
    header_encode(&h, bytes);
    h = decoded(bytes);
    assert_true(record_is_hole(&h.inline_record));
    assert_int_equal(h.place[0].wrapped[0], 0);
    assert_int_equal(h.seal_root[0], 0);
}

static void expect(const struct file_header *h, int want)
{
    uint8_t bytes[HEADER_BYTES];
    struct file_header out = {.size = 4242};
    header_encode(h, bytes);
    assert_int_equal(header_decode(bytes, &out), want);
    if (want)
        assert_int_equal(out.size, 4242); /* untouched by a failure */
}

static void test_impossible_fields(void **state)
{
    struct file_header inl = decoded(header_inline_bytes), paged = decoded(header_paged_bytes), h;
    h = inl;
    h.suite = 3;
    expect(&h, LFS_ERR_UNSUPPORTED);
    h = inl;
    h.flags = 1;
    expect(&h, LFS_ERR_UNSUPPORTED);
    h = inl;
    h.state = 0;
    expect(&h, LFS_ERR_CORRUPT);
    h = inl;
    h.state = 3;
    expect(&h, LFS_ERR_CORRUPT);
    h = inl;
    h.key_version = 0;
    expect(&h, LFS_ERR_CORRUPT);
    h = inl;
    h.place[0].epoch = 0;
    expect(&h, LFS_ERR_CORRUPT); /* no key at all */
    h = inl;
    h.place[1] = inl.place[0];
    expect(&h, LFS_ERR_CORRUPT); /* the same epoch twice */
    h = inl;
    h.size = 999;
    expect(&h, LFS_ERR_CORRUPT); /* not the inline record's length */
    h = inl;
    h.inline_record.epoch = 4;
    expect(&h, LFS_ERR_CORRUPT); /* no place has that epoch */
    h = inl;
    h.inline_record.epoch = 0;
    expect(&h, LFS_ERR_CORRUPT);
    h = inl;
    h.size = h.inline_record.length = INLINE_MAX + 1;
    expect(&h, LFS_ERR_CORRUPT);
    h = inl;
    h.size = h.inline_record.length = INLINE_MAX;
    expect(&h, 0);
    h = inl;
    h.size = h.inline_record.length = 0;
    expect(&h, 0); /* an empty message */
    memset(&h.inline_record, 0, sizeof h.inline_record);
    expect(&h, 0); /* and none at all */
    h = inl;
    h.seal_state = 2;
    expect(&h, LFS_ERR_CORRUPT);
    h = paged;
    h.size = FILE_SIZE_MAX + 1;
    expect(&h, LFS_ERR_CORRUPT);
    h = paged;
    h.size = FILE_SIZE_MAX;
    expect(&h, 0);
    h = paged;
    h.size = 0;
    expect(&h, 0);
}

static void test_magic_and_version(void **state)
{
    struct file_header h;
    uint8_t bytes[HEADER_BYTES] = {0};
    assert_int_equal(header_decode(bytes, &h), LFS_ERR_CORRUPT);
    memcpy(bytes, header_paged_bytes, sizeof bytes);
    bytes[8] = 2;
    assert_int_equal(header_decode(bytes, &h), LFS_ERR_UNSUPPORTED);
    bytes[7] = 'M';
    assert_int_equal(header_decode(bytes, &h), LFS_ERR_CORRUPT);
}

/* Flips every single bit, cuts at every length (zeros behind): nothing passes the three steps. */
static void run_damage(const uint8_t *good, const uint8_t *dir_key)
{
    struct file_header h;
    uint8_t *bytes = exact_copy(good, HEADER_BYTES);
    for (size_t bit = 0; bit < HEADER_BYTES * 8; bit++) {
        flip(bytes, bit);
        int err = trust(bytes, dir_key, &h);
        assert_true(err == LFS_ERR_CORRUPT || err == LFS_ERR_UNSUPPORTED || err == LFS_ERR_AUTH);
        flip(bytes, bit);
    }
    assert_int_equal(trust(bytes, dir_key, &h), 0);
    for (size_t len = HEADER_BYTES; len-- > 0;) {
        bytes[len] = 0;
        if (memcmp(bytes, good, HEADER_BYTES) != 0)
            assert_true(trust(bytes, dir_key, &h) < 0);
    }
    free(bytes);
}

static void test_damage(void **state)
{
    run_damage(header_inline_bytes, header_inline_dir_key);
    run_damage(header_paged_bytes, header_paged_dir_key);
}

/* Whatever decodes encodes to the same bytes again: no two byte strings mean the same header. */
static void test_random_damage_is_canonical(void **state)
{
    struct rng rng = {8};
    unsigned accepted = 0;
    for (int i = 0; i < 20000; i++) {
        uint8_t bytes[HEADER_BYTES], again[HEADER_BYTES];
        struct file_header h;
        memcpy(bytes, i % 2 ? header_inline_bytes : header_paged_bytes, sizeof bytes);
        for (uint64_t n = 1 + rng_below(&rng, 4); n > 0; n--)
            flip(bytes, rng_below(&rng, sizeof bytes * 8));
        if (header_decode(bytes, &h))
            continue;
        accepted++;
        header_encode(&h, again);
        assert_memory_equal(again, bytes, sizeof bytes);
    }
    assert_true(accepted > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_subkeys),
        cmocka_unit_test(test_known_inline),
        cmocka_unit_test(test_known_paged),
        cmocka_unit_test(test_wrap_and_mac),
        cmocka_unit_test(test_encode_is_canonical),
        cmocka_unit_test(test_impossible_fields),
        cmocka_unit_test(test_magic_and_version),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_random_damage_is_canonical),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
