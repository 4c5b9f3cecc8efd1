/* Rotation of directory keys and re-encryption of data: whole runs, and over what is damaged. What counts in
 * the end is what lies on the disk: it is read with the newest version of the directory key alone. */
#include "rotate_samples.h"

/* ---- whole runs ---- */

static void test_rewrap(void **state)
{
    struct rotate_progress p;
    make_samples();
    struct node *open = must_walk("dir/open");
    assert_int_equal(file_open(open, true), 0);
    assert_int_equal(run(volume_scan_versions, &p), 0);
    assert_int_equal(p.files, COUNT(samples));
    assert_int_equal(p.least_found, 1);
    next_version();
    assert_int_equal(run(volume_rewrap, &p), 0);
    assert_int_equal(p.files, COUNT(samples));
    assert_int_equal(p.changed, COUNT(samples) - 1);
    assert_int_equal(p.least_found, 2);
    assert_int_equal(p.damaged, 0);
    check_headers(2, 1);
    assert_int_equal(run(volume_rewrap, &p), 0);
    assert_int_equal(p.changed, 0);
    fill(open, 1000, 20000); /* with the header that it has in memory */
    struct stat st, want = {.st_mtim = {1234567, 89}};
    assert_int_equal(node_setattr(open, &want, SET_MTIME, &st), 0);
    file_close(open);
    node_unref(open, 1);
    only_newest();
    check_samples();
}

static void test_reencrypt(void **state)
{
    struct rotate_progress p;
    uint64_t bytes = 0;
    make_samples();
    struct node *open = must_walk("dir/open");
    assert_int_equal(file_open(open, true), 0);
    for (size_t i = 0; i < COUNT(samples); i++)
        bytes += samples[i].size - (samples[i].hole_to - samples[i].hole_from);
    for (uint16_t epoch = 2; epoch < 5; epoch++) {
        next_version();
        assert_int_equal(run(volume_reencrypt, &p), 0);
        assert_int_equal(p.files, COUNT(samples));
        assert_int_equal(p.changed, COUNT(samples) - 1);
        assert_int_equal(p.bytes, bytes);
        check_headers(epoch, epoch);
        check_samples();
    }
    assert_int_equal(run(volume_reencrypt, &p), 0);
    assert_int_equal(p.changed, 0);
    assert_int_equal(run(volume_scan_versions, &p), 0);
    assert_int_equal(p.least_found, 4);
    file_close(open);
    node_unref(open, 1);
    only_newest();
    check_samples();
}

/* Written a moment ago, so that the journal still has it. */
static void test_pending(void **state)
{
    struct rotate_progress p;
    make_samples();
    reopen_volume();
    for (size_t i = 0; i < COUNT(samples); i++) {
        struct node *n = must_walk(samples[i].path);
        uint64_t size = samples[i].size;
        if (size > 2000 && !samples[i].hole_from)
            fill(n, size / 3, size / 2);
        struct stat st, want = {.st_mtim = {1234567, 89}};
        assert_int_equal(node_setattr(n, &want, SET_MTIME, &st), 0);
        node_unref(n, 1);
    }
    next_version();
    assert_int_equal(run(volume_reencrypt, &p), 0);
    check_headers(2, 2);
    only_newest();
    check_samples();
}

static void test_huge_sparse(void **state)
{
    struct rotate_progress p;
    struct node *n = make_file(volume_root(v), "sparse", "begin");
    uint64_t size = UINT64_C(4) << 40;
    char byte;
    assert_int_equal(file_truncate(n, size), 0);
    assert_int_equal(file_write(n, "middle", 6, size / 2 + 3 * PAGE_BYTES), 6);
    assert_int_equal(file_write(n, "end", 3, size - 3), 3);
    next_version();
    assert_int_equal(run(volume_reencrypt, &p), 0);
    assert_true(p.bytes > 0 && p.bytes <= 3 * PAGE_BYTES);
    node_unref(n, 1);
    only_newest();
    n = must_walk("sparse");
    struct file_header h = placed_header(n);
    assert_int_equal(h.key_version, 2);
    assert_true(holds(n, "begin"));
    assert_int_equal(file_read(n, &byte, 1, size - 1), 1);
    assert_int_equal(byte, 'd');
    assert_int_equal(file_read(n, &byte, 1, size / 2 + 3 * PAGE_BYTES), 1);
    assert_int_equal(byte, 'm');
    assert_int_equal(file_seek(n, 2 * PAGE_BYTES, SEEK_DATA), size / 2 + 3 * PAGE_BYTES);
    node_unref(n, 1);
}

/* A key that has sealed nearly as much as it may: the file gets another, and the next rotation finishes that.
 */
static void test_spent_key(void **state)
{
    struct rotate_progress p;
    struct file *f;
    struct node *n = make_file(volume_root(v), "busy", "");
    fill(n, 0, 100000);
    assert_int_equal(file_get(n, &f), 0);
    assert_int_equal(file_lock_write(f), 0);
    f->hdr.chunk_writes = FILE_MESSAGES_MAX - 2;
    file_unlock(f);
    fill(n, 5000, 9000);
    assert_true(file_has_two_keys(f));
    assert_true(f->hdr.chunk_writes < 100);
    f->hdr.chunk_writes = FILE_MESSAGES_MAX - 1; /* the second one, too */
    assert_int_equal(file_write(n, "x", 1, 0), -EFBIG);
    assert_int_equal(volume_checkpoint(v), 0);
    assert_int_equal(run(volume_scan_versions, &p), 0);
    assert_int_equal(p.changed, 1);
    assert_int_equal(run(volume_reencrypt, &p), LFS_ERR_CORRUPT);
    f->hdr.chunk_writes = 0;
    assert_int_equal(run(volume_reencrypt, &p), 0);
    check_epochs(n, 2);
    file_put(f);
    node_unref(n, 1);
}

