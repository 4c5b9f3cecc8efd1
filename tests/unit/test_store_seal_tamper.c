/* What a seal detects: records that are not the last ones. */
#include "seal_fixture.h"

/* The closed file "victim" of the volume, and what it was before. */
struct victim_file {
    int fd;
    uint8_t *before;
    size_t len;
};

static char victim_path[8192];

static void victim_make(size_t size)
{
    struct node *n = big_file("victim", size, 1);
    char path[4096];
    assert_int_equal(node_path(n, path, sizeof path), 0);
    snprintf(victim_path, sizeof victim_path, "%s/%s", volume_dir, path);
    node_unref(n, 1);
    assert_int_equal(volume_close(v), 0);
    v = NULL;
}

static struct victim_file victim_open(void)
{
    struct stat st;
    struct victim_file w = {.fd = open(victim_path, O_RDWR)};
    assert_int_equal(fstat(w.fd, &st), 0);
    w.len = (size_t)st.st_size;
    w.before = malloc(w.len);
    assert_int_equal(pread(w.fd, w.before, w.len, 0), w.len);
    return w;
}

static void victim_restore(struct victim_file *w)
{
    assert_int_equal(ftruncate(w->fd, (off_t)w->len), 0);
    assert_int_equal(pwrite(w->fd, w->before, w->len, 0), w->len);
}

static void victim_close(struct victim_file *w)
{
    close(w->fd);
    free(w->before);
}

/* What the store says about the file as it lies: of opening it, and of its seal. */
static void look(bool read_only, int *opened, int *verified, bool *sealed)
{
    struct volume_options o = {.read_only = read_only, .no_flusher = true};
    uint8_t byte;
    assert_int_equal(volume_open(volume_dir, &plain_keys, &o, NULL, &v), 0);
    struct node *n = must_walk("victim");
    *opened = file_open(n, !read_only);
    if (!*opened)
        file_close(n);
    assert_int_equal(file_read(n, &byte, 1, 0), *opened ? *opened : 1);
    *verified = file_verify_seal(n, sealed);
    assert_true(!*verified || stats().auth_failures > 0);
    node_unref(n, 1);
    assert_int_equal(volume_close(v), 0);
    v = NULL;
}

static void expect(int want_open, int want_verify, bool want_sealed)
{
    for (int read_only = 1; read_only >= 0; read_only--) {
        int opened, verified;
        bool sealed;
        look(read_only, &opened, &verified, &sealed);
        assert_int_equal(opened, want_open);
        assert_int_equal(verified, want_verify);
        assert_int_equal(sealed, want_sealed);
    }
}

static void zero_record(struct victim_file *w, uint64_t chunk)
{
    static const uint8_t zeros[RECORD_BYTES];
    assert_int_equal(pwrite(w->fd, zeros, sizeof zeros, (off_t)layout_record_offset(chunk)), sizeof zeros);
}

/* Every tag page of a short file, and a record behind its end. */
static void test_zeroed_record(void **state)
{
    victim_make(SEVERAL_GROUPS - 5 * PAGE_BYTES);
    expect(0, 0, true);
    static const uint64_t chunks[] = {0, 111, 112, 239, 240, 370, SEVERAL_GROUPS / PAGE_BYTES - 6};
    struct victim_file w = victim_open();
    for (size_t i = 0; i < COUNT(chunks); i++) {
        zero_record(&w, chunks[i]);
        expect(LFS_ERR_AUTH, LFS_ERR_AUTH, true);
        victim_restore(&w);
        expect(0, 0, true);
    }
    uint8_t record[RECORD_BYTES];
    memcpy(record, w.before + layout_record_offset(1), sizeof record);
    uint64_t behind = SEVERAL_GROUPS / PAGE_BYTES - 5;
    assert_int_equal(pwrite(w.fd, record, sizeof record, (off_t)layout_record_offset(behind)), sizeof record);
    expect(LFS_ERR_AUTH, LFS_ERR_AUTH, true);
    victim_close(&w);
}

