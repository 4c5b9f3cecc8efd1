/* Damage to what files are made of is found as what it is: where, how bad, and how much of the content. */
#include "damage_fixture.h"

#include <linux/fs.h>

/* ---- files ---- */

static void changed_header(void **state)
{
    at("a/paged");
    flip_at(path, 230);
    bare_none();
    damaged(find_one(CHECK_BAD_HEADER, "a/paged"), LFS_ERR_AUTH);
}

static void changed_magic(void **state)
{
    at("a/paged");
    flip_at(path, 1);
    bare_one(CHECK_BAD_HEADER);
    damaged(find_one(CHECK_BAD_HEADER, "a/paged"), LFS_ERR_CORRUPT);
}

static void too_short_for_a_header(void **state)
{
    at("a/paged");
    assert_int_equal(truncate(path, 100), 0);
    bare_one(CHECK_BAD_LENGTH);
    damaged(find_one(CHECK_BAD_LENGTH, "a/paged"), LFS_ERR_CORRUPT);
}

static void cut_file(void **state)
{
    at("a/b/big");
    assert_int_equal(truncate(path, (off_t)layout_data_offset(200) + 10), 0);
    bare_one(CHECK_BAD_LENGTH);
    const struct seen *s = find_one(CHECK_BAD_LENGTH, "a/b/big");
    damaged(s, LFS_ERR_CORRUPT);
    assert_int_equal(s->offset, 200 * PAGE_BYTES + 10);
    assert_int_equal(s->length, 300 * PAGE_BYTES - 10);
}

static void tail(void **state)
{
    struct stat st;
    at("a/paged");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(truncate(path, st.st_size + 9000), 0);
    bare_one(CHECK_TAIL);
    assert_int_equal(find_one(CHECK_TAIL, "a/paged")->severity, CHECK_WARNING);
    assert_int_equal(stat(path, &st), 0);
    open_as(false); /* a check of a volume that could be written leaves it too */
    check_open(CHECK_CONTENTS);
    expect_one(CHECK_TAIL, "a/paged");
    off_t was = st.st_size;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, was);
}

static void zero_page(void **state)
{
    static const uint8_t zeros[PAGE_BYTES];
    at("a/paged");
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, zeros, sizeof zeros, 0), sizeof zeros);
    close(fd);
    bare_one(CHECK_ZERO_PAGE); /* with content behind it: a header was lost */
    assert_int_equal(find_one(CHECK_ZERO_PAGE, "a/paged")->severity, CHECK_DAMAGE);
    assert_int_equal(truncate(path, PAGE_BYTES), 0);
    assert_int_equal(truncate(path, 50 * PAGE_BYTES), 0);
    bare_one(CHECK_ZERO_PAGE);
    assert_int_equal(find_one(CHECK_ZERO_PAGE, "a/paged")->severity, CHECK_WARNING);
}

static void changed_inline(void **state)
{
    at("a/b/inline");
    flip_at(path, HEADER_BYTES + 2);
    bare_none();
    const struct seen *s = find_one(CHECK_BAD_CHUNK, NULL);
    damaged(s, LFS_ERR_AUTH);
    assert_int_equal(s->offset, 0);
    assert_int_equal(s->length, 9);
}

/* Chunks 7, 8 and 130, and the record of 300. */
static void changed_chunks(void **state)
{
    at("a/b/big");
    flip_at(path, layout_data_offset(7));
    flip_at(path, layout_data_offset(8) + 4095);
    flip_at(path, layout_data_offset(130) + 77);
    flip_at(path, layout_record_offset(300) + 20);
    bare_none();
    check_read_only(0);
    expect_none();
    check_read_only(CHECK_CONTENTS);
    static const uint64_t want[][2] = {{7, 2}, {130, 1}, {300, 1}};
    unsigned chunks = 0;
    for (unsigned i = 0; i < seen_count; i++) {
        if (seen[i].kind != CHECK_BAD_CHUNK)
            continue;
        assert_string_equal(seen[i].plain, "a/b/big");
        damaged(&seen[i], LFS_ERR_AUTH);
        assert_int_equal(seen[i].offset, want[chunks][0] * PAGE_BYTES);
        assert_int_equal(seen[i].length, want[chunks][1] * PAGE_BYTES);
        chunks++;
    }
    assert_int_equal(chunks, 3);
}

static void copied_file(void **state)
{
    char cmd[4096], other[1024];
    path_of("a/empty", other);
    at("a/paged");
    snprintf(cmd, sizeof cmd, "cp '%s' '%s'", path, other);
    assert_int_equal(system(cmd), 0);
    check_read_only(CHECK_CONTENTS);
    assert_int_equal(expect_one(CHECK_DUPLICATE_ID, NULL)->severity, CHECK_WARNING);
    flip_at(other, 481);
    check_bare();
    damaged(expect_one(CHECK_DUPLICATE_ID, NULL), LFS_ERR_AUTH);
}

static void other_directory(void **state)
{
    char cmd[4096], other[1024];
    path_of("team/paged", other);
    at("a/paged");
    snprintf(cmd, sizeof cmd, "cp '%s' '%s'", other, path);
    assert_int_equal(system(cmd), 0);
    check_bare();
    assert_non_null(find_seen(CHECK_WRONG_DIRECTORY, NULL));
    check_read_only(CHECK_CONTENTS);
    damaged(expect_one(CHECK_WRONG_DIRECTORY, "a/paged"), LFS_ERR_AUTH);
}

/* The content of two files of different directories changed places. */
static void exchanged_files(void **state)
{
    char other[1024];
    path_of("a/b/paged", other);
    at("a/paged");
    assert_int_equal(renameat2(AT_FDCWD, path, AT_FDCWD, other, RENAME_EXCHANGE), 0);
    check_bare();
    assert_int_equal(seen_count, 2);
    check_read_only(CHECK_CONTENTS);
    damaged(find_seen(CHECK_WRONG_DIRECTORY, "a/paged"), LFS_ERR_AUTH);
    damaged(find_seen(CHECK_WRONG_DIRECTORY, "a/b/paged"), LFS_ERR_AUTH);
    assert_int_equal(seen_count, 2);
}

/* The record of a chunk is gone: it would read as a hole. */
static void zeroed_record(void **state)
{
    static const uint8_t zeros[RECORD_BYTES];
    struct node *n = must_walk("a/b/big");
    assert_int_equal(file_open(n, true), 0);
    file_close(n);
    node_unref(n, 1);
    assert_int_equal(volume_checkpoint(v), 0);
    at("a/b/big");
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, zeros, sizeof zeros, (off_t)layout_record_offset(250)), sizeof zeros);
    close(fd);
    bare_none();
    damaged(find_one(CHECK_BAD_SEAL, "a/b/big"), LFS_ERR_AUTH);
    assert_true(last_progress.sealed > 0);
}

static void old_version(void **state)
{
    at("a/paged");
    plain_keys.versions[1] = plain_keys.versions[0];
    plain_keys.versions[1].version = 2;
    plain_keys.count = plain_keys.active = plain_keys.least = 2;
    open_as(true);
    check_open(0);
    assert_non_null(find_seen(CHECK_OLD_VERSION, "a/paged"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, damage_setup, volume_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(changed_header), TEST(changed_magic),   TEST(too_short_for_a_header), TEST(cut_file),
        TEST(tail),           TEST(zero_page),       TEST(changed_inline),         TEST(changed_chunks),
        TEST(copied_file),    TEST(other_directory), TEST(exchanged_files),        TEST(zeroed_record),
        TEST(old_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
