#include "latchfs/crc32c.h"
#include "support.h"

/* RFC 3720 appendix B.4, and the check value of the CRC catalogue. */
static void test_known_answers(void **state)
{
    uint8_t data[32];
    assert_int_equal(crc32c(0, "", 0), 0);
    assert_true(crc32c(0, "123456789", 9) == 0xe3069283);
    memset(data, 0, sizeof data);
    assert_true(crc32c(0, data, sizeof data) == 0x8a9136aa);
    memset(data, 0xff, sizeof data);
    assert_true(crc32c(0, data, sizeof data) == 0x62a8ab43);
    for (int i = 0; i < 32; i++)
        data[i] = (uint8_t)i;
    assert_true(crc32c(0, data, sizeof data) == 0x46dd794e);
    for (int i = 0; i < 32; i++)
        data[i] = (uint8_t)(31 - i);
    assert_true(crc32c(0, data, sizeof data) == 0x113fdb5c);
}

static uint32_t bitwise(const uint8_t *p, size_t len)
{
    uint32_t crc = ~0u;
    while (len--) {
        crc ^= *p++;
        for (int k = 0; k < 8; k++)
            crc = crc >> 1 ^ (0x82f63b78u & -(crc & 1));
    }
    return ~crc;
}

/* Every length and alignment around the eight bytes that the fast path takes at once, in one or two parts. */
static void test_parts_and_alignment(void **state)
{
    uint8_t data[64];
    struct rng rng = {3};
    rng_fill(&rng, data, sizeof data);
    for (size_t off = 0; off < 9; off++) {
        for (size_t len = 0; len < 40; len++) {
            uint32_t want = bitwise(data + off, len);
            size_t cut = len ? rng_below(&rng, len) : 0;
            assert_true(crc32c(0, data + off, len) == want);
            assert_true(crc32c(crc32c(0, data + off, cut), data + off + cut, len - cut) == want);
        }
    }
}

/* Side by side or one after the other, each block has its own. */
static void test_blocks(void **state)
{
    uint8_t data[7 * 64];
    uint32_t got[8];
    struct rng rng = {5};
    rng_fill(&rng, data, sizeof data);
    for (size_t len = 8; len <= 64; len += 8) {
        for (size_t n = 0; n <= 7; n++) {
            memset(got, 0, sizeof got);
            crc32c_blocks(data, len, n, got);
            for (size_t i = 0; i < n; i++)
                assert_true(got[i] == bitwise(data + i * len, len));
            assert_true(got[n] == 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_parts_and_alignment),
        cmocka_unit_test(test_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