/* A file with more tag pages than are read at open: only who asks learns of it. */
static void test_long_file(void **state)
{
    victim_make(MANY_GROUPS);
    expect(0, 0, true);
    struct victim_file w = victim_open();
    zero_record(&w, 700);
    expect(0, LFS_ERR_AUTH, true);
    victim_restore(&w);
    expect(0, 0, true);
    zero_record(&w, MANY_GROUPS / PAGE_BYTES - 1);
    expect(0, LFS_ERR_AUTH, true);
    victim_close(&w);
}

/* What is wrong in a long file must not be sealed with the next change: the first one asks. */
static void test_long_file_changed(void **state)
{
    struct rotate_progress p;
    victim_make(MANY_GROUPS);
    struct victim_file w = victim_open();
    zero_record(&w, 700);
    open_volume();
    struct node *n = must_walk("victim");
    assert_int_equal(file_write(n, "x", 1, 0), LFS_ERR_AUTH);
    assert_int_equal(file_append(n, "x", 1), LFS_ERR_AUTH);
    assert_int_equal(file_truncate(n, MANY_GROUPS - 1), LFS_ERR_AUTH);
    next_version();
    assert_int_equal(run(volume_reencrypt, &p), LFS_ERR_CORRUPT);
    assert_int_equal(p.damaged, 1);
    node_unref(n, 1);
    assert_int_equal(volume_close(v), 0);
    v = NULL;
    expect(0, LFS_ERR_AUTH, true);
    victim_restore(&w);
    open_volume();
    n = must_walk("victim");
    assert_int_equal(file_write(n, "x", 1, 0), 1);
    node_unref(n, 1);
    assert_int_equal(volume_close(v), 0);
    v = NULL;
    expect(0, 0, true);
    victim_close(&w);
}

/* The last short file is the longest whose tag pages are all read at open. */
static void test_limit(void **state)
{
    victim_make((112 + 7 * 128) * PAGE_BYTES);
    struct victim_file w = victim_open();
    zero_record(&w, 112 + 7 * 128 - 1);
    expect(LFS_ERR_AUTH, LFS_ERR_AUTH, true);
    victim_close(&w);
}

static void test_cut(void **state)
{
    static const uint64_t ends[] = {1, 50, 112, 113, 239, 300};
    victim_make(SEVERAL_GROUPS);
    struct victim_file w = victim_open();
    for (size_t i = 0; i < COUNT(ends); i++) {
        assert_int_equal(ftruncate(w.fd, (off_t)layout_length(ends[i] * PAGE_BYTES)), 0);
        expect(LFS_ERR_CORRUPT, LFS_ERR_CORRUPT, false);
        /* The length put right again, with zeros where chunks were: holes, but for the seal. */
        assert_int_equal(ftruncate(w.fd, (off_t)w.len), 0);
        static const uint8_t zeros[PAGE_BYTES];
        uint64_t at = layout_record_offset(ends[i]);
        size_t rest = PAGE_BYTES - (size_t)(at % PAGE_BYTES);
        assert_int_equal(pwrite(w.fd, zeros, rest, (off_t)at), rest);
        expect(LFS_ERR_AUTH, LFS_ERR_AUTH, true);
        victim_restore(&w);
    }
    expect(0, 0, true);
    victim_close(&w);
}

/* One chunk with its record as it was before the last change. */
static void test_older_chunk(void **state)
{
    victim_make(SEVERAL_GROUPS);
    struct victim_file old = victim_open();
    open_volume();
    struct node *n = must_walk("victim");
    for (uint64_t chunk = 100; chunk < 400; chunk += 100)
        assert_int_equal(file_write(n, "newer", 5, chunk * PAGE_BYTES), 5);
    node_unref(n, 1);
    assert_int_equal(volume_close(v), 0);
    v = NULL;
    struct victim_file w = victim_open();
    for (uint64_t chunk = 100; chunk < 400; chunk += 100) {
        uint64_t record = layout_record_offset(chunk), data = layout_data_offset(chunk);
        assert_int_equal(pwrite(w.fd, old.before + record, RECORD_BYTES, (off_t)record), RECORD_BYTES);
        assert_int_equal(pwrite(w.fd, old.before + data, PAGE_BYTES, (off_t)data), PAGE_BYTES);
        expect(LFS_ERR_AUTH, LFS_ERR_AUTH, true);
        victim_restore(&w);
    }
    expect(0, 0, true);
    victim_close(&w);
    victim_close(&old);
}

