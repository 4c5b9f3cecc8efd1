/* Messages of the control socket about freezes, paths and checks, and the findings that a mount keeps. */
#include "fs/mount/findings.h"
#include "latchfs/err.h"
#include "support.h"

#include <errno.h>

static uint8_t bytes[MOUNTCTL_ANSWER_MAX + 1];

static void requests_come_back(const struct mountctl_request *q)
{
    static struct mountctl_request got;
    uint8_t raw[MOUNTCTL_REQUEST_MAX + 1];
    int n = mountctl_encode_request(q, raw, sizeof raw);
    assert_true(n >= 4);
    assert_int_equal(mountctl_decode_request(raw, (size_t)n, &got), 0);
    assert_memory_equal(&got, q, sizeof got);
    for (int len = 0; len < n; len++)
        assert_int_equal(mountctl_decode_request(raw, (size_t)len, &got), LFS_ERR_PROTO);
    raw[n] = 0;
    assert_int_equal(mountctl_decode_request(raw, (size_t)n + 1, &got), LFS_ERR_PROTO);
}

static void test_requests(void **state)
{
    struct mountctl_request check = {.kind = MOUNTCTL_CHECK_START,
                                     .flags = CHECK_CONTENTS,
                                     .workers = 3,
                                     .bytes_per_second = UINT64_C(0x1122334455667788),
                                     .path = "docs/a",
                                     .resume = "latchfs.long.x/ any \xff text"};
    requests_come_back(&(struct mountctl_request){.kind = MOUNTCTL_FREEZE, .seconds = 3600});
    requests_come_back(&(struct mountctl_request){.kind = MOUNTCTL_THAW, .number = UINT64_MAX});
    requests_come_back(&(struct mountctl_request){.kind = MOUNTCTL_CIPHER_PATH, .path = "a/b"});
    requests_come_back(&(struct mountctl_request){.kind = MOUNTCTL_PLAIN_PATH, .path = "latchfs.dir"});
    requests_come_back(&(struct mountctl_request){.kind = MOUNTCTL_CHECK_STATUS});
    requests_come_back(&(struct mountctl_request){.kind = MOUNTCTL_CHECK_FINDINGS, .number = 5});
    requests_come_back(&(struct mountctl_request){.kind = MOUNTCTL_CHECK_STOP});
    requests_come_back(&check);
    for (size_t i = 0; i < PATH_MAX - 1; i++) {
        check.path[i] = i % 2 ? '/' : 'd';
        check.resume[i] = 'r';
    }
    check.path[PATH_MAX - 1] = check.resume[PATH_MAX - 1] = '\0';
    requests_come_back(&check);
}

