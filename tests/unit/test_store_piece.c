/* Pieces of a write that are sealed before their file is locked: what they were sealed under may be out of
 * date by then. */
#include "fs/store/file_piece.h"
#include "fs/store/node.h"
#include "fs/store/volume.h"
#include "latchfs/secret.h"
#include "tree_fixture.h"

#define SIZE (20 * PAGE_BYTES)

static uint8_t data[SIZE], got[SIZE + 1];

/* Every record names the newest key. */
static void assert_newest(const struct piece *p, const struct file_header *h)
{
    struct record rec;
    for (uint32_t i = 0; i < p->count; i++) {
        assert_int_equal(record_decode(piece_record(p, i), &rec), 0);
        assert_int_equal(rec.epoch, h->place[header_newest(h)].epoch);
    }
}

/* The two halves of a write with something between them. */
static void write_around(struct node *n, size_t len, uint64_t off, void (*between)(struct file *f),
                         bool expect_ahead)
{
    struct piece p;
    struct file *f;
    uint64_t reserved = FILE_RESERVE;
    assert_int_equal(file_get(n, &f), 0);
    assert_int_equal(file_reserve(v, reserved), 0);
    piece_begin(&p, f, len, off);
    piece_seal_ahead(&p, data + off, len, off);
    assert_true((p.ahead_to > p.ahead_from) == expect_ahead);
    between(f);
    assert_int_equal(file_lock_write(f), 0);
    assert_int_equal(file_write_piece(&p, data + off, len, off, &reserved), 0);
    assert_newest(&p, &f->hdr);
    file_unlock(f);
    if (reserved)
        journal_unreserve(v->journal, reserved);
    file_put(f);
}

static void nothing(struct file *f)
{
}

static void new_file_key(struct file *f)
{
    uint64_t reserved = FILE_RESERVE;
    assert_int_equal(file_reserve(v, reserved), 0);
    assert_int_equal(file_lock_write(f), 0);
    assert_int_equal(file_rekey_begin(f, &reserved), 0);
    file_unlock(f);
    if (reserved)
        journal_unreserve(v->journal, reserved);
}

static void other_writer(struct file *f)
{
    assert_int_equal(file_write(f->n, data, PAGE_BYTES + 5, 0), PAGE_BYTES + 5);
}

static void check(struct node *n)
{
    assert_int_equal(file_read(n, got, sizeof got, 0), SIZE);
    assert_memory_equal(got, data, SIZE);
}

static void check_both(const char *name)
{
    struct node *n = must_walk(name);
    check(n);
    node_unref(n, 1);
    reopen_volume();
    n = must_walk(name);
    check(n);
    node_unref(n, 1);
}

static struct node *begun(const char *name)
{
    struct node *n;
    struct stat st;
    randombytes_buf(data, sizeof data);
    assert_int_equal(node_create(volume_root(v), name, 0644, true, &st, &n), 0);
    return n;
}

static void test_sealed_ahead(void **state)
{
    struct node *n = begun("a");
    write_around(n, 3 * PAGE_BYTES + 100, 0, nothing, false); /* no key is there before the first write */
    write_around(n, SIZE - 5000, 5000, nothing, true);
    write_around(n, PAGE_BYTES + 904, 4096, nothing, true);
    write_around(n, 500, 100, nothing, false); /* no whole chunk */
    node_unref(n, 1);
    check_both("a");
}

static void test_new_key_between(void **state)
{
    struct node *n = begun("a");
    assert_int_equal(file_write(n, data, SIZE, 0), SIZE);
    randombytes_buf(data + 5000, SIZE - 5000);
    write_around(n, SIZE - 5000, 5000, new_file_key, true);
    node_unref(n, 1);
    check_both("a");
}

/* A new file key whose entry could not be written: the next one has the same epoch. */
static struct file_keys *failed, *before;

static void fail_new_key(struct file *f)
{
    uint8_t file_key[LFS_KEY_BYTES];
    uint16_t epoch = f->keys->k[0].epoch;
    failed = file_keys_new();
    assert_non_null(failed);
    memcpy(failed->file_id, f->hdr.file_id, ID_BYTES);
    failed->suite = f->hdr.suite;
    randombytes_buf(file_key, sizeof file_key);
    file_derive_keys(failed, 0, (uint16_t)(epoch + 1), file_key);
    before = file_keys_swap(f, failed);
}

static void other_new_key(struct file *f)
{
    file_keys_swap(f, before);
    new_file_key(f);
    assert_int_equal(f->keys->k[0].epoch, failed->k[0].epoch);
}

static void test_failed_key_between(void **state)
{
    struct node *n = begun("a");
    struct file *f;
    assert_int_equal(file_write(n, data, SIZE, 0), SIZE);
    randombytes_buf(data + 5000, SIZE - 5000);
    assert_int_equal(file_get(n, &f), 0);
    fail_new_key(f);
    write_around(n, SIZE - 5000, 5000, other_new_key, true);
    locked_free(failed);
    file_put(f);
    node_unref(n, 1);
    check_both("a");
}

static void test_first_write_between(void **state)
{
    struct node *n = begun("a");
    write_around(n, SIZE, 0, other_writer, false);
    node_unref(n, 1);
    check_both("a");
}

/* The thread's context has no key when a write has failed that got one ahead. */
static void test_failed_lock(void **state)
{
    struct node *n = begun("a");
    struct file *f;
    struct record rec;
    assert_int_equal(file_write(n, data, SIZE, 0), SIZE);
    assert_int_equal(file_get(n, &f), 0);
    struct content_ad ad = {KIND_CHUNK, f->hdr.suite, 1, f->hdr.file_id, 0};
    f->hdr.home[0][0] ^= 1;
    atomic_store(&n->place_unasked, true);
    assert_int_equal(file_write(n, data, SIZE, 0), LFS_ERR_AUTH);
    assert_int_equal(record_seal(thread_aead(), &ad, data, PAGE_BYTES, got, &rec), LFS_ERR_MISUSE);
    f->hdr.home[0][0] ^= 1;
    file_put(f);
    check(n);
    node_unref(n, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_sealed_ahead, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_new_key_between, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_failed_key_between, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_failed_lock, volume_setup, volume_teardown),
        cmocka_unit_test_setup_teardown(test_first_write_between, volume_setup, volume_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
