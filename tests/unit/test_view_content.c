/* The ciphertext of single files, opened again by the format's own functions. */
#include "fs/view/content.h"
#include "latchfs/err.h"
#include "latchfs/header.h"
#include "latchfs/io.h"
#include "latchfs/layout.h"
#include "support.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static struct keyset *set;
static struct view_keys *keys;
static struct aead *aead;
static uint8_t plain[GROUP_PLAIN_BYTES], image[GROUP_BYTES], again[GROUP_BYTES];

static int set_up(void **state)
{
    set = keyset_new();
    keys = locked_alloc(sizeof *keys);
    aead = aead_new();
    if (!set || !keys || !aead)
        return -1;
    *set = (struct keyset){.active = 1, .count = 1, .suite = SUITE_AES_256_GCM, .versions = {{.version = 1}}};
    memset(set->name_key, 5, LFS_KEY_BYTES);
    return view_keys_derive(set, keys);
}

static int tear_down(void **state)
{
    keyset_free(set);
    locked_free(keys);
    aead_freep(&aead);
    return 0;
}

/* A file of size bytes with data at the given chunks. */
static struct content make_file(uint64_t size, const uint64_t *chunks, size_t count)
{
    char path[] = "/tmp/latchfs-content-XXXXXX";
    struct content c = {.fd = mkstemp(path), .size = size, .id = {1, 2, 3}};
    assert_true(c.fd >= 0);
    unlink(path);
    assert_int_equal(ftruncate(c.fd, (off_t)size), 0);
    for (size_t i = 0; i < count; i++) {
        uint64_t at = chunks[i] * PAGE_BYTES, left = size - at;
        uint8_t page[PAGE_BYTES];
        memset(page, (int)(chunks[i] % 250 + 1), sizeof page);
        assert_int_equal(io_pwrite(c.fd, page, left < PAGE_BYTES ? left : PAGE_BYTES, at), 0);
    }
    return c;
}

static void open_header(const uint8_t *bytes, const struct content *c, struct file_header *h,
                        uint8_t *file_key)
{
    uint8_t mac_key[LFS_KEY_BYTES];
    assert_int_equal(header_decode(bytes, h), 0);
    assert_int_equal(header_unwrap_key(h, 0, keys->dir_key, file_key), 0);
    file_subkey(file_key, FILE_SUB_HEADER, mac_key);
    assert_int_equal(header_check_mac(h, mac_key), 0);
    assert_int_equal(h->size, c->size);
    assert_memory_equal(h->file_id, c->id, ID_BYTES);
}

/* Whether the chunk of the group in image is a hole; else it must open, and have the byte that make_file gave
 * it. */
static bool is_hole(const struct content *c, uint64_t group, unsigned i, const uint8_t *file_key)
{
    uint8_t out[PAGE_BYTES], key[LFS_KEY_BYTES];
    struct record r;
    uint64_t chunk = content_group_first(group) + i;
    struct content_ad ad = {KIND_CHUNK, SUITE_AES_256_GCM, 1, c->id, chunk};
    const uint8_t *records = image + (group ? 0 : HEADER_BYTES);
    assert_int_equal(record_decode(records + (size_t)i * RECORD_BYTES, &r), 0);
    if (record_is_hole(&r))
        return true;
    file_subkey(file_key, FILE_SUB_CONTENT, key);
    aead_set_key(aead, SUITE_AES_256_GCM, key);
    assert_int_equal(record_open(aead, &ad, &r, image + (i + 1) * PAGE_BYTES, out), 0);
    for (unsigned at = 0; at < r.length; at++)
        assert_int_equal(out[at], chunk % 250 + 1);
    return false;
}

static void test_lengths(void **state)
{
    static const uint64_t sizes[] = {0, 1, 3583, 3584, 3585, 4096, 112 * 4096, 112 * 4096 + 1, FILE_SIZE_MAX};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        uint64_t back;
        layout_size(content_length(sizes[i]), &back);
        assert_int_equal(back, sizes[i]);
    }
    assert_int_equal(content_length(0), HEADER_BYTES);
}

