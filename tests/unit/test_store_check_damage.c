/* Each kind of damage, done to the ciphertext of a closed volume, is found as what it is: where, how bad, and
 * how much of the content. */
#include "damage_fixture.h"

#include <linux/fs.h>

/* ---- names ---- */

static void foreign_name(void **state)
{
    at("a");
    strcat(path, "/not ours");
    put_file(path, "x", 1);
    bare_one(CHECK_BAD_NAME);
    check_read_only(0);
    assert_int_equal(expect_one(CHECK_BAD_NAME, NULL)->severity, CHECK_WARNING);
    assert_int_equal(last_progress.warnings, 1);
}

static void reserved_name(void **state)
{
    at("a");
    strcat(path, "/latchfs.other");
    put_file(path, "x", 1);
    bare_one(CHECK_BAD_NAME);
}

static void leftover(void **state)
{
    at("a");
    strcat(path, "/latchfs.tmp.0123");
    put_file(path, "x", 1);
    bare_one(CHECK_LEFTOVER);
    check_read_only(0);
    assert_int_equal(expect_one(CHECK_LEFTOVER, NULL)->severity, CHECK_NOTE);
}

static void changed_name(void **state)
{
    char to[1024];
    at("a/inline");
    stored_name(path, "", to);
    char *last = strrchr(to, '/') + 3;
    *last = *last == 'A' ? 'B' : 'A';
    assert_int_equal(rename(path, to), 0);
    bare_none();
    check_read_only(0);
    const struct seen *s = expect_one(CHECK_UNDECRYPTABLE_NAME, NULL);
    damaged(s, LFS_ERR_AUTH);
    assert_string_equal(s->cipher, to + strlen(volume_dir) + 1);
    assert_false(s->has_plain);
}

static void moved_name(void **state)
{
    char to[1024], dir[1024];
    path_of("a/b", dir);
    at("a/paged");
    snprintf(to, sizeof to, "%.500s/%.500s", dir, strrchr(path, '/') + 1);
    assert_int_equal(rename(path, to), 0);
    bare_one(CHECK_WRONG_DIRECTORY); /* by the header alone */
    check_read_only(CHECK_CONTENTS);
    assert_non_null(find_seen(CHECK_UNDECRYPTABLE_NAME, NULL));
    assert_non_null(find_seen(CHECK_WRONG_DIRECTORY, NULL));
    assert_int_equal(seen_count, 2);
}

/* ---- sidecars ---- */

static char long_plain[512];

static void at_long(void)
{
    snprintf(long_plain, sizeof long_plain, "a/%s", long_name);
    at(long_plain);
}

static void missing_name_sidecar(void **state)
{
    char side[1024];
    at_long();
    stored_name(path, LONG_NAME_SUFFIX, side);
    assert_int_equal(unlink(side), 0);
    bare_one(CHECK_MISSING_SIDECAR);
    check_read_only(CHECK_CONTENTS);
    damaged(expect_one(CHECK_MISSING_SIDECAR, NULL), LFS_ERR_CORRUPT);
}

static void changed_name_sidecar(void **state)
{
    char side[1024];
    at_long();
    stored_name(path, LONG_NAME_SUFFIX, side);
    flip_at(side, 30);
    bare_one(CHECK_BAD_SIDECAR);
    check_read_only(0);
    damaged(expect_one(CHECK_BAD_SIDECAR, NULL), LFS_ERR_CORRUPT);
}

static void orphan_name_sidecar(void **state)
{
    at_long();
    assert_int_equal(unlink(path), 0);
    bare_one(CHECK_ORPHAN_SIDECAR);
    check_read_only(0);
    assert_int_equal(expect_one(CHECK_ORPHAN_SIDECAR, NULL)->severity, CHECK_WARNING);
}

static void link_side(char side[static 1024])
{
    char text[256] = "";
    at("a/long link");
    assert_true(readlink(path, text, sizeof text - 1) > 0);
    snprintf(side, 1024, "%.*s%.200s", (int)(strrchr(path, '/') + 1 - path), path, text);
}

static void missing_link_sidecar(void **state)
{
    char side[1024];
    link_side(side);
    assert_int_equal(unlink(side), 0);
    bare_one(CHECK_MISSING_SIDECAR);
    damaged(find_one(CHECK_MISSING_SIDECAR, "a/long link"), LFS_ERR_CORRUPT);
}

static void orphan_link_sidecar(void **state)
{
    char side[1024];
    link_side(side);
    assert_int_equal(unlink(path), 0);
    bare_one(CHECK_ORPHAN_SIDECAR);
    check_read_only(0);
    expect_one(CHECK_ORPHAN_SIDECAR, NULL);
}

/* ---- links ---- */

static void changed_link(void **state)
{
    char text[4096] = "";
    at("a/link");
    assert_true(readlink(path, text, sizeof text - 1) > 0);
    text[40] = text[40] == 'A' ? 'B' : 'A';
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink(text, path), 0);
    bare_none();
    damaged(find_one(CHECK_BAD_LINK, "a/link"), LFS_ERR_AUTH);
}

