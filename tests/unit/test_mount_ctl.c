#include "latchfs/err.h"
#include "latchfs/mountctl.h"
#include "support.h"

#include <errno.h>

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
                  .journal_syncs = 8,
                  .seals = 15,
                  .seals_waiting = 16,
                  .checkpoint_at = 17,
                  .failed_sync = -5},
        .frozen_until = 18,
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
    assert_true(got.frozen_until == 18);
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
    assert_int_equal(n, 8 + 16 + 4 + 4 + 8 + 14 * 8 + 4 + 1 + 4 * 8 + (int)sizeof tail);
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

/* ---- the other kinds ---- */

static struct mountctl_request request(uint16_t kind, const char *path)
{
    struct mountctl_request q = {.kind = kind};
    strcpy(q.path, path);
    return q;
}

static void test_requests_round_trip(void **state)
{
    static const uint16_t kinds[] = {MOUNTCTL_STATUS,    MOUNTCTL_RESOLVE,    MOUNTCTL_PROTECT, MOUNTCTL_DIRS,
                                     MOUNTCTL_JOB_START, MOUNTCTL_JOB_STATUS, MOUNTCTL_JOB_STOP};
    uint8_t bytes[MOUNTCTL_REQUEST_MAX];
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        bool has_path = kinds[i] == MOUNTCTL_RESOLVE || kinds[i] == MOUNTCTL_PROTECT;
        bool has_id = kinds[i] == MOUNTCTL_PROTECT || kinds[i] == MOUNTCTL_JOB_START;
        struct mountctl_request q = request(kinds[i], has_path ? "a/..b/c \xff" : ""), got;
        if (has_id)
            memset(q.pd_id, 0x77, ID_BYTES);
        if (kinds[i] == MOUNTCTL_JOB_START) {
            q.job = MOUNT_JOB_REENCRYPT;
            q.bytes_per_second = UINT64_C(0x1122334455667788);
            q.version = 0x99aabbcc;
        }
        int n = mountctl_encode_request(&q, bytes, sizeof bytes);
        assert_true(n >= 4);
        assert_int_equal(mountctl_decode_request(bytes, (size_t)n, &got), 0);
        assert_memory_equal(&got, &q, sizeof q);
        for (int len = 0; len < n; len++)
            assert_int_equal(mountctl_decode_request(bytes, (size_t)len, &got), LFS_ERR_PROTO);
        bytes[n] = 0;
        assert_int_equal(mountctl_decode_request(bytes, (size_t)n + 1, &got), LFS_ERR_PROTO);
    }
}

static void test_request_layout(void **state)
{
    static const uint8_t start[] = {1, 0, 5, 0, 2, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
                                    7, 7, 7, 7, 1, 2, 0, 0, 0, 0, 0, 0, 3, 4, 0, 0};
    static const uint8_t resolve[] = {1, 0, 2, 0, 3, 0, 'a', '/', 'b'};
    struct mountctl_request q = {
        .kind = MOUNTCTL_JOB_START, .job = 2, .bytes_per_second = 0x201, .version = 0x403};
    uint8_t bytes[MOUNTCTL_REQUEST_MAX];
    memset(q.pd_id, 7, ID_BYTES);
    assert_int_equal(mountctl_encode_request(&q, bytes, sizeof bytes), sizeof start);
    assert_memory_equal(bytes, start, sizeof start);
    q = request(MOUNTCTL_RESOLVE, "a/b");
    assert_int_equal(mountctl_encode_request(&q, bytes, sizeof bytes), sizeof resolve);
    assert_memory_equal(bytes, resolve, sizeof resolve);
}

/* Nothing may lead out of the mount, or be read in two ways. */
static void test_bad_paths_are_refused(void **state)
{
    static const char *const bad[] = {"/", "/a", "a/", "a//b", ".", "..", "a/..", "./a", "a/./b", "../a"};
    uint8_t bytes[MOUNTCTL_REQUEST_MAX];
    struct mountctl_request q, got;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        q = request(MOUNTCTL_RESOLVE, bad[i]);
        assert_int_equal(mountctl_encode_request(&q, bytes, sizeof bytes), LFS_ERR_MISUSE);
        size_t len = strlen(bad[i]);
        memcpy(bytes, (const uint8_t[]){1, 0, 2, 0, (uint8_t)len, 0}, 6);
        memcpy(bytes + 6, bad[i], len);
        assert_int_equal(mountctl_decode_request(bytes, 6 + len, &got), LFS_ERR_PROTO);
    }
    q = request(MOUNTCTL_RESOLVE, "");
    memset(q.path, 'n', NAME_PLAIN_MAX + 1);
    assert_int_equal(mountctl_encode_request(&q, bytes, sizeof bytes), LFS_ERR_MISUSE);
    q.path[NAME_PLAIN_MAX] = '\0';
    assert_true(mountctl_encode_request(&q, bytes, sizeof bytes) > 0);
}