static void test_places(void **state)
{
    for (uint64_t chunk = 0; chunk < 1000; chunk++) {
        uint64_t group = content_group_at(layout_data_offset(chunk));
        assert_int_equal(group, content_group_at(layout_tag_page(chunk)));
        assert_int_equal(content_group_first(group), layout_group_first(chunk));
        assert_int_equal(content_group_offset(group), layout_tag_page(chunk));
        uint64_t page = (layout_data_offset(chunk) - content_group_offset(group)) / PAGE_BYTES;
        assert_int_equal(page, 1 + chunk - layout_group_first(chunk));
    }
    assert_int_equal(content_group_chunks(0, 5000), 2);
    assert_int_equal(content_group_chunks(0, 1 << 20), FIRST_RECORDS);
    assert_int_equal(content_group_chunks(1, 112 * 4096), 0);
    assert_int_equal(content_group_chunks(2, (112 + 128 + 3) * 4096), 3);
}

static void test_inline(void **state)
{
    static const uint64_t sizes[] = {0, 1, 3584};
    uint8_t key[LFS_KEY_BYTES], file_key[LFS_KEY_BYTES], out[INLINE_MAX];
    memset(plain, 'p', sizeof plain);
    for (size_t i = 0; i < COUNT(sizes); i++) {
        struct content c = {.fd = -1, .size = sizes[i], .id = {9}};
        struct content_ad ad = {KIND_INLINE, SUITE_AES_256_GCM, 1, c.id, 0};
        struct file_header h;
        assert_int_equal(content_inline(&c, keys, aead, plain, image), 0);
        assert_int_equal(content_inline(&c, keys, aead, plain, again), 0);
        assert_memory_equal(image, again, HEADER_BYTES + sizes[i]);
        open_header(image, &c, &h, file_key);
        file_subkey(file_key, FILE_SUB_CONTENT, key);
        aead_set_key(aead, SUITE_AES_256_GCM, key);
        assert_int_equal(record_open(aead, &ad, &h.inline_record, image + HEADER_BYTES, out), 0);
        assert_memory_equal(out, plain, sizes[i]);
    }
}

static void test_groups(void **state)
{
    static const uint64_t data[] = {0, 3, 111, 112, 239, 240, 300};
    struct content c = make_file(301 * PAGE_BYTES - 77, data, COUNT(data));
    uint8_t file_key[LFS_KEY_BYTES];
    struct file_header h;
    unsigned found = 0;
    for (uint64_t group = 0; group < 3; group++) {
        assert_int_equal(content_group(&c, keys, aead, group, plain, image), 0);
        assert_int_equal(content_group(&c, keys, aead, group, plain, again), 0);
        unsigned count = content_group_chunks(group, c.size);
        assert_memory_equal(image, again, (count + 1) * PAGE_BYTES);
        if (!group)
            open_header(image, &c, &h, file_key);
        for (unsigned i = 0; i < count; i++)
            found += !is_hole(&c, group, i, file_key);
    }
    assert_int_equal(found, COUNT(data));
    close(c.fd);
}

/* Chunks by themselves are those of the group. */
static void test_chunks(void **state)
{
    static const uint64_t data[] = {112, 113, 115, 200};
    struct content c = make_file(201 * PAGE_BYTES - 1, data, COUNT(data));
    uint8_t out[4 * PAGE_BYTES], records[4 * RECORD_BYTES];
    assert_int_equal(content_group(&c, keys, aead, 1, plain, image), 0);
    assert_int_equal(content_chunks(&c, keys, aead, 112, 4, plain, out, records), 0);
    assert_memory_equal(out, image + PAGE_BYTES, sizeof out);
    assert_memory_equal(records, image, sizeof records);
    assert_int_equal(content_chunks(&c, keys, aead, 200, 1, plain, out, records), 0);
    assert_memory_equal(out, image + 89 * PAGE_BYTES, PAGE_BYTES - 1);
    close(c.fd);
}

