/* New directories whose records are not on disk: the copy serves where the record does not, and nowhere else,
 * and goes when it is needed no more. On tmpfs, which is taken for a filesystem that keeps order. */
#define TREE_TMP "/dev/shm"
#include "fs/store/newdirs.h"
#include "latchfs/check.h"
#include "latchfs/dirrec.h"
#include "tree_fixture.h"

#include <linux/magic.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

#define ROOM 8192 /* directories on the list */

static char cipher[700], record[800]; /* of the directory that is looked at */
static uint8_t copy[DIRREC_BYTES];

static int setup(void **state)
{
    struct statfs s;
    int r = volume_setup(state);
    bool fits = !r && !statfs(volume_dir, &s) && (uint32_t)s.f_type == TMPFS_MAGIC &&
                !setxattr(volume_dir, "user.try", "", 0, 0) && !removexattr(volume_dir, "user.try");
    *state = fits ? cipher : NULL;
    return r;
}

#define NEEDS_TMPFS(state) \
    if (!*(state))         \
    skip()

static void locate(const char *plain)
{
    char path[512];
    struct node *n = must_walk(plain);
    assert_int_equal(node_cipher_path(n, path, sizeof path), 0);
    snprintf(cipher, sizeof cipher, "%s/%s", volume_dir, path);
    snprintf(record, sizeof record, "%s/latchfs.dir", cipher);
    node_unref(n, 1);
}

static bool has_copy(void)
{
    return getxattr(cipher, DIRREC_COPY, NULL, 0) >= 0;
}

static void put_copy(const uint8_t *bytes)
{
    assert_int_equal(setxattr(cipher, DIRREC_COPY, bytes, DIRREC_BYTES, 0), 0);
}

static void put_record(const void *bytes, size_t len)
{
    FILE *f = fopen(record, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, len, f), len);
    fclose(f);
}

static void get_record(uint8_t bytes[static DIRREC_BYTES])
{
    FILE *f = fopen(record, "r");
    assert_non_null(f);
    assert_int_equal(fread(bytes, 1, DIRREC_BYTES, f), DIRREC_BYTES);
    fclose(f);
}

/* A process makes the directory "a" with a file in it, and "b", and ends without a word. Nothing has looked
 * at them since. */
static void begin(void)
{
    int status, ends[2];
    assert_int_equal(volume_close(v), 0);
    v = NULL;
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        open_volume();
        make_file(make_dir(volume_root(v), "a"), "f", "content");
        make_dir(volume_root(v), "b");
        locate("a");
        _exit(write(ends[1], cipher, sizeof cipher) != sizeof cipher);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(read(ends[0], cipher, sizeof cipher), sizeof cipher);
    close(ends[0]);
    close(ends[1]);
    snprintf(record, sizeof record, "%s/latchfs.dir", cipher);
    assert_int_equal(getxattr(cipher, DIRREC_COPY, copy, sizeof copy), sizeof copy);
}

static int look(void)
{
    struct node *n;
    int r = walk("a/f", &n);
    if (!r) {
        assert_true(holds(n, "content"));
        node_unref(n, 1);
    }
    return r;
}

/* The copy did its work: the record is as it was, and the copy is gone. */
static void expect_mended(void)
{
    uint8_t bytes[DIRREC_BYTES];
    assert_int_equal(volume_checkpoint(v), 0);
    assert_false(has_copy());
    get_record(bytes);
    assert_memory_equal(bytes, copy, sizeof bytes);
    reopen_volume();
    assert_int_equal(look(), 0);
}

static void serves_for(const void *bytes, size_t len)
{
    begin();
    put_record(bytes, len);
    open_volume();
    assert_int_equal(look(), 0);
    expect_mended();
}

/* ---- */

static void goes_with_the_checkpoint(void **state)
{
    NEEDS_TMPFS(state);
    struct node *n = make_dir(volume_root(v), "a");
    locate("a");
    assert_true(has_copy());
    assert_int_equal(n->newdir, NEWDIR_MADE);
    assert_int_equal(volume_checkpoint(v), 0);
    assert_false(has_copy());
    assert_int_equal(n->newdir, NEWDIR_NONE);
    node_unref(n, 1);
}

static void is_made_while_there_is_room(void **state)
{
    NEEDS_TMPFS(state);
    char name[16];
    for (int i = 0; i <= ROOM; i++) {
        snprintf(name, sizeof name, "d%d", i);
        node_unref(make_dir(volume_root(v), name), 1);
    }
    locate("d8191");
    assert_true(has_copy());
    locate("d8192");
    assert_false(has_copy());
    assert_int_equal(volume_checkpoint(v), 0);
    for (int i = 0; i < ROOM; i += 97) {
        snprintf(name, sizeof name, "d%d", i);
        locate(name);
        assert_false(has_copy());
    }
}

static void goes_with_another_name(void **state)
{
    NEEDS_TMPFS(state);
    struct node *n = make_dir(volume_root(v), "a");
    assert_int_equal(node_rename(volume_root(v), "a", volume_root(v), "b", 0), 0);
    locate("b");
    assert_false(has_copy());
    assert_int_equal(node_rmdir(volume_root(v), "b"), 0);
    assert_int_equal(n->newdir, NEWDIR_NONE);
    assert_int_equal(n->refs, 1);
    node_unref(n, 1);
}

static void stays_where_a_removal_fails(void **state)
{
    NEEDS_TMPFS(state);
    struct node *n = make_dir(volume_root(v), "a");
    node_unref(make_file(n, "f", "content"), 1);
    assert_int_equal(node_rmdir(volume_root(v), "a"), -ENOTEMPTY);
    locate("a");
    assert_true(has_copy());
    assert_int_equal(volume_checkpoint(v), 0);
    assert_false(has_copy());
    node_unref(n, 1);
}