static void test_requests_that_are_refused(void **state)
{
    static const uint8_t none[] = {1, 0, 8, 0, 0, 0, 0, 0}, long_one[] = {1, 0, 8, 0, 0x11, 0x0e, 0, 0};
    static const uint8_t repair[] = {1, 0, 12, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    static const uint8_t up[] = {1, 0, 10, 0, 2, 0, '.', '.'};
    struct mountctl_request q = {.kind = MOUNTCTL_FREEZE, .seconds = 3601}, got;
    assert_int_equal(mountctl_encode_request(&q, bytes, sizeof bytes), LFS_ERR_MISUSE);
    q.seconds = 0;
    assert_int_equal(mountctl_encode_request(&q, bytes, sizeof bytes), LFS_ERR_MISUSE);
    assert_int_equal(mountctl_decode_request(none, sizeof none, &got), LFS_ERR_PROTO);
    assert_int_equal(mountctl_decode_request(long_one, sizeof long_one, &got), LFS_ERR_PROTO);
    assert_int_equal(mountctl_decode_request(repair, sizeof repair, &got), LFS_ERR_PROTO);
    assert_int_equal(mountctl_decode_request(up, sizeof up, &got), LFS_ERR_PROTO);
    q = (struct mountctl_request){.kind = MOUNTCTL_CHECK_START, .flags = CHECK_REPAIR};
    assert_int_equal(mountctl_encode_request(&q, bytes, sizeof bytes), LFS_ERR_MISUSE);
}

static void test_serial_and_path(void **state)
{
    uint64_t serial = 7;
    char path[PATH_MAX] = "untouched", longest[PATH_MAX];
    int n = mountctl_encode_serial(UINT64_C(0x0102030405060708), bytes, sizeof bytes);
    assert_int_equal(n, 16);
    assert_int_equal(bytes[8], 8);
    assert_int_equal(mountctl_decode_serial(bytes, 15, &serial), LFS_ERR_PROTO);
    assert_int_equal(mountctl_decode_serial(bytes, 17, &serial), LFS_ERR_PROTO);
    assert_true(serial == 7);
    assert_int_equal(mountctl_decode_serial(bytes, 16, &serial), 0);
    assert_true(serial == UINT64_C(0x0102030405060708));
    memset(bytes + 8, 0, 8);
    assert_int_equal(mountctl_decode_serial(bytes, 16, &serial), LFS_ERR_PROTO);
    assert_int_equal(mountctl_encode_serial(0, bytes, sizeof bytes), LFS_ERR_MISUSE);

    for (size_t i = 0; i < PATH_MAX - 1; i++)
        longest[i] = i % 2 ? '/' : 'd';
    longest[PATH_MAX - 1] = '\0';
    n = mountctl_encode_path(MOUNTCTL_PLAIN_PATH, longest, bytes, sizeof bytes);
    assert_int_equal(n, 8 + 2 + PATH_MAX - 1);
    assert_int_equal(mountctl_decode_path(MOUNTCTL_CIPHER_PATH, bytes, (size_t)n, path), LFS_ERR_PROTO);
    assert_int_equal(mountctl_decode_path(MOUNTCTL_PLAIN_PATH, bytes, (size_t)n - 1, path), LFS_ERR_PROTO);
    assert_string_equal(path, "untouched");
    assert_int_equal(mountctl_decode_path(MOUNTCTL_PLAIN_PATH, bytes, (size_t)n, path), 0);
    assert_string_equal(path, longest);
    bytes[10] = '/';
    assert_int_equal(mountctl_decode_path(MOUNTCTL_PLAIN_PATH, bytes, (size_t)n, path), LFS_ERR_PROTO);
    assert_int_equal(mountctl_encode_path(MOUNTCTL_PLAIN_PATH, "../x", bytes, sizeof bytes), LFS_ERR_MISUSE);
    assert_true(mountctl_encode_path(MOUNTCTL_CIPHER_PATH, "", bytes, sizeof bytes) > 0);
}

static void test_check_status(void **state)
{
    static struct mount_check_status st = {.serial = 3,
                                           .result = -EINTR,
                                           .progress = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12},
                                           .position = "AbC/dEf"},
                                     got;
    int n = mountctl_encode_check(&st, bytes, sizeof bytes);
    assert_int_equal(n, 8 + 8 + 1 + 4 + 12 * 8 + 2 + 7);
    assert_int_equal(mountctl_decode_check(bytes, (size_t)n, &got), 0);
    assert_memory_equal(&got.progress, &st.progress, sizeof st.progress);
    assert_string_equal(got.position, "AbC/dEf");
    assert_true(got.serial == 3 && !got.running && got.result == -EINTR);
    for (int len = 0; len < n; len++)
        assert_int_equal(mountctl_decode_check(bytes, (size_t)len, &got), LFS_ERR_PROTO);
    bytes[n] = 0;
    assert_int_equal(mountctl_decode_check(bytes, (size_t)n + 1, &got), LFS_ERR_PROTO);
    bytes[16] = 1; /* running, and with a result */
    assert_int_equal(mountctl_decode_check(bytes, (size_t)n, &got), LFS_ERR_PROTO);
    bytes[16] = 2;
    assert_int_equal(mountctl_decode_check(bytes, (size_t)n, &got), LFS_ERR_PROTO);
    st = (struct mount_check_status){.running = true}; /* of no check */
    n = mountctl_encode_check(&st, bytes, sizeof bytes);
    assert_int_equal(mountctl_decode_check(bytes, (size_t)n, &got), LFS_ERR_PROTO);
}

/* ---- findings ---- */

static struct findings kept;
static struct mount_findings f, got;

static void add(const char *cipher, const char *plain, const char *repair)
{
    const struct check_finding one = {.kind = CHECK_BAD_CHUNK,
                                      .severity = CHECK_DAMAGE,
                                      .cipher_path = cipher,
                                      .plain_path = plain,
                                      .offset = 4096,
                                      .length = 8192,
                                      .err = LFS_ERR_AUTH,
                                      .repair = repair,
                                      .repaired = true,
                                      .moved_to = "gone"};
    findings_add(&kept, &one);
}

static int ask(uint64_t after)
{
    memset(&f, 0, sizeof f);
    f.serial = 2;
    findings_after(&kept, after, &f);
    return mountctl_encode_findings(&f, bytes, sizeof bytes - 1);
}