/* A file that has become shorter gives no group that claims more. */
static void test_cut(void **state)
{
    static const uint64_t data[] = {0, 1, 2};
    struct content c = make_file(3 * PAGE_BYTES, data, COUNT(data));
    assert_int_equal(ftruncate(c.fd, 2 * PAGE_BYTES + 10), 0);
    assert_int_equal(content_group(&c, keys, aead, 0, plain, image), -EIO);
    close(c.fd);
}

/* Growth beyond the size of the header does not show. */
static void test_grown(void **state)
{
    static const uint64_t data[] = {0, 1};
    struct content c = make_file(2 * PAGE_BYTES - 100, data, COUNT(data));
    uint8_t more[200] = {1};
    assert_int_equal(content_group(&c, keys, aead, 0, plain, image), 0);
    assert_int_equal(io_pwrite(c.fd, more, sizeof more, c.size), 0);
    assert_int_equal(content_group(&c, keys, aead, 0, plain, again), 0);
    assert_memory_equal(image, again, 3 * PAGE_BYTES);
    close(c.fd);
}

static void test_seek(void **state)
{
    static const uint64_t data[] = {2, 300};
    struct content c = make_file(600 * PAGE_BYTES, data, COUNT(data));
    uint64_t length = content_length(c.size), first = layout_data_offset(2), second = layout_data_offset(300);
    assert_int_equal(content_seek(&c, 0, false), 0); /* the header */
    assert_int_equal(content_seek(&c, PAGE_BYTES, false), first);
    assert_int_equal(content_seek(&c, first + 5, false), first + 5);
    assert_int_equal(content_seek(&c, first, true), first + PAGE_BYTES);
    assert_int_equal(content_seek(&c, first + PAGE_BYTES, false), layout_tag_page(300));
    assert_int_equal(content_seek(&c, layout_tag_page(300) + 9, false), layout_tag_page(300) + 9);
    assert_int_equal(content_seek(&c, layout_tag_page(300) + PAGE_BYTES, false), second);
    assert_int_equal(content_seek(&c, second, true), second + PAGE_BYTES);
    assert_int_equal(content_seek(&c, second + PAGE_BYTES, false), -ENXIO);
    assert_int_equal(content_seek(&c, second + PAGE_BYTES, true), second + PAGE_BYTES);
    assert_int_equal(content_seek(&c, length, false), -ENXIO);
    assert_int_equal(content_seek(&c, length, true), -ENXIO);
    close(c.fd);
}

/* Everything that seek calls a hole is zeros, everything else is found by going from data to data. */
static void test_seek_agrees(void **state)
{
    static const uint64_t data[] = {5, 6, 111, 240, 241, 500};
    struct content c = make_file(501 * PAGE_BYTES - 9, data, COUNT(data));
    uint64_t length = content_length(c.size), at = 0, groups = content_group_at(length - 1) + 1;
    uint8_t *whole = calloc(1, groups * GROUP_BYTES), *seen = calloc(1, groups * GROUP_BYTES);
    assert_non_null(whole);
    assert_non_null(seen);
    for (uint64_t g = 0; g < groups; g++) {
        assert_int_equal(content_group(&c, keys, aead, g, plain, image), 0);
        memcpy(whole + content_group_offset(g), image, (content_group_chunks(g, c.size) + 1) * PAGE_BYTES);
    }
    for (int64_t from; at < length && (from = content_seek(&c, at, false)) >= 0;) {
        int64_t to = content_seek(&c, (uint64_t)from, true);
        assert_true(to > from);
        memcpy(seen + from, whole + from, (size_t)(to - from));
        at = (uint64_t)to;
    }
    assert_memory_equal(whole, seen, length);
    free(whole);
    free(seen);
    close(c.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lengths), cmocka_unit_test(test_places), cmocka_unit_test(test_inline),
        cmocka_unit_test(test_groups),  cmocka_unit_test(test_chunks), cmocka_unit_test(test_cut),
        cmocka_unit_test(test_grown),   cmocka_unit_test(test_seek),   cmocka_unit_test(test_seek_agrees),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
