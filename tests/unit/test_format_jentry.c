/* Codec of the journal: round trips, refusals, and damage at every byte. */
#include "latchfs/err.h"
#include "latchfs/jentry.h"
#include "support.h"

#include <sodium.h>

static struct journal_keys keys;

static struct journal_super sample_super(void)
{
    struct journal_super s = {.counter = 7,
                              .generation = 1234567890123,
                              .ring_bytes = JOURNAL_RING_MIN,
                              .tail_pos = 64 * 99,
                              .tail_seq = 42};
    memset(s.volume_id, 0xa1, sizeof s.volume_id);
    memset(s.incarnation, 0xb2, sizeof s.incarnation);
    memset(s.tail_mac, 0xc3, sizeof s.tail_mac);
    return s;
}

static void test_super_round_trip(void **state)
{
    uint8_t bytes[JOURNAL_SUPER_BYTES];
    struct journal_super s = sample_super(), got;
    journal_super_encode(&s, &keys, bytes);
    assert_int_equal(journal_super_decode(bytes, &keys, &got), 0);
    assert_memory_equal(&s.volume_id, got.volume_id, ID_BYTES);
    assert_int_equal(s.counter, got.counter);
    assert_int_equal(s.generation, got.generation);
    assert_int_equal(s.ring_bytes, got.ring_bytes);
    assert_int_equal(s.tail_pos, got.tail_pos);
    assert_int_equal(s.tail_seq, got.tail_seq);
    assert_memory_equal(s.tail_mac, got.tail_mac, 32);
    assert_memory_equal(s.incarnation, got.incarnation, 16);
}

static void test_super_every_bit(void **state)
{
    uint8_t bytes[JOURNAL_SUPER_BYTES];
    struct journal_super s = sample_super(), got = {.counter = 99};
    journal_super_encode(&s, &keys, bytes);
    for (size_t i = 0; i < sizeof bytes * 8; i++) {
        bytes[i / 8] ^= (uint8_t)(1u << i % 8);
        assert_true(journal_super_decode(bytes, &keys, &got) < 0);
        assert_int_equal(got.counter, 99); /* untouched on failure */
        bytes[i / 8] ^= (uint8_t)(1u << i % 8);
    }
}

static void test_head_round_trip(void **state)
{
    uint8_t bytes[JENTRY_HEAD_BYTES];
    struct jentry_head got,
        h = {.total = jentry_total(700, 8192), .seq = 5, .ino = 77, .item_bytes = 700, .data_bytes = 8192};
    memset(h.file_id, 9, ID_BYTES);
    jentry_head_encode(&h, bytes);
    assert_int_equal(jentry_head_decode(bytes, &got), 0);
    assert_memory_equal(&h, &got, sizeof h);
    h.total -= JENTRY_ALIGN; /* shorter than its parts */
    jentry_head_encode(&h, bytes);
    assert_int_equal(jentry_head_decode(bytes, &got), LFS_ERR_CORRUPT);
    h.total = UINT32_MAX;
    h.data_bytes = JENTRY_DATA_MAX + 1;
    jentry_head_encode(&h, bytes);
    assert_int_equal(jentry_head_decode(bytes, &got), LFS_ERR_CORRUPT);
}

static size_t sample_items(uint8_t *buf, size_t size)
{
    uint8_t image[HEADER_BYTES], record[RECORD_BYTES], id[ID_BYTES];
    struct wcur c = wcur_over(buf, size);
    memset(image, 1, sizeof image);
    memset(record, 2, sizeof record);
    memset(id, 3, sizeof id);
    jitem_put_path(&c, "a/b", 3);
    jitem_put_cut(&c, 8192);
    jitem_put_punch(&c, 5, 6);
    jitem_put_chunks(&c, 10, 2, true);
    jitem_put_chunk(&c, record, 0x11223344);
    jitem_put_chunk(&c, record, 0x55667788);
    jitem_put_inline(&c, 100, 0x99);
    jitem_put_mark(&c, id, 1000);
    jitem_put_removed(&c);
    jitem_put_header(&c, image);
    assert_false(c.bad);
    return wcur_used(&c);
}