static void is_not_shown(void **state)
{
    NEEDS_TMPFS(state);
    struct node *n = make_dir(volume_root(v), "a");
    struct volume_stats s;
    char list[256], value[DIRREC_BYTES];
    assert_int_equal(node_listxattr(n, list, sizeof list, true), 0);
    assert_int_equal(node_getxattr(n, DIRREC_COPY, value, sizeof value), -ENODATA);
    volume_stats(v, &s);
    assert_int_equal(s.auth_failures, 0);
    node_unref(n, 1);
}

static void serves_for_an_empty_record(void **state)
{
    NEEDS_TMPFS(state);
    serves_for("", 0);
}

static void serves_for_zeros(void **state)
{
    NEEDS_TMPFS(state);
    static const uint8_t zeros[DIRREC_BYTES];
    serves_for(zeros, sizeof zeros);
}

static void serves_for_a_torn_record(void **state)
{
    NEEDS_TMPFS(state);
    uint8_t torn[DIRREC_BYTES];
    begin();
    memcpy(torn, copy, sizeof torn);
    memset(torn + 144, 0xff, 16);
    put_record(torn, sizeof torn);
    open_volume();
    assert_int_equal(look(), 0);
    expect_mended();
}

static void is_left_alone_by_a_reader(void **state)
{
    NEEDS_TMPFS(state);
    struct volume_options o = {.read_only = true};
    struct stat st;
    begin();
    put_record("", 0);
    assert_int_equal(volume_open(volume_dir, &plain_keys, &o, NULL, &v), 0);
    assert_int_equal(look(), 0);
    assert_int_equal(volume_close(v), 0);
    assert_true(has_copy());
    assert_int_equal(stat(record, &st), 0);
    assert_int_equal(st.st_size, 0);
    open_volume();
}

/* After an unclean end: the record is good, so the copy is not asked and goes. */
static void yields_to_a_good_record(void **state)
{
    NEEDS_TMPFS(state);
    static const uint8_t other[DIRREC_BYTES] = {1};
    begin();
    put_copy(other);
    open_volume();
    assert_int_equal(look(), 0);
    expect_mended();
}

static void does_not_serve_when_it_was_changed(void **state)
{
    NEEDS_TMPFS(state);
    uint8_t bytes[DIRREC_BYTES];
    begin();
    put_record("", 0);
    memcpy(bytes, copy, sizeof bytes);
    bytes[20] ^= 1;
    put_copy(bytes);
    open_volume();
    assert_int_equal(look(), LFS_ERR_CORRUPT);
    assert_int_equal(volume_checkpoint(v), 0);
    assert_true(has_copy());
}

static void does_not_serve_another_directory(void **state)
{
    NEEDS_TMPFS(state);
    uint8_t bytes[DIRREC_BYTES];
    begin();
    put_record("", 0);
    open_volume();
    locate("b");
    get_record(bytes);
    reopen_volume();
    locate("a");
    reopen_volume();
    put_record("", 0);
    put_copy(bytes);
    assert_int_equal(look(), LFS_ERR_AUTH);
}

static void does_not_serve_without_a_record(void **state)
{
    NEEDS_TMPFS(state);
    begin();
    assert_int_equal(unlink(record), 0);
    open_volume();
    assert_int_equal(look(), LFS_ERR_CORRUPT);
}

/* ---- checks ---- */

static unsigned found, repaired, others;

static void note(const struct check_finding *f, void *arg)
{
    bool ours = f->kind == CHECK_UNSETTLED_RECORD;
    found += ours;
    repaired += ours && f->repaired;
    others += !ours && f->kind != CHECK_BAD_KEYSTORE && f->severity != CHECK_NOTE;
    if (ours)
        assert_int_equal(f->severity, CHECK_NOTE);
}

static void check(unsigned flags, unsigned want, unsigned want_repaired)
{
    struct check_options o = {.flags = flags, .finding = note};
    struct check_progress p;
    found = repaired = others = 0;
    assert_int_equal(check_volume(v, &o, &p), 0);
    assert_int_equal(found, want);
    assert_int_equal(repaired, want_repaired);
    assert_int_equal(others, 0);
}

static void is_found_and_settled_by_a_check(void **state)
{
    NEEDS_TMPFS(state);
    struct volume_options o = {.read_only = true};
    begin();
    put_record("", 0);
    assert_int_equal(volume_open(volume_dir, &plain_keys, &o, NULL, &v), 0);
    check(CHECK_CONTENTS, 2, 0); /* b has a copy too */
    assert_int_equal(volume_close(v), 0);
    open_volume();
    check(CHECK_CONTENTS | CHECK_REPAIR, 2, 2);
    expect_mended();
    check(CHECK_CONTENTS, 0, 0);
}

#define TEST(what) cmocka_unit_test_setup_teardown(what, setup, volume_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(goes_with_the_checkpoint),
        TEST(is_made_while_there_is_room),
        TEST(goes_with_another_name),
        TEST(stays_where_a_removal_fails),
        TEST(is_not_shown),
        TEST(serves_for_an_empty_record),
        TEST(serves_for_zeros),
        TEST(serves_for_a_torn_record),
        TEST(is_left_alone_by_a_reader),
        TEST(yields_to_a_good_record),
        TEST(does_not_serve_when_it_was_changed),
        TEST(does_not_serve_another_directory),
        TEST(does_not_serve_without_a_record),
        TEST(is_found_and_settled_by_a_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
