/* Opening and changing key stores. */
#include "keyd_support.h"

#include "keystore_vector.h"
#include "slot.h"
#include "wrap.h"

#include <errno.h>
#include <sodium.h>

static struct store_text store;

static int setup(void **state)
{
    store = make_store();
    return 0;
}

static int teardown(void **state)
{
    drop_store(&store);
    return 0;
}

static void expect_open(const struct store_text *t, enum credential_type type, const void *data, size_t n,
                        unsigned slot)
{
    struct keystore *ks = NULL;
    struct keystore_keys *keys = NULL;
    struct key_why why;
    assert_int_equal(open_with(t->ini, t->len, type, data, n, &ks, &keys, &why), 0);
    assert_int_equal(keys->slot_id, slot);
    assert_string_equal(why.text, "");
    keystore_free(ks);
    keystore_keys_free(keys);
}

static void expect_refused(const struct store_text *t, enum credential_type type, const void *data, size_t n,
                           int err)
{
    struct keystore *ks = NULL;
    struct keystore_keys *keys = NULL;
    struct key_why why;
    assert_int_equal(open_with(t->ini, t->len, type, data, n, &ks, &keys, &why), err);
    assert_null(ks);
    assert_null(keys);
}

static void open_word(const struct store_text *t, struct keystore **ks, struct keystore_keys **keys)
{
    struct key_why why;
    assert_int_equal(open_with(t->ini, t->len, CRED_PASSPHRASE, WORD, strlen(WORD), ks, keys, &why), 0);
}

static void opens(void **state)
{
    expect_open(&store, CRED_PASSPHRASE, WORD, strlen(WORD), 1);
    expect_open(&store, CRED_RECOVERY, secret_const(store.recovery), secret_len(store.recovery), 2);
    expect_refused(&store, CRED_PASSPHRASE, WORD "x", strlen(WORD) + 1, LFS_ERR_PASSPHRASE);
    expect_refused(&store, CRED_KEYFILE, WORD, strlen(WORD), LFS_ERR_PASSPHRASE);
}

static void known_answer(void **state)
{
    static const struct {
        enum credential_type type;
        const char *secret;
    } ways[] = {{CRED_PASSPHRASE, VECTOR_PASSPHRASE}, {CRED_RECOVERY, VECTOR_RECOVERY}};
    for (size_t i = 0; i < COUNT(ways); i++) {
        struct keystore *ks;
        struct keystore_keys *keys;
        struct key_why why;
        struct keyset *set;
        assert_int_equal(open_with(vector_keystore, sizeof vector_keystore - 1, ways[i].type, ways[i].secret,
                                   strlen(ways[i].secret), &ks, &keys, &why),
                         0);
        assert_memory_equal(keys->masters[0].key, vector_master_key, LFS_KEY_BYTES);
        assert_int_equal(keystore_unwrap_dir(ks, NULL, keystore_keys_lookup, keys, &set), 0);
        assert_memory_equal(set->versions[0].key, vector_directory_key, LFS_KEY_BYTES);
        assert_memory_equal(set->name_key, vector_name_key, LFS_KEY_BYTES);
        assert_memory_equal(set->journal_key, vector_journal_key, LFS_KEY_BYTES);
        keyset_free(set);
        keystore_free(ks);
        keystore_keys_free(keys);
    }
}

static struct store_text add(const struct store_text *from, const struct slot_add *a, int want)
{
    struct store_text t = {0};
    struct keystore *ks;
    struct keystore_keys *keys;
    struct key_why why;
    unsigned id = 0;
    open_word(from, &ks, &keys);
    int r = keystore_slot_add(ks, keys, a, 100, &t.ini, &t.len, &id, &t.recovery, &why);
    assert_int_equal(r, want);
    if (!r)
        assert_int_equal(id, 3);
    else
        assert_string_not_equal(why.text, "");
    keystore_free(ks);
    keystore_keys_free(keys);
    return t;
}

static void key_file(void **state)
{
    uint8_t bytes[KEYFILE_MAX + 1] = {1, 2, 3};
    struct secret *good = secret_new_copy(bytes, KEYFILE_MIN),
                  *small = secret_new_copy(bytes, KEYFILE_MIN - 1),
                  *big = secret_new_copy(bytes, KEYFILE_MAX + 1);
    struct slot_add a = {.fresh = {CRED_KEYFILE, good}};
    struct store_text t = add(&store, &a, 0);
    expect_open(&t, CRED_KEYFILE, bytes, KEYFILE_MIN, 3);
    expect_open(&t, CRED_PASSPHRASE, WORD, strlen(WORD), 1);
    expect_refused(&t, CRED_KEYFILE, bytes, KEYFILE_MIN + 1, LFS_ERR_PASSPHRASE);
    drop_store(&t);
    a.fresh.secret = small;
    add(&store, &a, LFS_ERR_DENIED);
    a.fresh.secret = big;
    add(&store, &a, LFS_ERR_DENIED);
    a = (struct slot_add){.fresh = {CRED_KEYFILE, good}, .label = "not\nthis"};
    add(&store, &a, LFS_ERR_DENIED);
    secret_free(good);
    secret_free(small);
    secret_free(big);
}

static void second_recovery(void **state)
{
    struct slot_add a = {.fresh = {CRED_RECOVERY, NULL}, .label = "safe"};
    struct store_text t = add(&store, &a, 0);
    assert_non_null(t.recovery);
    expect_open(&t, CRED_RECOVERY, secret_const(t.recovery), secret_len(t.recovery), 3);
    drop_store(&t);
}