static void plain_link(void **state)
{
    at("a/link");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("../../etc", path), 0);
    bare_one(CHECK_BAD_LINK);
    damaged(find_one(CHECK_BAD_LINK, "a/link"), LFS_ERR_CORRUPT);
}

/* ---- directories ---- */

static void record_of(const char *plain)
{
    at(plain);
    strcat(path, "/" DIRREC_NAME);
}

static void missing_record(void **state)
{
    record_of("a/b");
    assert_int_equal(unlink(path), 0);
    check_bare();
    expect_one(CHECK_MISSING_RECORD, NULL);
    check_read_only(CHECK_CONTENTS);
    damaged(expect_one(CHECK_MISSING_RECORD, "a/b"), LFS_ERR_CORRUPT);
    assert_true(last_progress.files > 15); /* what is below was looked at all the same */
}

static void changed_record(void **state)
{
    record_of("a/b");
    flip_at(path, 500);
    bare_none();
    check_read_only(0);
    damaged(expect_one(CHECK_BAD_RECORD, "a/b"), LFS_ERR_AUTH);
}

static void short_record(void **state)
{
    record_of("a/b");
    assert_int_equal(truncate(path, 511), 0);
    bare_one(CHECK_BAD_RECORD);
}

static void record_is_a_directory(void **state)
{
    record_of("a/b");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0755), 0);
    bare_one(CHECK_FOREIGN_TYPE);
}

static void moved_directory(void **state)
{
    char to[1024];
    at("a/b");
    snprintf(to, sizeof to, "%s/%.500s", volume_dir, strrchr(path, '/') + 1);
    assert_int_equal(rename(path, to), 0);
    bare_one(CHECK_BAD_RECORD);
    check_read_only(CHECK_CONTENTS);
    assert_non_null(find_seen(CHECK_UNDECRYPTABLE_NAME, NULL));
    assert_non_null(find_seen(CHECK_BAD_RECORD, NULL));
    assert_int_equal(seen_count, 2);
}

static void exchanged_directories(void **state)
{
    struct node *a = must_walk("a");
    char other[1024];
    node_unref(make_dir(a, "c"), 1);
    node_unref(a, 1);
    path_of("a/c", other);
    at("a/b");
    assert_int_equal(renameat2(AT_FDCWD, path, AT_FDCWD, other, RENAME_EXCHANGE), 0);
    check_bare();
    assert_int_equal(seen_count, 2);
    check_read_only(0);
    assert_non_null(find_seen(CHECK_BAD_RECORD, "a/b"));
    assert_non_null(find_seen(CHECK_BAD_RECORD, "a/c"));
}

