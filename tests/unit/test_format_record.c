#include "format_vectors.h"
#include "latchfs/err.h"
#include "latchfs/record.h"
#include "support.h"

static void flip(uint8_t *p, size_t bit)
{
    p[bit / 8] ^= (uint8_t)(1 << bit % 8);
}

static struct content_ad ad_of(const struct content_vector *v)
{
    return (struct content_ad){.kind = (uint8_t)v->kind,
                               .suite = (uint8_t)v->suite,
                               .epoch = (uint16_t)v->epoch,
                               .file_id = content_file_id,
                               .index = v->index};
}

/* The record of an empty inline message is read by the header, not by record_decode. */
static struct record read_record(const uint8_t *in)
{
    struct record r = {.length = (uint16_t)(in[28] | in[29] << 8), .epoch = (uint16_t)(in[30] | in[31] << 8)};
    memcpy(r.nonce, in, NONCE_BYTES);
    memcpy(r.tag, in + NONCE_BYTES, TAG_BYTES);
    return r;
}

static void test_known_answers(void **state)
{
    struct aead *a = aead_new();
    for (size_t i = 0; i < COUNT(content_vectors); i++) {
        const struct content_vector *v = &content_vectors[i];
        struct content_ad ad = ad_of(v);
        struct record r = read_record(v->record), decoded;
        uint8_t bytes[RECORD_BYTES], plain[PAGE_BYTES];
        assert_int_equal(record_decode(v->record, &decoded), v->len ? 0 : LFS_ERR_CORRUPT);
        if (v->len)
            assert_memory_equal(&decoded, &r, sizeof r);
        record_encode(&r, bytes);
        assert_memory_equal(bytes, v->record, RECORD_BYTES);
        assert_int_equal(r.length, v->len);
        assert_int_equal(aead_set_key(a, (enum suite)v->suite, content_key), 0);
        assert_int_equal(record_open(a, &ad, &r, v->cipher, plain), 0);
        assert_memory_equal(plain, v->plain, v->len);
    }
    aead_free(a);
}

static void test_seal_and_open(void **state)
{
    struct aead *a = aead_new();
    uint8_t plain[PAGE_BYTES], cipher[PAGE_BYTES], back[PAGE_BYTES];
    struct rng rng = {6};
    rng_fill(&rng, plain, sizeof plain);
    assert_int_equal(aead_set_key(a, SUITE_AES_256_GCM, content_key), 0);
    for (size_t len = 1; len <= PAGE_BYTES; len += 1 + len / 3) {
        struct content_ad ad = {KIND_CHUNK, SUITE_AES_256_GCM, 4, content_file_id, len};
        struct record r, again;
        assert_int_equal(record_seal(a, &ad, plain, len, cipher, &r), 0);
        assert_int_equal(r.length, len);
        assert_int_equal(r.epoch, 4);
        assert_int_equal(record_open(a, &ad, &r, cipher, back), 0);
        assert_memory_equal(back, plain, len);
        assert_int_equal(record_seal(a, &ad, plain, len, cipher, &again), 0);
        assert_memory_not_equal(r.nonce, again.nonce, NONCE_BYTES);
    }
    aead_free(a);
}

static void test_bound_to_its_place(void **state)
{
    struct aead *a = aead_new();
    uint8_t text[8] = "content", other_id[ID_BYTES], back[8];
    struct content_ad ad = {KIND_CHUNK, SUITE_AES_256_GCM, 4, content_file_id, 9}, wrong;
    struct record r;
    memcpy(other_id, content_file_id, ID_BYTES);
    other_id[15] ^= 1;
    assert_int_equal(aead_set_key(a, SUITE_AES_256_GCM, content_key), 0);
    assert_int_equal(record_seal(a, &ad, text, 8, text, &r), 0);
    wrong = ad;
    wrong.kind = KIND_INLINE;
    assert_int_equal(record_open(a, &wrong, &r, text, back), LFS_ERR_AUTH);
    wrong = ad;
    wrong.suite = SUITE_CHACHA20_POLY1305;
    assert_int_equal(record_open(a, &wrong, &r, text, back), LFS_ERR_AUTH);
    wrong = ad;
    wrong.file_id = other_id;
    assert_int_equal(record_open(a, &wrong, &r, text, back), LFS_ERR_AUTH);
    wrong = ad;
    wrong.index = 10;
    assert_int_equal(record_open(a, &wrong, &r, text, back), LFS_ERR_AUTH);
    struct record epoch = r;
    epoch.epoch = wrong.epoch = 5;
    wrong.index = 9;
    assert_int_equal(record_open(a, &wrong, &epoch, text, back), LFS_ERR_AUTH);
    assert_int_equal(record_open(a, &wrong, &r, text, back), LFS_ERR_MISUSE); /* record and caller differ */
    assert_int_equal(record_open(a, &ad, &r, text, back), 0);
    aead_free(a);
}