/* Two rotations at once, a volume that nobody may write, keys that are not there. */
static void test_refused(void **state)
{
    struct rotate_progress p;
    struct rotate_options o = {0};
    assert_int_equal(volume_rewrap(v, &o, &p), LFS_ERR_NOKEY);
    assert_int_equal(volume_reencrypt(v, &o, &p), LFS_ERR_NOKEY);
    assert_int_equal(volume_scan_versions(v, &o, &p), LFS_ERR_NOKEY);
    assert_int_equal(volume_close(v), 0);
    struct volume_options ro = {.read_only = true};
    assert_int_equal(volume_open(volume_dir, &plain_keys, &ro, NULL, &v), 0);
    assert_int_equal(run(volume_rewrap, &p), -EROFS);
    assert_int_equal(run(volume_scan_versions, &p), 0);
    reopen_volume();
}

/* ---- one protected directory of several ---- */

static void test_protected(void **state)
{
    struct keyset outer = pd_keyset(), inner = pd_keyset();
    struct rotate_options o = {0};
    struct rotate_progress p;
    struct node *top = make_top(volume_root(v), "top", &outer), *sub = make_dir(top, "sub"),
                *deep = make_top(sub, "deep", &inner), *below = make_dir(deep, "below");
    struct node *file[] = {make_file(volume_root(v), "a", "root's"), make_file(sub, "b", "outer's"),
                           make_file(below, "c", "inner's")};
    assert_int_equal(volume_checkpoint(v), 0);
    add_version(&inner);
    unlock_pd(&inner);
    memcpy(o.pd_id, inner.pd_id, ID_BYTES);
    lock_pd(&outer); /* what lies around it is not needed */
    assert_int_equal(volume_reencrypt(v, &o, &p), 0);
    assert_int_equal(p.files, 1);
    assert_int_equal(p.changed, 1);
    for (int i = 0; i < 3; i++) {
        struct file_header h = placed_header(file[i]);
        assert_int_equal(h.key_version, i == 2 ? 2 : 1);
    }
    unlock_pd(&outer);
    add_version(&outer);
    unlock_pd(&outer);
    lock_pd(&inner);
    assert_int_equal(volume_reencrypt(v, &o, &p), LFS_ERR_NOKEY);
    memcpy(o.pd_id, outer.pd_id, ID_BYTES);
    assert_int_equal(volume_rewrap(v, &o, &p), 0);
    assert_int_equal(p.changed, 1);
    unlock_pd(&inner);
    assert_true(holds(file[0], "root's") && holds(file[1], "outer's") && holds(file[2], "inner's"));
    for (int i = 0; i < 3; i++)
        node_unref(file[i], 1);
    node_unref(below, 1);
    node_unref(deep, 1);
    node_unref(sub, 1);
    node_unref(top, 1);
}

/* ---- damage ---- */

static void flip(struct node *n, uint64_t at)
{
    uint8_t byte;
    struct stat st;
    int fd = backing(n, O_RDWR);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
    assert_int_equal(futimens(fd, (struct timespec[2]){st.st_atim, st.st_mtim}), 0);
    close(fd);
}

static void test_damage(void **state)
{
    struct rotate_progress p;
    make_samples();
    reopen_volume();
    struct node *hdr = must_walk("inline"), *data = must_walk("dir/sub/groups"),
                *attr = must_walk("one-chunk");
    flip(hdr, 100);
    flip(data, layout_data_offset(300) + 50);
    int fd = backing(attr, O_RDWR);
    assert_int_equal(
        fsetxattr(fd, XATTR_STORED_PREFIX "garbage", "0123456789012345678901234567890123456789\1", 42, 0), 0);
    close(fd);
    next_version();
    assert_int_equal(run(volume_rewrap, &p), LFS_ERR_CORRUPT);
    assert_int_equal(p.damaged, 1);
    assert_int_equal(p.changed, COUNT(samples) - 2);
    next_version();
    assert_int_equal(run(volume_reencrypt, &p), LFS_ERR_CORRUPT);
    assert_int_equal(p.damaged, 3);
    struct file_header h = placed_header(data);
    assert_int_equal(places(&h), 2);
    h = placed_header(attr);
    assert_int_equal(places(&h), 2);
    check_sample(&samples[5]);
    flip(hdr, 100);
    flip(data, layout_data_offset(300) + 50);
    fd = backing(attr, O_RDWR);
    assert_int_equal(fremovexattr(fd, XATTR_STORED_PREFIX "garbage"), 0);
    close(fd);
    node_unref(hdr, 1);
    node_unref(data, 1);
    node_unref(attr, 1);
    assert_int_equal(run(volume_reencrypt, &p), 0);
    assert_int_equal(p.damaged, 0);
    only_newest();
    check_samples();
}

#define T(name) cmocka_unit_test_setup_teardown(name, volume_setup, volume_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_rewrap),    T(test_reencrypt), T(test_pending),   T(test_huge_sparse),
        T(test_spent_key), T(test_refused),   T(test_protected), T(test_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
