/* Seals of long files, which are asked after the first change: what does not fit is found when the file would
 * be sealed next, whatever was changed meanwhile. */
#include "seal_fixture.h"

#include <stdatomic.h>
#include <sys/syscall.h>

#define GROUPS 80u
#define LONG (GROUPS * GROUP)
/* The first chunk of a group, by number from 1. */
#define AT(group) (FIRST_RECORDS + ((group)-1) * GROUP_RECORDS)

static char victim_path[8192];

/* Some chunks in three groups, the rest holes; sealed and closed. */
static void make_long(void)
{
    static const uint64_t groups[] = {5, 40, 79};
    char path[4096];
    struct node *n = big_file("victim", 3 * PAGE_BYTES, 1);
    assert_int_equal(file_truncate(n, LONG), 0);
    for (size_t i = 0; i < COUNT(groups); i++)
        for (uint64_t c = 0; c < 3; c++)
            assert_int_equal(file_write(n, "content", 7, (AT(groups[i]) + c) * PAGE_BYTES), 7);
    assert_int_equal(node_path(n, path, sizeof path), 0);
    snprintf(victim_path, sizeof victim_path, "%s/%s", volume_dir, path);
    node_unref(n, 1);
    assert_int_equal(volume_close(v), 0);
    v = NULL;
}

static void zero_record(uint64_t chunk)
{
    static const uint8_t zeros[RECORD_BYTES];
    int fd = open(victim_path, O_RDWR);
    assert_int_equal(pwrite(fd, zeros, sizeof zeros, (off_t)layout_record_offset(chunk)), sizeof zeros);
    close(fd);
}

static struct node *open_long(void)
{
    open_sealing(3600, false);
    return must_walk("victim");
}

/* What the next life finds. */
static void expect_verify(int want)
{
    bool sealed = false;
    struct node *n = open_long();
    assert_int_equal(file_verify_seal(n, &sealed), want);
    assert_true(sealed);
    assert_int_equal(placed_header(n).seal_generation, 2);
    assert_int_equal(file_write(n, "x", 1, 0), want ? want : 1);
    node_unref(n, 1);
}

static void change_nothing_else(struct node *n)
{
}

static void change_there(struct node *n)
{
    assert_int_equal(file_write(n, "x", 1, (AT(40) + 2) * PAGE_BYTES), 1);
}

static void punch_there(struct node *n)
{
    assert_int_equal(
        file_fallocate(n, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, AT(40) * PAGE_BYTES, GROUP), 0);
}

static void cut_before(struct node *n)
{
    assert_int_equal(file_truncate(n, 10 * GROUP), 0);
}

static void grow(struct node *n)
{
    assert_int_equal(file_write(n, "x", 1, LONG + 3 * GROUP), 1);
}

static void new_key(struct node *n)
{
    struct rotate_progress p;
    next_version();
    assert_int_equal(run(volume_reencrypt, &p), 0);
}

static void (*const changes[])(struct node *n) = {
    change_nothing_else, change_there, punch_there, cut_before, grow, new_key,
};

/* n is unreferenced, and unlinked at the end. */
static void close_and_verify(struct node *n, bool damage)
{
    node_unref(n, 1);
    assert_int_equal(volume_close(v), 0);
    v = NULL;
    expect_verify(damage ? LFS_ERR_AUTH : 0);
    assert_int_equal(node_unlink(volume_root(v), "victim"), 0);
}

static void change_all(bool damage)
{
    for (size_t i = 0; i < COUNT(changes); i++) {
        make_long();
        if (damage)
            zero_record(AT(40) + 1);
        struct node *n = open_long();
        assert_int_equal(file_write(n, "x", 1, AT(5) * PAGE_BYTES), 1);
        changes[i](n);
        assert_int_equal(file_fsync(n, false), 0);
        assert_int_equal(volume_checkpoint(v), 0);
        close_and_verify(n, damage);
    }
}

static void test_damage_is_found(void **state)
{
    change_all(true);
}

static void test_no_false_alarm(void **state)
{
    change_all(false);
}

/* ---- what can't be read ---- */

static atomic_bool unreadable; /* the tag page of group 40 */

ssize_t pread(int fd, void *buf, size_t n, off_t off)
{
    if (atomic_load(&unreadable) && (uint64_t)off == layout_tag_page(AT(40))) {
        errno = EIO;
        return -1;
    }
    return syscall(SYS_pread64, fd, buf, n, off);
}

/* The disk fails for a while: the change is put in place later, and what the seal says is asked later. */
static void fail_for_a_while(bool damage, void (*change)(struct node *n))
{
    make_long();
    if (damage)
        zero_record(AT(40) + 1);
    struct node *n = open_long();
    assert_int_equal(file_write(n, "x", 1, AT(5) * PAGE_BYTES), 1);
    change(n);
    assert_int_equal(file_fsync(n, false), 0);
    atomic_store(&unreadable, true);
    assert_int_not_equal(volume_checkpoint(v), 0);
    atomic_store(&unreadable, false);
    assert_int_equal(volume_checkpoint(v), 0);
    close_and_verify(n, damage);
}

static void test_an_error_is_no_answer(void **state)
{
    fail_for_a_while(false, cut_before);
    fail_for_a_while(true, cut_before);
    fail_for_a_while(false, punch_there);
    fail_for_a_while(true, punch_there);
}

/* What was sealed is gone: an error does not keep a file from being emptied. */
static void test_emptied_unread(void **state)
{
    make_long();
    struct node *n = open_long();
    assert_int_equal(file_write(n, "x", 1, AT(5) * PAGE_BYTES), 1);
    assert_int_equal(file_truncate(n, 0), 0);
    atomic_store(&unreadable, true);
    assert_int_equal(volume_checkpoint(v), 0);
    atomic_store(&unreadable, false);
    assert_int_equal(file_write(n, "x", 1, LONG), 1);
    seal_all();
    assert_true(placed_sealed(n));
    assert_int_equal(file_write(n, "x", 1, 0), 1);
    node_unref(n, 1);
}

/* The same life finds it, too, and refuses from then on. */
static void test_found_by_the_next_seal(void **state)
{
    make_long();
    zero_record(AT(79) + 1);
    struct node *n = open_long();
    assert_int_equal(file_write(n, "x", 1, AT(5) * PAGE_BYTES), 1);
    seal_all();
    assert_int_equal(placed_header(n).seal_state, SEAL_SEALED);
    assert_int_equal(file_write(n, "x", 1, AT(5) * PAGE_BYTES), LFS_ERR_AUTH);
    assert_int_equal(node_unlink(volume_root(v), "victim"), 0);
    node_unref(n, 1);
}

/* Sealed again and again: each seal is asked, each is right. */
static void test_again_and_again(void **state)
{
    make_long();
    struct node *n = open_long();
    for (uint64_t i = 1; i < 6; i++) {
        assert_int_equal(file_write(n, &i, sizeof i, AT(13 * i) * PAGE_BYTES), sizeof i);
        assert_int_equal(volume_checkpoint(v), 0);
        assert_int_equal(file_write(n, &i, sizeof i, AT(13 * i + 1) * PAGE_BYTES), sizeof i);
        seal_all();
        assert_true(placed_sealed(n));
    }
    node_unref(n, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_damage_is_found, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_no_false_alarm, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_an_error_is_no_answer, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_emptied_unread, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_found_by_the_next_seal, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_again_and_again, volume_setup, volume_teardown),
    };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