static void test_longest_path_fits(void **state)
{
    struct mountctl_request q = {.kind = MOUNTCTL_PROTECT}, got;
    uint8_t bytes[MOUNTCTL_REQUEST_MAX];
    for (size_t i = 0; i < sizeof q.path - 1; i++)
        q.path[i] = i % 2 ? '/' : 'd';
    int n = mountctl_encode_request(&q, bytes, sizeof bytes);
    assert_true(n > PATH_MAX);
    assert_int_equal(mountctl_decode_request(bytes, (size_t)n, &got), 0);
    assert_string_equal(got.path, q.path);
}

static void test_unknown_requests(void **state)
{
    static const uint8_t kind[] = {1, 0, 16, 0, 1, 2, 3}, version[] = {2, 0, 1, 0};
    static const uint8_t job[] = {1, 0, 5, 0, 4, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
                                  7, 7, 7, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    struct mountctl_request q;
    uint8_t bytes[64];
    assert_int_equal(mountctl_decode_request(kind, sizeof kind, &q), LFS_ERR_UNSUPPORTED);
    assert_int_equal(q.kind, 16);
    assert_int_equal(mountctl_decode_request(version, sizeof version, &q), LFS_ERR_UNSUPPORTED);
    assert_int_equal(mountctl_decode_request(job, sizeof job, &q), LFS_ERR_PROTO);
    q = (struct mountctl_request){.kind = 16};
    assert_int_equal(mountctl_encode_request(&q, bytes, sizeof bytes), LFS_ERR_MISUSE);
}

static void test_resolved(void **state)
{
    struct mount_resolved m = {.top = true, .locked = true}, got;
    uint8_t bytes[64];
    memset(m.pd_id, 0x33, ID_BYTES);
    int n = mountctl_encode_resolved(&m, bytes, sizeof bytes);
    assert_int_equal(n, 8 + 16 + 1);
    assert_int_equal(bytes[24], 3);
    assert_int_equal(mountctl_decode_resolved(bytes, (size_t)n, &got), 0);
    assert_memory_equal(got.pd_id, m.pd_id, ID_BYTES);
    assert_true(got.top && got.locked);
    bytes[24] = 4;
    assert_int_equal(mountctl_decode_resolved(bytes, (size_t)n, &got), LFS_ERR_PROTO);
    for (int len = 0; len < n; len++)
        assert_int_equal(mountctl_decode_resolved(bytes, (size_t)len, &got), LFS_ERR_PROTO);
}

static void test_dirs(void **state)
{
    static struct mount_dir st[MOUNTCTL_DIRS_MAX + 1], got[MOUNTCTL_DIRS_MAX];
    uint8_t bytes[MOUNTCTL_ANSWER_MAX];
    size_t count = 999;
    for (size_t i = 0; i < MOUNTCTL_DIRS_MAX; i++) {
        st[i] =
            (struct mount_dir){{.locked = i % 2, .active = 5, .least = 4, .last_use = i}, .open_files = 3};
        memset(st[i].pd.id, (int)i, ID_BYTES);
    }
    int n = mountctl_encode_dirs(st, MOUNTCTL_DIRS_MAX, bytes, sizeof bytes);
    assert_int_equal(n, 8 + 2 + 256 * 41);
    assert_int_equal(mountctl_decode_dirs(bytes, (size_t)n, got, MOUNTCTL_DIRS_MAX, &count), 0);
    assert_int_equal(count, MOUNTCTL_DIRS_MAX);
    for (size_t i = 0; i < count; i++) {
        const struct pd_status *pd = &got[i].pd;
        assert_memory_equal(pd->id, st[i].pd.id, ID_BYTES);
        assert_true(pd->locked == st[i].pd.locked && pd->active == 5 && pd->least == 4 && pd->last_use == i);
        assert_int_equal(got[i].open_files, 3);
    }
    count = 7;
    assert_int_equal(mountctl_decode_dirs(bytes, (size_t)n, got, 255, &count), -E2BIG);
    assert_int_equal(mountctl_decode_dirs(bytes, (size_t)n - 1, got, 256, &count), LFS_ERR_PROTO);
    bytes[8 + 2 + 16] = 2; /* neither locked nor not */
    assert_int_equal(mountctl_decode_dirs(bytes, (size_t)n, got, 256, &count), LFS_ERR_PROTO);
    assert_int_equal(count, 7);
    assert_int_equal(mountctl_encode_dirs(st, MOUNTCTL_DIRS_MAX + 1, bytes, sizeof bytes), LFS_ERR_MISUSE);
    n = mountctl_encode_dirs(st, 0, bytes, sizeof bytes);
    assert_int_equal(mountctl_decode_dirs(bytes, (size_t)n, got, 0, &count), 0);
    assert_int_equal(count, 0);
    bytes[9] = 2; /* 512 of them */
    assert_int_equal(mountctl_decode_dirs(bytes, (size_t)n, got, 256, &count), LFS_ERR_PROTO);
}

static void test_job(void **state)
{
    struct mount_job_status st = {.job = MOUNT_JOB_SCAN,
                                  .result = LFS_ERR_NOKEY,
                                  .progress = {1, 2, 3, 4, 5, 6, 7}},
                            got;
    uint8_t bytes[128];
    memset(st.pd_id, 9, ID_BYTES);
    int n = mountctl_encode_job(&st, bytes, sizeof bytes);
    assert_int_equal(n, 8 + 1 + 1 + 4 + 16 + 6 * 8 + 4);
    assert_int_equal(mountctl_decode_job(bytes, (size_t)n, &got), 0);
    assert_memory_equal(got.pd_id, st.pd_id, ID_BYTES);
    assert_memory_equal(&got.progress, &st.progress, sizeof st.progress);
    assert_true(got.job == MOUNT_JOB_SCAN && !got.running && got.result == LFS_ERR_NOKEY);
    for (int len = 0; len < n; len++)
        assert_int_equal(mountctl_decode_job(bytes, (size_t)len, &got), LFS_ERR_PROTO);
    bytes[8] = 4;
    assert_int_equal(mountctl_decode_job(bytes, (size_t)n, &got), LFS_ERR_PROTO);
    bytes[8] = 0; /* no job has a result */
    assert_int_equal(mountctl_decode_job(bytes, (size_t)n, &got), LFS_ERR_PROTO);
}

static void test_plain_answers(void **state)
{
    uint8_t bytes[16] = {0};
    assert_int_equal(mountctl_encode_plain(MOUNTCTL_PROTECT, LFS_ERR_BUSY, bytes, sizeof bytes), 8);
    assert_int_equal(mountctl_decode_plain(MOUNTCTL_PROTECT, bytes, 8), LFS_ERR_BUSY);
    assert_int_equal(mountctl_decode_plain(MOUNTCTL_JOB_STOP, bytes, 8), LFS_ERR_PROTO);
    assert_int_equal(mountctl_decode_plain(MOUNTCTL_PROTECT, bytes, 9), LFS_ERR_PROTO);
    assert_int_equal(mountctl_encode_plain(MOUNTCTL_PROTECT, 0, bytes, sizeof bytes), 8);
    assert_int_equal(mountctl_decode_plain(MOUNTCTL_PROTECT, bytes, 8), 0);
    assert_int_equal(mountctl_decode_plain(MOUNTCTL_PROTECT, bytes, 9), LFS_ERR_PROTO);
    assert_int_equal(mountctl_encode_plain(MOUNTCTL_PROTECT, 0, bytes, 7), LFS_ERR_MISUSE);
}

/* Whatever bytes come: an answer or an error, and what is taken encodes to the same bytes. */
static void test_hostile_bytes(void **state)
{
    uint64_t seed = UINT64_C(0x9e3779b97f4a7c15);
    uint8_t bytes[96], again[MOUNTCTL_REQUEST_MAX];
    struct mountctl_request q;
    unsigned taken = 0;
    for (int i = 0; i < 200000; i++) {
        size_t len = 4 + (size_t)(i % 60);
        for (size_t k = 0; k < sizeof bytes; k++) {
            seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
            bytes[k] = (uint8_t)(seed >> 57);
        }
        memcpy(bytes, (const uint8_t[]){1, 0, (uint8_t)(i % 9), 0}, 4);
        bytes[5] &= 1;
        bytes[23] = 0;
        if (mountctl_decode_request(bytes, len, &q) == 0) {
            taken++;
            assert_int_equal(mountctl_encode_request(&q, again, sizeof again), len);
            assert_memory_equal(again, bytes, len);
        }
    }
    assert_true(taken > 100);
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
        cmocka_unit_test(test_requests_round_trip),
        cmocka_unit_test(test_request_layout),
        cmocka_unit_test(test_bad_paths_are_refused),
        cmocka_unit_test(test_longest_path_fits),
        cmocka_unit_test(test_unknown_requests),
        cmocka_unit_test(test_resolved),
        cmocka_unit_test(test_dirs),
        cmocka_unit_test(test_job),
        cmocka_unit_test(test_plain_answers),
        cmocka_unit_test(test_hostile_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