static void test_findings_come_through(void **state)
{
    findings_init(&kept);
    assert_true(ask(0) > 0);
    assert_int_equal(f.count, 0);
    add("AbC/x", "docs/x", "cut");
    add("AbC", NULL, NULL);
    int n = ask(0);
    assert_true(n > 0);
    assert_int_equal(mountctl_decode_findings(bytes, (size_t)n, &got), 0);
    assert_true(got.serial == 2 && got.dropped == 0 && got.first == 1 && got.count == 2);
    const struct check_finding *one = &got.each[0];
    assert_true(one->kind == CHECK_BAD_CHUNK && one->severity == CHECK_DAMAGE && one->err == LFS_ERR_AUTH);
    assert_true(one->offset == 4096 && one->length == 8192 && !one->repaired && !one->moved_to);
    assert_string_equal(one->cipher_path, "AbC/x");
    assert_string_equal(one->plain_path, "docs/x");
    assert_string_equal(one->repair, "cut");
    assert_string_equal(got.each[1].cipher_path, "AbC");
    assert_null(got.each[1].plain_path);
    assert_null(got.each[1].repair);
    for (int len = 0; len < n; len++)
        assert_int_equal(mountctl_decode_findings(bytes, (size_t)len, &got), LFS_ERR_PROTO);
    bytes[n] = 0;
    assert_int_equal(mountctl_decode_findings(bytes, (size_t)n + 1, &got), LFS_ERR_PROTO);
    bytes[34] = 0; /* the first one's kind */
    assert_int_equal(mountctl_decode_findings(bytes, (size_t)n, &got), LFS_ERR_PROTO);
    n = ask(1);
    assert_int_equal(mountctl_decode_findings(bytes, (size_t)n, &got), 0);
    assert_true(got.first == 2 && got.count == 1);
    n = ask(2);
    assert_int_equal(mountctl_decode_findings(bytes, (size_t)n, &got), 0);
    assert_true(got.first == 3 && got.count == 0 && got.dropped == 0);
    ask(UINT64_MAX);
    assert_true(f.first == 3 && f.count == 0 && f.dropped == 0);
    findings_forget(&kept);
}

/* Asked for piece by piece none is missing and none comes twice. */
static void test_many_findings(void **state)
{
    static char longest[PATH_MAX + 10];
    char name[32];
    findings_init(&kept);
    memset(longest, 'p', sizeof longest - 1);
    for (unsigned i = 1; i <= 300; i++) {
        snprintf(name, sizeof name, "f%u", i);
        add(name, i % 50 ? "p" : longest, i % 50 ? NULL : longest);
    }
    uint64_t after = 0;
    while (ask(after) > 0 && f.count) {
        assert_true(f.first == after + 1 && f.dropped == 0);
        int n = ask(after);
        assert_int_equal(mountctl_decode_findings(bytes, (size_t)n, &got), 0);
        assert_true(got.count >= 1 && got.count <= MOUNTCTL_FINDINGS_MAX);
        for (size_t i = 0; i < got.count; i++) {
            snprintf(name, sizeof name, "f%u", (unsigned)(got.first + i));
            assert_string_equal(got.each[i].cipher_path, name);
        }
        after = got.first + got.count - 1;
    }
    assert_true(after == 300);

    /* Two longest paths and a long text are one answer. */
    add(longest, longest, longest);
    int n = ask(300);
    assert_true(n > 2 * PATH_MAX && n <= (int)MOUNTCTL_ANSWER_MAX);
    assert_int_equal(mountctl_decode_findings(bytes, (size_t)n, &got), 0);
    assert_int_equal(strlen(got.each[0].plain_path), PATH_MAX - 1);

    for (unsigned i = 302; i <= 6000; i++)
        add("x", NULL, NULL);
    ask(0);
    assert_true(f.dropped > 0 && f.first == f.dropped + 1);
    ask(10);
    assert_true(f.first == f.dropped + 11);
    uint64_t first = f.first;
    ask(first - 1);
    assert_true(f.dropped == 0 && f.first == first);
    findings_forget(&kept);
    ask(0);
    assert_true(f.dropped == 6000 && f.count == 0 && f.first == 6001);
    findings_restart(&kept);
    ask(0);
    assert_true(f.dropped == 0 && f.count == 0 && f.first == 1);
}

/* Whatever bytes come behind a right head: an error, or what encodes to the same. */
static void test_hostile_answers(void **state)
{
    static uint8_t in[4000];
    uint64_t seed = 1;
    unsigned taken = 0;
    for (int i = 0; i < 100000; i++) {
        size_t len = 8 + (size_t)(i % 150);
        for (size_t k = 0; k < len; k++) {
            seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
            in[k] = (seed >> 60) ? 0 : (uint8_t)(seed >> 57);
        }
        memcpy(in, (const uint8_t[]){1, 0, 14, 0, 0, 0, 0, 0}, 8);
        in[32] = (uint8_t)(i % 3);
        in[33] = 0;
        for (size_t k = 34; k < len; k += 34)
            in[k] = 1 + (uint8_t)(i % 20);
        if (mountctl_decode_findings(in, len, &got) == 0) {
            taken++;
            assert_int_equal(mountctl_encode_findings(&got, bytes, sizeof bytes), len);
            assert_memory_equal(bytes, in, len);
        }
    }
    assert_true(taken > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_requests_that_are_refused),
        cmocka_unit_test(test_serial_and_path),
        cmocka_unit_test(test_check_status),
        cmocka_unit_test(test_findings_come_through),
        cmocka_unit_test(test_many_findings),
        cmocka_unit_test(test_hostile_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
