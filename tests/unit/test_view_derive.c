/* Ids, file keys and nonces of a view. The known answers come from Python's hashlib, by docs/FORMAT.md. */
#include "fs/view/derive.h"
#include "latchfs/err.h"
#include "support.h"

#define VERSION 3u

static struct keyset *set;
static struct view_keys *keys;

static int set_up(void **state)
{
    set = keyset_new();
    keys = locked_alloc(sizeof *keys);
    if (!set || !keys)
        return -1;
    set->active = VERSION;
    set->count = 2;
    set->versions[0].version = VERSION - 1;
    set->versions[1].version = VERSION;
    memset(set->versions[1].key, 7, LFS_KEY_BYTES);
    for (uint8_t i = 0; i < LFS_KEY_BYTES; i++)
        set->name_key[i] = i;
    for (uint8_t i = 0; i < ID_BYTES; i++)
        set->volume_id[i] = 0x70 + i;
    return view_keys_derive(set, keys);
}

static int tear_down(void **state)
{
    keyset_free(set);
    locked_free(keys);
    return 0;
}

static void assert_hex(const uint8_t *got, size_t len, const char *want)
{
    char hex[129];
    for (size_t i = 0; i < len; i++)
        snprintf(hex + 2 * i, sizeof hex - 2 * i, "%02x", got[i]);
    assert_string_equal(hex, want);
}

static void make_ids(uint8_t *root, uint8_t *dir, uint8_t *file)
{
    view_id(keys, VIEW_ID_ROOT, keys->volume_id, "", root);
    view_id(keys, VIEW_ID_DIR, root, "dir", dir);
    view_id(keys, VIEW_ID_FILE, dir, "a file", file);
}

static void test_known_answers(void **state)
{
    uint8_t root[ID_BYTES], dir[ID_BYTES], file[ID_BYTES], key[LFS_KEY_BYTES], nonce[24];
    make_ids(root, dir, file);
    assert_hex(root, ID_BYTES, "d2682157b157ceee00cb2aca3478f1e8");
    assert_hex(dir, ID_BYTES, "66009fef1c2572447449c492a6b50f99");
    assert_hex(file, ID_BYTES, "619e31c57b9e36a81b0490a194a9c161");
    view_file_key(keys, file, key);
    assert_hex(key, sizeof key, "225978aa94fdd700ce85a1f24f7e643e606130c3238ac0f5391c7e66ed0629ae");
    view_nonce(keys, KIND_CHUNK, file, 5, NULL, "plain text", 10, nonce);
    assert_hex(nonce, NONCE_BYTES, "087f58ec71660b64e7f85f30");
    view_nonce(keys, KIND_XATTR, file, 8, "user.one", "value", 5, nonce);
    assert_hex(nonce, NONCE_BYTES, "5dcb6bc73ed758e1975c7d9e");
    view_wrap_nonce(keys, file, key, nonce);
    assert_hex(nonce, KEYWRAP_NONCE_BYTES, "d4a97a7db7028e8b477a001fec6c981a640b826b71985f2e");
}

/* Whatever is sealed differs, the nonce does too. */
static void test_nonces_differ(void **state)
{
    static const struct {
        uint8_t kind, id;
        uint64_t number;
        const char *name, *plain;
    } messages[] = {
        {KIND_CHUNK, 1, 0, NULL, "x"},         {KIND_CHUNK, 1, 0, NULL, "y"},
        {KIND_CHUNK, 1, 0, NULL, "xx"},        {KIND_CHUNK, 1, 1, NULL, "x"},
        {KIND_CHUNK, 2, 0, NULL, "x"},         {KIND_INLINE, 1, 0, NULL, "x"},
        {KIND_XATTR, 1, 6, "user.a", "b"},     {KIND_XATTR, 1, 7, "user.ab", ""},
        {KIND_DIR_XATTR, 1, 6, "user.a", "b"},
    };
    uint8_t nonces[COUNT(messages)][NONCE_BYTES];
    for (size_t i = 0; i < COUNT(messages); i++) {
        uint8_t id[ID_BYTES] = {messages[i].id};
        view_nonce(keys, messages[i].kind, id, messages[i].number, messages[i].name, messages[i].plain,
                   strlen(messages[i].plain), nonces[i]);
        for (size_t j = 0; j < i; j++)
            assert_memory_not_equal(nonces[i], nonces[j], NONCE_BYTES);
    }
}

static void test_ids_differ(void **state)
{
    uint8_t root[ID_BYTES], dir[ID_BYTES], file[ID_BYTES], other[ID_BYTES];
    make_ids(root, dir, file);
    view_id(keys, VIEW_ID_DIR, dir, "a file", other);
    assert_memory_not_equal(file, other, ID_BYTES);
    view_id(keys, VIEW_ID_FILE, root, "a file", other);
    assert_memory_not_equal(file, other, ID_BYTES);
}

/* Rotating directory keys changes the wrapping alone. */
static void test_rotation(void **state)
{
    uint8_t root[ID_BYTES], dir[ID_BYTES], file[ID_BYTES], again[ID_BYTES], key[LFS_KEY_BYTES];
    uint8_t before[KEYWRAP_NONCE_BYTES], after[KEYWRAP_NONCE_BYTES], same[LFS_KEY_BYTES];
    make_ids(root, dir, file);
    view_file_key(keys, file, key);
    view_wrap_nonce(keys, file, key, before);
    set->active = VERSION - 1;
    assert_int_equal(view_keys_derive(set, keys), 0);
    make_ids(root, dir, again);
    view_file_key(keys, again, same);
    view_wrap_nonce(keys, file, key, after);
    assert_memory_equal(file, again, ID_BYTES);
    assert_memory_equal(key, same, LFS_KEY_BYTES);
    assert_memory_not_equal(before, after, KEYWRAP_NONCE_BYTES);
    set->active = VERSION + 1;
    assert_int_equal(view_keys_derive(set, keys), LFS_ERR_MISUSE);
    set->active = VERSION;
    assert_int_equal(view_keys_derive(set, keys), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_nonces_differ),
        cmocka_unit_test(test_ids_differ),
        cmocka_unit_test(test_rotation),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
