/* The switch that benchmarks use to leave the journal out: the same content, nothing in the journal, no
 * seals, and a volume that an ordinary mount reads. */
#include "tree_fixture.h"

#define MODEL_MAX (3u << 20)

static uint8_t model[MODEL_MAX], got[MODEL_MAX + 1];
static size_t size;

static void open_bypass(void)
{
    struct volume_options o = {
        .journal_bytes = UINT64_C(8) << 20, .no_flusher = true, .bypass_journal = true};
    assert_int_equal(volume_open(volume_dir, &plain_keys, &o, NULL, &v), 0);
}

static void resize(size_t to)
{
    if (to < size)
        memset(model + to, 0, size - to);
    size = to;
}

static void change(struct node *n, struct rng *r)
{
    static uint8_t buf[400000];
    uint64_t off = rng_below(r, MODEL_MAX / 2), len = 1 + rng_below(r, rng_below(r, 2) ? 5000 : sizeof buf);
    switch (rng_below(r, 6)) {
    case 0:
        off = rng_below(r, 3) ? off : off / 500;
        assert_int_equal(file_truncate(n, off), 0);
        resize(off);
        return;
    case 1:
        assert_int_equal(file_fallocate(n, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len), 0);
        if (off < size)
            memset(model + off, 0, off + len < size ? len : size - off);
        return;
    case 2:
        assert_int_equal(file_fsync(n, true), 0);
        return;
    default:
        rng_fill(r, buf, len);
        assert_int_equal(file_write(n, buf, len, off), len);
        memcpy(model + off, buf, len);
        size = off + len > size ? off + len : size;
    }
}

static void check(struct node *n)
{
    assert_int_equal(file_read(n, got, sizeof got, 0), size);
    assert_memory_equal(got, model, size);
}

static void test_same_content(void **state)
{
    struct rng r = {7};
    struct volume_stats s;
    node_unref(make_file(volume_root(v), "f", "begin"), 1);
    memcpy(model, "begin", size = 5);
    for (int life = 0; life < 6; life++) {
        assert_int_equal(volume_close(v), 0);
        open_bypass();
        struct node *n = must_walk("f");
        volume_stats(v, &s);
        uint64_t syncs = s.journal_syncs;
        for (int i = 0; i < 40; i++) {
            change(n, &r);
            check(n);
        }
        volume_stats(v, &s);
        assert_int_equal(s.journal_used + s.seals_waiting, 0);
        assert_int_equal(s.journal_syncs, syncs);
        node_unref(n, 1);
        reopen_volume();
        n = must_walk("f");
        check(n);
        node_unref(n, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_same_content, volume_setup, volume_teardown),
    };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