static void remove_replaces_the_store_key(void **state)
{
    struct keystore *ks, *after;
    struct keystore_keys *keys, *fresh;
    struct key_why why;
    struct store_text t = {0};
    open_word(&store, &ks, &keys);
    assert_int_equal(keystore_slot_remove(ks, keys, 9, &t.ini, &t.len, &why), -ENOENT);
    assert_int_equal(keystore_slot_remove(ks, keys, 2, &t.ini, &t.len, &why), 0);
    open_word(&t, &after, &fresh);
    assert_int_equal(after->slot_count, 1);
    assert_int_equal(after->generation, 2);
    assert_memory_not_equal(keys->store_key, fresh->store_key, LFS_KEY_BYTES);
    assert_memory_equal(keys->masters, fresh->masters, sizeof keys->masters);
    expect_refused(&t, CRED_RECOVERY, secret_const(store.recovery), secret_len(store.recovery),
                   LFS_ERR_PASSPHRASE);
    free(t.ini);
    assert_int_equal(keystore_slot_remove(after, fresh, 1, &t.ini, &t.len, &why), LFS_ERR_DENIED);
    keystore_free(ks);
    keystore_free(after);
    keystore_keys_free(keys);
    keystore_keys_free(fresh);
}

/* Whoever can write the file makes keys of his own, seals them to the slots' public keys and signs with his
 * own signing key. Only the copy of the signing public key inside the slot gives him away. */
static void forged_store_is_refused(void **state)
{
    struct keystore *ks;
    struct keystore_keys *keys, *own = locked_alloc(sizeof *own);
    struct store_text t = {0};
    struct wrap_what what;
    open_word(&store, &ks, &keys);
    *own = *keys;
    crypto_sign_keypair(ks->signing_public, own->signing_secret);
    randombytes_buf(own->store_key, LFS_KEY_BYTES);
    what = wrap_of_signing(ks);
    assert_int_equal(wrap_key(&what, own->store_key, own->signing_secret, 32, ks->signing_wrapped), 0);
    what = wrap_of_master(ks, 1);
    assert_int_equal(wrap_key(&what, own->store_key, own->masters[0].key, 32, ks->masters[0].wrapped), 0);
    for (uint32_t i = 0; i < ks->slot_count; i++)
        assert_int_equal(slot_seal_store_key(&ks->slots[i], own->store_key), 0);
    assert_int_equal(keystore_encode_signed(ks, own->signing_secret, &t.ini, &t.len), 0);
    expect_refused(&t, CRED_PASSPHRASE, WORD, strlen(WORD), LFS_ERR_AUTH);
    drop_store(&t);
    keystore_free(ks);
    keystore_keys_free(keys);
    keystore_keys_free(own);
}

/* A blob moved to another place, signed by somebody who can: what it is wrapped for tells. */
static void moved_blobs_are_refused(void **state)
{
    struct keystore *ks;
    struct keystore_keys *keys;
    struct keyset *set = NULL;
    open_word(&store, &ks, &keys);
    assert_int_equal(keystore_unwrap_dir(ks, NULL, keystore_keys_lookup, keys, &set), 0);
    keyset_freep(&set);
    memcpy(ks->journal_wrapped, ks->dirs[0].keys[0].wrapped, KEYSTORE_WRAPPED_BYTES);
    assert_int_equal(keystore_unwrap_dir(ks, NULL, keystore_keys_lookup, keys, &set), LFS_ERR_AUTH);
    assert_null(set);
    uint8_t other[ID_BYTES] = {1};
    assert_int_equal(keystore_unwrap_dir(ks, other, keystore_keys_lookup, keys, &set), -ENOENT);
    keystore_free(ks);
    keystore_keys_free(keys);
}

static void damage_is_told_before_the_passphrase(void **state)
{
    struct store_text t = {exact_copy(store.ini, store.len), store.len, NULL};
    char *at = memmem(t.ini, t.len, "created = 1", 11);
    at[11] = at[11] == '9' ? '8' : '9';
    expect_refused(&t, CRED_PASSPHRASE, "wrong", 5, LFS_ERR_AUTH);
    drop_store(&t);
}

static void calibration_keeps_the_limits(void **state)
{
    struct secret *word = secret_new_copy(WORD, strlen(WORD));
    static const unsigned times[] = {1, 400};
    for (size_t i = 0; i < COUNT(times); i++) {
        struct keystore *ks;
        char *ini;
        size_t len;
        struct key_why why;
        struct keystore_init in = {.suite = 2, .first = {CRED_PASSPHRASE, word}};
        assert_int_equal(keystore_make(&in, times[i], &ini, &len, NULL, &why), 0);
        assert_int_equal(keystore_parse(ini, len, &ks, NULL), 0);
        assert_false(ks->slots[0].fast);
        assert_true(ks->slots[0].kdf_ops >= KEYSTORE_KDF_OPS_MIN &&
                    ks->slots[0].kdf_kib >= KEYSTORE_KDF_KIB_MIN);
        keystore_free(ks);
        free(ini);
    }
    secret_free(word);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens),
        cmocka_unit_test(known_answer),
        cmocka_unit_test(key_file),
        cmocka_unit_test(second_recovery),
        cmocka_unit_test(remove_replaces_the_store_key),
        cmocka_unit_test(forged_store_is_refused),
        cmocka_unit_test(moved_blobs_are_refused),
        cmocka_unit_test(damage_is_told_before_the_passphrase),
        cmocka_unit_test(calibration_keeps_the_limits),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
