#include "latchfs/err.h"
#include "latchfs/mountctl.h"
#include "support.h"

static struct mount_status sample(void)
{
    struct mount_status st = {
        .pid = 0x01020304,
        .locked = true,
        .writeback = true,
        .mounted_at = UINT64_C(0x1122334455667788),
        .stats = {.nodes = 1,
                  .open_fds = 2,
                  .pinned_fds = 3,
                  .journal_bytes = 4,
                  .journal_used = 5,
                  .auth_failures = 6,
                  .checkpoints = 7,
                  .journal_syncs = 8},
        .open_files = 9,
        .writes = 10,
        .replay = {.unclean = true, .entries = 11, .files = 12, .skipped = 13, .torn = 14},
        .volume = "/vol",
        .mountpoint = "/mnt/\xff",
    };
    memset(st.volume_id, 0xab, sizeof st.volume_id);
    return st;
}

static void test_round_trip(void **state)
{
    struct mount_status st = sample(), got;
    uint8_t bytes[MOUNTCTL_ANSWER_MAX];
    int n = mountctl_encode_status(&st, bytes, sizeof bytes);
    assert_true(n > 0);
    assert_int_equal(mountctl_decode_status(bytes, (size_t)n, &got), 0);
    assert_memory_equal(got.volume_id, st.volume_id, ID_BYTES);
    assert_int_equal(got.pid, st.pid);
    assert_true(got.locked && got.writeback && !got.read_only && !got.failed);
    assert_true(got.mounted_at == st.mounted_at);
    assert_memory_equal(&got.stats, &st.stats, sizeof st.stats);
    assert_int_equal(got.open_files, 9);
    assert_int_equal(got.writes, 10);
    assert_true(got.replay.unclean);
    assert_int_equal(got.replay.entries, 11);
    assert_int_equal(got.replay.files, 12);
    assert_int_equal(got.replay.skipped, 13);
    assert_int_equal(got.replay.torn, 14);
    assert_string_equal(got.volume, st.volume);
    assert_string_equal(got.mountpoint, st.mountpoint);
}

/* Byte by byte what the header says, so that other programs can read it. */
static void test_layout(void **state)
{
    static const uint8_t head[] = {1, 0, 1, 0, 0, 0, 0, 0};
    static const uint8_t tail[] = {4, 0, '/', 'v', 'o', 'l', 6, 0, '/', 'm', 'n', 't', '/', 0xff};
    struct mount_status st = sample();
    uint8_t bytes[MOUNTCTL_ANSWER_MAX];
    int n = mountctl_encode_status(&st, bytes, sizeof bytes);
    assert_int_equal(n, 8 + 16 + 4 + 4 + 8 + 10 * 8 + 1 + 4 * 8 + (int)sizeof tail);
    assert_memory_equal(bytes, head, sizeof head);
    assert_int_equal(bytes[8], 0xab);
    assert_int_equal(bytes[24], 4);
    assert_int_equal(bytes[28], 9); /* locked, writeback */
    assert_memory_equal(bytes + n - sizeof tail, tail, sizeof tail);
}

static void test_longest_paths_fit(void **state)
{
    struct mount_status st = sample(), got;
    uint8_t bytes[MOUNTCTL_ANSWER_MAX];
    memset(st.volume, 'v', sizeof st.volume - 1);
    memset(st.mountpoint, 'm', sizeof st.mountpoint - 1);
    int n = mountctl_encode_status(&st, bytes, sizeof bytes);
    assert_true(n > 0);
    assert_int_equal(mountctl_decode_status(bytes, (size_t)n, &got), 0);
    assert_int_equal(strlen(got.mountpoint), sizeof st.mountpoint - 1);
    assert_int_equal(mountctl_encode_status(&st, bytes, (size_t)n - 1), LFS_ERR_MISUSE);
}

static void test_errors_come_through(void **state)
{
    static const uint8_t refused[] = {1, 0, 1, 0, 0x75, 0xec, 0xff, 0xff}; /* -5003 */
    static const uint8_t positive[] = {1, 0, 1, 0, 5, 0, 0, 0};
    struct mount_status got;
    assert_int_equal(mountctl_decode_status(refused, sizeof refused, &got), LFS_ERR_UNSUPPORTED);
    assert_int_equal(mountctl_decode_status(positive, sizeof positive, &got), LFS_ERR_PROTO);
}

static void test_cut_and_padded_are_refused(void **state)
{
    struct mount_status st = sample(), got, untouched;
    uint8_t bytes[MOUNTCTL_ANSWER_MAX] = {0};
    int n = mountctl_encode_status(&st, bytes, sizeof bytes);
    memset(&got, 0x5a, sizeof got);
    untouched = got;
    for (int len = 0; len < n; len++)
        assert_int_equal(mountctl_decode_status(bytes, (size_t)len, &got), LFS_ERR_PROTO);
    assert_int_equal(mountctl_decode_status(bytes, (size_t)n + 1, &got), LFS_ERR_PROTO);
    assert_memory_equal(&got, &untouched, sizeof got);
}

static void test_flipped_bits_do_no_harm(void **state)
{
    struct mount_status st = sample(), got;
    uint8_t bytes[MOUNTCTL_ANSWER_MAX];
    int n = mountctl_encode_status(&st, bytes, sizeof bytes);
    for (int bit = 0; bit < n * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        if (mountctl_decode_status(bytes, (size_t)n, &got) == 0) {
            assert_true(memchr(got.volume, 0, sizeof got.volume) != NULL);
            assert_true(memchr(got.mountpoint, 0, sizeof got.mountpoint) != NULL);
        }
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

static void test_nul_in_a_path_is_refused(void **state)
{
    struct mount_status st = sample(), got;
    uint8_t bytes[MOUNTCTL_ANSWER_MAX];
    int n = mountctl_encode_status(&st, bytes, sizeof bytes);
    bytes[n - 3] = 0;
    assert_int_equal(mountctl_decode_status(bytes, (size_t)n, &got), LFS_ERR_PROTO);
}

/* A well-formed message whose path has no room for its NUL. */
static void test_overlong_path_is_refused(void **state)
{
    struct mount_status st = sample(), got;
    uint8_t bytes[MOUNTCTL_ANSWER_MAX], longer[MOUNTCTL_ANSWER_MAX + 1];
    memset(st.mountpoint, 'm', sizeof st.mountpoint - 1);
    int n = mountctl_encode_status(&st, bytes, sizeof bytes);
    size_t at = (size_t)n - (sizeof st.mountpoint - 1) - 2;
    memcpy(longer, bytes, (size_t)n);
    longer[n] = 'm';
    longer[at] = 0; /* 4096, was 4095 */
    longer[at + 1] = 0x10;
    assert_int_equal(mountctl_decode_status(longer, (size_t)n + 1, &got), LFS_ERR_PROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_longest_paths_fit),
        cmocka_unit_test(test_errors_come_through),
        cmocka_unit_test(test_cut_and_padded_are_refused),
        cmocka_unit_test(test_flipped_bits_do_no_harm),
        cmocka_unit_test(test_nul_in_a_path_is_refused),
        cmocka_unit_test(test_overlong_path_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