static void test_limits(void **state)
{
    struct aead *a = aead_new();
    uint8_t buf[PAGE_BYTES + 1] = {0};
    struct record r = {.length = 77};
    struct content_ad ad = {KIND_CHUNK, SUITE_AES_256_GCM, 1, content_file_id, 0};
    assert_int_equal(aead_set_key(a, SUITE_AES_256_GCM, content_key), 0);
    assert_int_equal(record_seal(a, &ad, buf, 0, buf, &r), LFS_ERR_MISUSE);
    assert_int_equal(record_seal(a, &ad, buf, PAGE_BYTES + 1, buf, &r), LFS_ERR_MISUSE);
    ad.kind = KIND_INLINE;
    assert_int_equal(record_seal(a, &ad, buf, INLINE_MAX + 1, buf, &r), LFS_ERR_MISUSE);
    ad.epoch = 0;
    assert_int_equal(record_seal(a, &ad, buf, 1, buf, &r), LFS_ERR_MISUSE);
    assert_int_equal(r.length, 77); /* untouched by failures */
    memset(&r, 0, sizeof r);
    ad.kind = KIND_CHUNK;
    assert_int_equal(record_open(a, &ad, &r, buf, buf), LFS_ERR_MISUSE); /* a hole */
    aead_free(a);
}

static void test_holes_and_bad_records(void **state)
{
    uint8_t in[RECORD_BYTES] = {0};
    struct record r = {.length = 5};
    assert_int_equal(record_decode(in, &r), 0);
    assert_true(record_is_hole(&r));
    for (size_t bit = 0; bit < 28 * 8; bit++) { /* neither hole nor complete */
        flip(in, bit);
        assert_int_equal(record_decode(in, &r), LFS_ERR_CORRUPT);
        flip(in, bit);
    }
    in[28] = 1;
    assert_int_equal(record_decode(in, &r), LFS_ERR_CORRUPT); /* no epoch */
    in[30] = 1;
    assert_int_equal(record_decode(in, &r), 0);
    assert_false(record_is_hole(&r));
    in[29] = 0x10;
    assert_int_equal(record_decode(in, &r), LFS_ERR_CORRUPT); /* 4097 */
    in[28] = 0;
    assert_int_equal(record_decode(in, &r), 0); /* 4096 */
    in[29] = 0;
    assert_int_equal(record_decode(in, &r), LFS_ERR_CORRUPT); /* an epoch and no length */
}

/* No bit of record or ciphertext can change unnoticed. */
static void test_every_bit_counts(void **state)
{
    struct aead *a = aead_new();
    const struct content_vector *v = &content_vectors[3]; /* one byte */
    uint8_t rec[RECORD_BYTES], cipher[PAGE_BYTES] = {0}, plain[PAGE_BYTES];
    struct content_ad ad = ad_of(v);
    memcpy(rec, v->record, sizeof rec);
    cipher[0] = v->cipher[0];
    assert_int_equal(aead_set_key(a, (enum suite)v->suite, content_key), 0);
    for (size_t bit = 0; bit < sizeof rec * 8; bit++) {
        struct record r;
        flip(rec, bit);
        int err = record_decode(rec, &r);
        if (!err) {
            ad.epoch = r.epoch;
            err = record_open(a, &ad, &r, cipher, plain);
        }
        assert_true(err == LFS_ERR_CORRUPT || err == LFS_ERR_AUTH);
        flip(rec, bit);
    }
    aead_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),         cmocka_unit_test(test_seal_and_open),
        cmocka_unit_test(test_bound_to_its_place),    cmocka_unit_test(test_limits),
        cmocka_unit_test(test_holes_and_bad_records), cmocka_unit_test(test_every_bit_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