static void test_items_round_trip(void **state)
{
    static const uint8_t order[] = {JITEM_PATH,   JITEM_CUT,  JITEM_PUNCH,   JITEM_CHUNKS,
                                    JITEM_INLINE, JITEM_MARK, JITEM_REMOVED, JITEM_HEADER};
    uint8_t buf[2048];
    size_t len = sample_items(buf, sizeof buf), n = 0;
    struct rcur c = rcur_over(buf, len);
    struct jitem it;
    while (jitem_next(&c, &it) == 1) {
        assert_int_equal(it.type, order[n]);
        if (it.type == JITEM_CHUNKS) {
            assert_int_equal(it.first, 10);
            assert_int_equal(it.count, 2);
            assert_true(it.fresh);
            assert_int_equal(it.chunks[JCHUNK_BYTES + RECORD_BYTES], 0x88);
        }
        if (it.type == JITEM_MARK)
            assert_int_equal(it.seq, 1000);
        n++;
    }
    assert_int_equal(n, sizeof order);
}

/* Every cut either ends between two items or is refused; nothing is read behind the end (sanitizers). */
static void test_items_truncated(void **state)
{
    uint8_t buf[2048];
    size_t len = sample_items(buf, sizeof buf), refused = 0;
    for (size_t cut = 0; cut < len; cut++) {
        uint8_t *copy = exact_copy(buf, cut);
        struct rcur c = rcur_over(copy, cut);
        struct jitem it;
        int r;
        while ((r = jitem_next(&c, &it)) == 1)
            ;
        refused += r < 0;
        free(copy);
    }
    assert_true(refused >= len - 8);
}

static void test_items_refused(void **state)
{
    uint8_t buf[64];
    struct jitem it;
    struct wcur w = wcur_over(buf, sizeof buf);
    jitem_put_punch(&w, UINT64_MAX - 1, 5); /* an index past the largest file */
    struct rcur c = rcur_over(buf, wcur_used(&w));
    assert_int_equal(jitem_next(&c, &it), LFS_ERR_CORRUPT);
    w = wcur_over(buf, sizeof buf);
    jitem_put_chunks(&w, 0, UINT32_MAX, false); /* more than the item has bytes for */
    c = rcur_over(buf, wcur_used(&w));
    assert_int_equal(jitem_next(&c, &it), LFS_ERR_CORRUPT);
    buf[0] = 99; /* an unknown type */
    c = rcur_over(buf, 20);
    assert_int_equal(jitem_next(&c, &it), LFS_ERR_CORRUPT);
}

static void test_mac_binds(void **state)
{
    uint8_t inc[16] = {1}, prev[32] = {2}, head[JENTRY_HEAD_BYTES] = {3}, items[50] = {4}, a[32], b[32];
    uint8_t *parts[] = {inc, prev, head, items};
    jentry_mac(&keys, inc, prev, head, items, sizeof items, a);
    for (size_t i = 0; i < COUNT(parts); i++) {
        parts[i][10] ^= 1;
        jentry_mac(&keys, inc, prev, head, items, sizeof items, b);
        assert_memory_not_equal(a, b, 32);
        parts[i][10] ^= 1;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_super_round_trip), cmocka_unit_test(test_super_every_bit),
        cmocka_unit_test(test_head_round_trip),  cmocka_unit_test(test_items_round_trip),
        cmocka_unit_test(test_items_truncated),  cmocka_unit_test(test_items_refused),
        cmocka_unit_test(test_mac_binds),
    };
    if (sodium_init() < 0)
        return 1;
    journal_keys_derive((const uint8_t *)"0123456789abcdef0123456789abcdef", &keys);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
