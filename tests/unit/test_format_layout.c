#include "format_vectors.h"
#include "latchfs/layout.h"
#include "support.h"

static void test_known_answers(void **state)
{
    for (size_t i = 0; i < COUNT(layout_vectors); i++) {
        const struct layout_vector *v = &layout_vectors[i];
        assert_int_equal(layout_data_offset(v->chunk), v->data);
        assert_int_equal(layout_record_offset(v->chunk), v->record);
    }
}

/* A model that walks the file page by page. */
struct walk {
    uint64_t page;     /* of the chunk's data */
    uint64_t tag_page; /* page number */
    uint64_t first;    /* chunk of the group */
    uint64_t next;     /* first chunk of the next group */
};

static void walk_step(struct walk *w, uint64_t chunk)
{
    w->page++;
    if (chunk == w->next) { /* this page is the next tag page; the data is one further */
        w->tag_page = w->page++;
        w->first = chunk;
        w->next = chunk + GROUP_RECORDS;
    }
}

static void test_against_walk(void **state)
{
    struct walk w = {.page = 0, .next = FIRST_RECORDS};
    for (uint64_t chunk = 0; chunk < 100000; chunk++) {
        walk_step(&w, chunk);
        assert_int_equal(layout_data_offset(chunk), w.page * PAGE_BYTES);
        assert_int_equal(layout_tag_page(chunk), w.tag_page * PAGE_BYTES);
        assert_int_equal(layout_group_first(chunk), w.first);
        assert_int_equal(layout_group_next(chunk), w.next);
        uint64_t head = w.tag_page == 0 ? HEADER_BYTES : 0;
        assert_int_equal(layout_record_offset(chunk),
                         w.tag_page * PAGE_BYTES + head + (chunk - w.first) * RECORD_BYTES);
    }
}

/* size -> length -> size, length grows with size, and the record of the last chunk is within the file. */
static void check_size(uint64_t size)
{
    uint64_t back = 0, length = layout_length(size);
    assert_int_equal(layout_size(length, &back), LENGTH_PAGED);
    assert_int_equal(back, size);
    assert_true(layout_record_offset(layout_chunks(size) - 1) + RECORD_BYTES <= length);
    if (size > 1)
        assert_true(layout_length(size - 1) < length);
}

static void test_size_and_length_are_inverse(void **state)
{
    for (uint64_t size = 1; size < 3 * PAGE_BYTES; size++)
        check_size(size);
    for (uint64_t chunk = 1; chunk < 1000; chunk++)
        for (int64_t d = -2; d <= 2; d++)
            check_size(chunk * PAGE_BYTES + (uint64_t)d);
    struct rng rng = {4};
    for (int i = 0; i < 200000; i++)
        check_size(1 + rng_below(&rng, FILE_SIZE_MAX));
    check_size(FILE_SIZE_MAX);
}

/* Every length around every kind of page: either a length that some size has, or one that ends in a tag page.
 */
static void test_every_length_has_one_meaning(void **state)
{
    struct rng rng = {5};
    for (int i = 0; i < 300000; i++) {
        uint64_t length = PAGE_BYTES + 1 + rng_below(&rng, UINT64_C(400) * PAGE_BYTES), size;
        assert_int_equal(layout_size(length, &size), LENGTH_PAGED);
        uint64_t own = layout_length(size);
        if (own == length)
            continue;
        assert_int_equal(size % PAGE_BYTES, 0); /* the size of the chunk before, whole */
        uint64_t tag = layout_tag_page(size / PAGE_BYTES);
        assert_int_equal(own, tag);
        assert_true(length > tag && length <= tag + PAGE_BYTES);
    }
}

static void test_short_lengths(void **state)
{
    uint64_t size = 7;
    assert_int_equal(layout_size(0, &size), LENGTH_EMPTY);
    assert_int_equal(size, 0);
    for (uint64_t length = 1; length < HEADER_BYTES; length++)
        assert_int_equal(layout_size(length, &size), LENGTH_CORRUPT);
    for (uint64_t length = HEADER_BYTES; length <= PAGE_BYTES; length++) {
        assert_int_equal(layout_size(length, &size), LENGTH_INLINE);
        assert_int_equal(size, length - HEADER_BYTES);
    }
    assert_int_equal(layout_size(PAGE_BYTES + 1, &size), LENGTH_PAGED);
    assert_int_equal(size, 1);
}

static void test_long_lengths(void **state)
{
    uint64_t size;
    uint64_t most = layout_length(FILE_SIZE_MAX);
    assert_int_equal(layout_size(most, &size), LENGTH_PAGED);
    assert_int_equal(size, FILE_SIZE_MAX);
    assert_int_equal(layout_size(most + 2 * PAGE_BYTES, &size), LENGTH_CORRUPT);
    assert_int_equal(layout_size(UINT64_MAX, &size), LENGTH_CORRUPT);
}

static void test_chunks(void **state)
{
    assert_int_equal(layout_chunks(0), 0);
    assert_int_equal(layout_chunks(1), 1);
    assert_int_equal(layout_chunks(PAGE_BYTES), 1);
    assert_int_equal(layout_chunks(PAGE_BYTES + 1), 2);
    assert_int_equal(layout_chunks(FILE_SIZE_MAX), FILE_SIZE_MAX / PAGE_BYTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_against_walk),
        cmocka_unit_test(test_size_and_length_are_inverse),
        cmocka_unit_test(test_every_length_has_one_meaning),
        cmocka_unit_test(test_short_lengths),
        cmocka_unit_test(test_long_lengths),
        cmocka_unit_test(test_chunks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