/* A broken file can't be changed, but removed and replaced. */
static void test_broken_file(void **state)
{
    victim_make(5 * PAGE_BYTES);
    struct victim_file w = victim_open();
    zero_record(&w, 3);
    victim_close(&w);
    open_volume();
    struct node *n = must_walk("victim");
    assert_int_equal(file_write(n, "x", 1, 0), LFS_ERR_AUTH);
    assert_int_equal(file_truncate(n, 0), LFS_ERR_AUTH);
    node_unref(n, 1);
    assert_int_equal(node_rename(volume_root(v), "victim", volume_root(v), "broken", 0), 0);
    assert_int_equal(node_unlink(volume_root(v), "broken"), 0);
}

static void copy(const char *from, const char *to)
{
    char cmd[1024];
    snprintf(cmd, sizeof cmd, "cp %s/%s %s/%s", base, from, base, to);
    assert_int_equal(system(cmd), 0);
}

/* A journal of the same mount, put back after its end, does not undo what was sealed since. */
static void test_older_journal(void **state)
{
    struct node *n = big_file("victim", 5 * PAGE_BYTES, 1);
    assert_int_equal(file_fsync(n, false), 0);
    assert_int_equal(file_write(n, "older", 5, 0), 5);
    assert_int_equal(file_fsync(n, false), 0);
    copy("vol/latchfs.journal", "journal");
    assert_int_equal(file_write(n, "newer", 5, 0), 5);
    node_unref(n, 1);
    assert_int_equal(volume_close(v), 0);
    copy("journal", "vol/latchfs.journal");
    struct replay_report report;
    struct volume_options o = {.no_flusher = true};
    assert_int_equal(volume_open(volume_dir, &plain_keys, &o, &report, &v), 0);
    assert_true(report.entries > 0);
    assert_int_equal(report.skipped, report.entries);
    char text[6] = "";
    n = must_walk("victim");
    assert_int_equal(file_read(n, text, 5, 0), 5);
    assert_string_equal(text, "newer");
    assert_true(placed_sealed(n));
    node_unref(n, 1);
}

/* Where the journal was lost and the user goes on without it, a file may be between two states. */
static void test_lost_journal(void **state)
{
    victim_make(5 * PAGE_BYTES);
    struct victim_file w = victim_open();
    zero_record(&w, 3);
    victim_close(&w);
    char path[256];
    snprintf(path, sizeof path, "%s/latchfs.journal", volume_dir);
    assert_int_equal(unlink(path), 0);
    struct volume_options o = {.no_flusher = true, .ignore_journal = true};
    bool sealed;
    o.read_only = true;
    assert_int_equal(volume_open(volume_dir, &plain_keys, &o, NULL, &v), 0);
    struct node *n = must_walk("victim");
    assert_int_equal(file_open(n, false), 0);
    file_close(n);
    assert_int_equal(file_verify_seal(n, &sealed), LFS_ERR_AUTH);
    assert_true(sealed);
    node_unref(n, 1);
    assert_int_equal(volume_close(v), 0);
    o.read_only = false;
    assert_int_equal(volume_open(volume_dir, &plain_keys, &o, NULL, &v), 0);
    n = must_walk("victim");
    assert_int_equal(file_open(n, false), 0);
    file_close(n);
    assert_int_equal(file_verify_seal(n, &sealed), 0);
    assert_false(sealed); /* given up */
    node_unref(n, 1);
    reopen_volume();
    n = must_walk("victim");
    assert_int_equal(file_open(n, true), 0);
    file_close(n);
    node_unref(n, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_zeroed_record, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_long_file, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_long_file_changed, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_limit, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_cut, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_older_chunk, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_broken_file, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_older_journal, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_lost_journal, volume_setup, volume_teardown),
    };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