static void copied_directory(void **state)
{
    char cmd[4096];
    at("a/b");
    snprintf(cmd, sizeof cmd, "cp -a '%s' '%.*sAAAAAAAAAAAAAAAAAAAAAAAAAAAA'", path,
             (int)(strrchr(path, '/') + 1 - path), path);
    assert_int_equal(system(cmd), 0);
    check_bare();
    damaged(find_seen(CHECK_BAD_RECORD, NULL), LFS_ERR_AUTH);
    unsigned twice = 0;
    for (unsigned i = 0; i < seen_count; i++) {
        const char *copy = strstr(seen[i].cipher, "AAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        bool dir = seen[i].kind == CHECK_DUPLICATE_ID && seen[i].severity == CHECK_DAMAGE;
        twice += dir && copy && !strchr(copy, '/'); /* whichever of the two comes first */
    }
    assert_int_equal(twice, 1);
}

static void root_record(void **state)
{
    at("a");
    snprintf(path, sizeof path, "%s/" DIRREC_NAME, volume_dir);
    flip_at(path, 20);
    check_bare();
    assert_non_null(find_seen(CHECK_BAD_RECORD, NULL));
    assert_true(last_progress.files > 20);
    struct volume_options o = {.no_flusher = true, .read_only = true, .damaged_root = true};
    assert_int_equal(volume_open(volume_dir, &plain_keys, &o, NULL, &v), 0);
    assert_int_equal(volume_pd_unlock(v, &second_keys), 0);
    check_open(CHECK_CONTENTS);
    assert_int_equal(find_seen(CHECK_BAD_RECORD, "")->severity, CHECK_DAMAGE);
    assert_true(last_progress.files > 20);
    assert_true(last_progress.bytes > 500 * PAGE_BYTES); /* what is below has records of its own */
}

/* ---- attributes ---- */

static void change_attribute(const char *file)
{
    char list[1024], value[256];
    ssize_t n = listxattr(file, list, sizeof list);
    for (ssize_t i = 0; i < n; i += (ssize_t)strlen(list + i) + 1) {
        if (strncmp(list + i, "user.latchfs.", 13) != 0)
            continue;
        ssize_t len = getxattr(file, list + i, value, sizeof value);
        assert_true(len > 20);
        value[14] ^= 1;
        assert_int_equal(setxattr(file, list + i, value, (size_t)len, 0), 0);
        return;
    }
    fail();
}

static void changed_attribute(void **state)
{
    at("a/inline");
    change_attribute(path);
    bare_none();
    check_read_only(CHECK_CONTENTS);
    damaged(expect_one(CHECK_BAD_XATTR, NULL), LFS_ERR_AUTH);
}

static void changed_attribute_of_directory(void **state)
{
    at("a/b");
    change_attribute(path);
    damaged(find_one(CHECK_BAD_XATTR, "a/b"), LFS_ERR_AUTH);
}

static void foreign_attribute(void **state)
{
    at("a/empty");
    assert_int_equal(setxattr(path, "user.latchfs.abcd", "x", 1, 0), 0);
    find_one(CHECK_BAD_XATTR, "a/empty");
}

/* ---- key store, journal, keys ---- */

static void key_store(void **state)
{
    snprintf(path, sizeof path, "%s/" KEYSTORE_NAME, volume_dir);
    close_volume();
    flip_at(path, 40);
    check_bare();
    const struct seen *s = expect_one(CHECK_BAD_KEYSTORE, NULL);
    assert_int_equal(s->severity, CHECK_DAMAGE);
    assert_string_equal(s->cipher, KEYSTORE_NAME);
    assert_true(s->repairable);
}

static void old_key_store(void **state)
{
    snprintf(path, sizeof path, "%s/" KEYSTORE_BAK_NAME, volume_dir);
    close_volume();
    flip_at(path, 40);
    check_bare();
    assert_int_equal(expect_one(CHECK_BAD_KEYSTORE, NULL)->severity, CHECK_WARNING);
}

static void journal_gone(void **state)
{
    snprintf(path, sizeof path, "%s/" JOURNAL_NAME, volume_dir);
    close_volume();
    assert_int_equal(unlink(path), 0);
    check_bare();
    damaged(expect_one(CHECK_JOURNAL_MISSING, NULL), LFS_ERR_JOURNAL);
}

static void journal_torn(void **state)
{
    snprintf(path, sizeof path, "%s/" JOURNAL_NAME, volume_dir);
    close_volume();
    flip_at(path, 0);
    flip_at(path, PAGE_BYTES);
    check_bare();
    damaged(expect_one(CHECK_JOURNAL_MISSING, NULL), LFS_ERR_CORRUPT);
}

/* A copy of the volume as it lies there with entries that wait. */
static void journal_unclean(void **state)
{
    char cmd[512], was[96];
    struct node *n = must_walk("a/b/big");
    assert_int_equal(file_write(n, "new", 3, 5 * PAGE_BYTES), 3);
    assert_int_equal(file_fsync(n, false), 0);
    assert_int_equal(file_truncate(n, 10 * PAGE_BYTES), 0);
    assert_int_equal(file_fsync(n, false), 0);
    node_unref(n, 1);
    snprintf(cmd, sizeof cmd, "cp -a %s %s/copy", volume_dir, base);
    assert_int_equal(system(cmd), 0);
    close_volume();
    strcpy(was, volume_dir);
    snprintf(volume_dir, sizeof volume_dir, "%s/copy", base);
    check_bare();
    assert_int_equal(expect_one(CHECK_JOURNAL_UNCLEAN, NULL)->severity, CHECK_NOTE);
    check_read_only(CHECK_CONTENTS);
    expect_one(CHECK_JOURNAL_UNCLEAN, NULL);
    strcpy(volume_dir, was);
}

static void without_a_key(void **state)
{
    char other[1024];
    path_of("team/paged", other);
    at("team/inline");
    flip_at(other, 1);
    struct volume_options o = {.no_flusher = true, .read_only = true};
    assert_int_equal(volume_open(volume_dir, &plain_keys, &o, NULL, &v), 0);
    check_open(CHECK_CONTENTS);
    assert_int_equal(find_seen(CHECK_NO_KEY, "team")->severity, CHECK_NOTE);
    assert_non_null(find_seen(CHECK_BAD_HEADER, NULL)); /* the structure is looked at all the same */
    assert_int_equal(seen_count, 2);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, damage_setup, volume_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(foreign_name),
        TEST(reserved_name),
        TEST(leftover),
        TEST(changed_name),
        TEST(moved_name),
        TEST(missing_name_sidecar),
        TEST(changed_name_sidecar),
        TEST(orphan_name_sidecar),
        TEST(missing_link_sidecar),
        TEST(orphan_link_sidecar),
        TEST(changed_link),
        TEST(plain_link),
        TEST(missing_record),
        TEST(changed_record),
        TEST(short_record),
        TEST(record_is_a_directory),
        TEST(moved_directory),
        TEST(exchanged_directories),
        TEST(copied_directory),
        TEST(root_record),
        TEST(changed_attribute),
        TEST(changed_attribute_of_directory),
        TEST(foreign_attribute),
        TEST(key_store),
        TEST(old_key_store),
        TEST(journal_gone),
        TEST(journal_torn),
        TEST(journal_unclean),
        TEST(without_a_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
