#include "latchfs/buf.h"
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static void test_integers_are_little_endian(void **state)
{
    static const uint8_t want[] = {1, 3, 2, 7, 6, 5, 4, 15, 14, 13, 12, 11, 10, 9, 8};
    uint8_t out[sizeof want];
    struct wcur w = wcur_over(out, sizeof out);
    wcur_u8(&w, 1);
    wcur_u16(&w, 0x0203);
    wcur_u32(&w, 0x04050607);
    wcur_u64(&w, UINT64_C(0x08090a0b0c0d0e0f));
    assert_false(w.bad);
    assert_int_equal(wcur_used(&w), sizeof want);
    assert_memory_equal(out, want, sizeof want);

    struct rcur r = rcur_over(want, sizeof want);
    assert_int_equal(rcur_u8(&r), 1);
    assert_int_equal(rcur_u16(&r), 0x0203);
    assert_int_equal(rcur_u32(&r), 0x04050607);
    assert_true(rcur_u64(&r) == UINT64_C(0x08090a0b0c0d0e0f));
    assert_true(rcur_done(&r));
}

static void test_reader_turns_bad_and_stays_bad(void **state)
{
    uint8_t *in = exact_copy("\x01\x02\x03", 3);
    uint8_t out[4] = {9, 9, 9, 9};
    struct rcur r = rcur_over(in, 3);
    assert_int_equal(rcur_u32(&r), 0);
    assert_true(r.bad);
    assert_int_equal(rcur_u8(&r), 0); /* three bytes are there, but it asked for too much before */
    rcur_bytes(&r, out, 4);
    assert_memory_equal(out, "\0\0\0\0", 4);
    assert_null(rcur_view(&r, 1));
    assert_false(rcur_zeros(&r, 1));
    assert_false(rcur_done(&r));
    free(in);
}

static void test_reader_views_and_zeros(void **state)
{
    static const uint8_t in[] = {5, 0, 0, 0, 1};
    struct rcur r = rcur_over(in, sizeof in);
    assert_ptr_equal(rcur_view(&r, 1), in);
    assert_true(rcur_zeros(&r, 3));
    assert_false(rcur_done(&r));
    assert_false(rcur_zeros(&r, 1));
    assert_true(rcur_done(&r)); /* not zero, but consumed */
}

static void test_writer_never_passes_its_end(void **state)
{
    uint8_t *out = exact_copy("....", 4);
    struct wcur w = wcur_over(out, 3);
    wcur_u16(&w, 0x4142);
    wcur_u16(&w, 0x4343);
    assert_true(w.bad);
    wcur_u8(&w, 0x44);
    wcur_zeros(&w, 1);
    wcur_bytes(&w, "x", 1);
    assert_true(w.bad);
    assert_int_equal(wcur_used(&w), 2);
    assert_memory_equal(out, "BA..", 4);
    free(out);
}

static void test_cleanup_attributes(void **state)
{
    int seen;
    {
        AUTO_CLOSE int fd = open("/dev/null", O_RDONLY);
        AUTO_FREE char *p = strdup("x");
        assert_non_null(p);
        assert_true(fd >= 0);
        seen = fd;
        errno = ENOTTY;
    }
    assert_int_equal(errno, ENOTTY);
    assert_int_equal(fcntl(seen, F_GETFD), -1);
}

static void test_zeros_are_known(void **state)
{
    uint8_t *bytes = exact_copy("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 17);
    for (size_t len = 0; len <= 17; len++) {
        assert_true(bytes_are_zero(bytes, len));
        for (size_t i = 0; i < 17; i++) {
            bytes[i] = 1;
            assert_int_equal(bytes_are_zero(bytes, len), i >= len);
            bytes[i] = 0;
        }
    }
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_integers_are_little_endian),
        cmocka_unit_test(test_reader_turns_bad_and_stays_bad),
        cmocka_unit_test(test_reader_views_and_zeros),
        cmocka_unit_test(test_writer_never_passes_its_end),
        cmocka_unit_test(test_cleanup_attributes),
        cmocka_unit_test(test_zeros_are_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
