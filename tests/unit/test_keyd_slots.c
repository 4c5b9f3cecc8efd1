/* Opening and changing key stores. */
#include "store_support.h"

#include "keyd/slot.h"
#include "keyd/wrap.h"
#include "keystore_full_vector.h"
#include "keystore_vector.h"

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
        assert_int_equal(keystore_unwrap_dir(ks, NULL, keystore_keys_lookup, keys, NULL, &set), 0);
        assert_memory_equal(set->versions[0].key, vector_directory_key, LFS_KEY_BYTES);
        assert_memory_equal(set->name_key, vector_name_key, LFS_KEY_BYTES);
        assert_memory_equal(set->journal_key, vector_journal_key, LFS_KEY_BYTES);
        keyset_free(set);
        keystore_free(ks);
        keystore_keys_free(keys);
    }
}

/* ---- a store that another program wrote (tests/vectors/make_keystore.py) ---- */

static int find_full(void *arg, const uint8_t volume_id[static ID_BYTES], const uint8_t pd[static ID_BYTES],
                     uint32_t version, uint8_t wrapped[static KEYSTORE_WRAPPED_BYTES])
{
    if (version != 1 || memcmp(pd, full_held_id, ID_BYTES) != 0)
        return -ENOENT;
    memcpy(wrapped, full_held_blob_1, KEYSTORE_WRAPPED_BYTES);
    return 0;
}

static void expect_dir(struct opened *f, const uint8_t *pd, const char *name, const uint8_t *name_key,
                       uint32_t first_version, const uint8_t *first_key)
{
    struct held_source held = {find_full, NULL};
    struct keyset *set = NULL;
    char label[KEYSTORE_LABEL_MAX + 1];
    assert_int_equal(keystore_unwrap_dir(f->ks, pd, keystore_keys_lookup, f->keys, &held, &set), 0);
    assert_memory_equal(set->name_key, name_key, LFS_KEY_BYTES);
    assert_memory_equal(set->journal_key, full_journal_key, LFS_KEY_BYTES);
    assert_int_equal(set->versions[0].version, first_version);
    assert_memory_equal(set->versions[0].key, first_key, LFS_KEY_BYTES);
    if (set->count == 2)
        assert_memory_equal(set->versions[1].key, full_team_key_3, LFS_KEY_BYTES);
    assert_int_equal(keystore_dir_label(f->ks, pd, set, label), 0);
    assert_string_equal(label, name);
    keyset_free(set);
}

static void another_program_wrote_it(void **state)
{
    static const struct {
        enum credential_type type;
        const void *secret;
        size_t len;
        unsigned slot;
    } ways[] = {{CRED_PASSPHRASE, FULL_PASSPHRASE, sizeof FULL_PASSPHRASE - 1, 1},
                {CRED_KEYFILE, full_key_file, sizeof full_key_file, 3},
                {CRED_RECIPIENT, full_recipient, sizeof full_recipient, 4},
                {CRED_COMMAND, full_command_secret, sizeof full_command_secret, 6}};
    struct held_source held = {find_full, NULL};
    struct keyset *none = NULL;
    for (size_t i = 0; i < COUNT(ways); i++) {
        struct opened f = {.ini = exact_copy(full_keystore, sizeof full_keystore - 1),
                           .len = sizeof full_keystore - 1};
        struct secret *s = secret_new_copy(ways[i].secret, ways[i].len);
        struct credential c = {.type = ways[i].type, .secret = s};
        assert_int_equal(reopen(&f, &c), 0);
        assert_int_equal(f.keys->slot_id, ways[i].slot);
        assert_memory_equal(f.keys->store_key, full_store_key, LFS_KEY_BYTES);
        assert_int_equal(f.keys->count, 2);
        assert_memory_equal(f.keys->masters[1].key, full_master_3, LFS_KEY_BYTES);
        assert_memory_equal(f.ks->slots[3].blob, full_command_blob, sizeof full_command_blob);
        assert_int_equal(keystore_verify(f.ks, f.keys, &held, &f.why), 0);
        expect_dir(&f, NULL, "", full_root_name_key, 1, full_root_key_1);
        expect_dir(&f, full_team_id, "board papers", full_team_name_key, 2, full_team_key_2);
        expect_dir(&f, full_held_id, "held", full_held_name_key, 1, full_held_key_1);
        int r = keystore_unwrap_dir(f.ks, full_gone_id, keystore_keys_lookup, f.keys, &held, &none);
        assert_int_equal(r, LFS_ERR_NOKEY);
        secret_free(s);
        drop_opened(&f);
    }
}

/* `store` with one more slot. */
static struct opened add(const struct credential *fresh, const char *label, int want)
{
    struct opened o = {.ini = exact_copy(store.ini, store.len), .len = store.len};
    struct secret *word = secret_new_copy(WORD, strlen(WORD));
    assert_int_equal(reopen(&o, &(struct credential){CRED_PASSPHRASE, word}), 0);
    secret_free(word);
    int r = EDIT(&o, .op = EDIT_SLOT_ADD, .fresh = *fresh, .label = label);
    assert_int_equal(r, want);
    if (!r)
        assert_int_equal(o.result.number, 3);
    else
        assert_string_not_equal(o.why.text, "");
    return o;
}

static void refuse(const struct credential *fresh, const char *label)
{
    struct opened o = add(fresh, label, LFS_ERR_DENIED);
    drop_opened(&o);
}

static struct store_text text_of(const struct opened *o)
{
    return (struct store_text){o->ini, o->len, o->result.recovery};
}

static void key_file(void **state)
{
    uint8_t bytes[KEYFILE_MAX + 1] = {1, 2, 3};
    struct secret *good = secret_new_copy(bytes, KEYFILE_MIN),
                  *small = secret_new_copy(bytes, KEYFILE_MIN - 1),
                  *big = secret_new_copy(bytes, KEYFILE_MAX + 1);
    struct opened o = add(&(struct credential){CRED_KEYFILE, good}, NULL, 0);
    struct store_text t = text_of(&o);
    expect_open(&t, CRED_KEYFILE, bytes, KEYFILE_MIN, 3);
    expect_open(&t, CRED_PASSPHRASE, WORD, strlen(WORD), 1);
    expect_refused(&t, CRED_KEYFILE, bytes, KEYFILE_MIN + 1, LFS_ERR_PASSPHRASE);
    drop_opened(&o);
    refuse(&(struct credential){CRED_KEYFILE, small}, NULL);
    refuse(&(struct credential){CRED_KEYFILE, big}, NULL);
    refuse(&(struct credential){CRED_KEYFILE, good}, "not\nthis");
    secret_free(good);
    secret_free(small);
    secret_free(big);
}

static void second_recovery(void **state)
{
    struct opened o = add(&(struct credential){CRED_RECOVERY, NULL}, "safe", 0);
    struct store_text t = text_of(&o);
    assert_non_null(t.recovery);
    expect_open(&t, CRED_RECOVERY, secret_const(t.recovery), secret_len(t.recovery), 3);
    drop_opened(&o);
}

/* What opens with c, whose slot is given; the reason of a refusal may be asked for. */
static int open_as(const struct opened *o, const struct credential *c, char why[static KEY_WHY_MAX])
{
    struct opened copy = {.ini = exact_copy(o->ini, o->len), .len = o->len};
    int r = reopen(&copy, c);
    if (!r)
        assert_int_equal(copy.keys->slot_id, 3);
    memcpy(why, copy.why.text, KEY_WHY_MAX);
    drop_opened(&copy);
    return r;
}

static void recipient(void **state)
{
    uint8_t public_key[32], other[32] = {5}, weak[32] = {0};
    char why[KEY_WHY_MAX];
    struct secret *private_key = secret_new(32), *wrong = key_file_of(9), *cut = secret_new(31);
    crypto_box_keypair(public_key, secret_bytes(private_key));
    struct opened o = add(&(struct credential){.type = CRED_RECIPIENT, .public_key = public_key}, NULL, 0);
    struct credential c = {CRED_RECIPIENT, private_key};
    assert_int_equal(open_as(&o, &c, why), 0);
    c.slot = 3;
    c.signing_public = o.ks->signing_public;
    assert_int_equal(open_as(&o, &c, why), 0);
    c.slot = 2;
    assert_int_equal(open_as(&o, &c, why), LFS_ERR_PASSPHRASE);
    assert_non_null(strstr(why, "slot 2 is of type recovery"));
    c.slot = 9;
    assert_int_equal(open_as(&o, &c, why), LFS_ERR_PASSPHRASE);
    assert_non_null(strstr(why, "no slot 9"));
    c.slot = 0;
    c.signing_public = other;
    assert_int_equal(open_as(&o, &c, why), LFS_ERR_AUTH);
    assert_non_null(strstr(why, "not the expected one"));
    assert_int_equal(open_as(&o, &(struct credential){CRED_RECIPIENT, wrong}, why), LFS_ERR_PASSPHRASE);
    assert_int_equal(open_as(&o, &(struct credential){CRED_RECIPIENT, cut}, why), LFS_ERR_PASSPHRASE);
    /* nobody twice, and nothing that cannot be sealed to */
    int r = EDIT(&o, .op = EDIT_SLOT_ADD, .fresh = {.type = CRED_RECIPIENT, .public_key = public_key});
    assert_int_equal(r, LFS_ERR_DENIED);
    assert_non_null(strstr(o.why.text, "slot 3 has this public key"));
    refuse(&(struct credential){.type = CRED_RECIPIENT, .public_key = weak}, NULL);
    secret_free(private_key);
    secret_free(wrong);
    secret_free(cut);
    drop_opened(&o);
}

static void command(void **state)
{
    static const size_t sizes[] = {1, 95, 96, 97, 192, KEYSTORE_BLOB_MAX};
    uint8_t *blob = malloc(KEYSTORE_BLOB_MAX + 1);
    char why[KEY_WHY_MAX];
    struct secret *secret = secret_new_random(32), *cut = secret_new_copy(secret_const(secret), 31);
    assert_non_null(blob);
    memset(blob, 0x5a, KEYSTORE_BLOB_MAX + 1);
    struct credential fresh = {
        .type = CRED_COMMAND, .secret = secret, .command = "tang-2", .blob = blob, .blob_len = 1};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        fresh.blob_len = sizes[i];
        struct opened o = add(&fresh, NULL, 0);
        assert_int_equal(reopen(&o, &(struct credential){CRED_COMMAND, secret, .slot = 3}), 0);
        const struct keystore_slot *s = keystore_slot(o.ks, 3);
        assert_string_equal(s->command, "tang-2");
        assert_int_equal(s->blob_len, sizes[i]);
        assert_memory_equal(s->blob, blob, sizes[i]);
        assert_int_equal(open_as(&o, &(struct credential){CRED_COMMAND, cut}, why), LFS_ERR_PASSPHRASE);
        assert_non_null(strstr(why, "31"));
        drop_opened(&o);
    }
    fresh.blob_len = KEYSTORE_BLOB_MAX + 1;
    refuse(&fresh, NULL);
    fresh.blob_len = 0;
    refuse(&fresh, NULL);
    fresh.blob_len = 1;
    static const char *const names[] = {
        "", "Tang", "-tang", "2tang", "../tang", "tang me", "a23456789012345678901234567890123"};
    for (size_t i = 0; i < COUNT(names); i++) {
        fresh.command = names[i];
        refuse(&fresh, NULL);
    }
    secret_free(secret);
    secret_free(cut);
    free(blob);
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
    assert_int_equal(keystore_unwrap_dir(ks, NULL, keystore_keys_lookup, keys, NULL, &set), 0);
    keyset_freep(&set);
    memcpy(ks->journal_wrapped, ks->dirs[0].keys[0].wrapped, KEYSTORE_WRAPPED_BYTES);
    assert_int_equal(keystore_unwrap_dir(ks, NULL, keystore_keys_lookup, keys, NULL, &set), LFS_ERR_AUTH);
    assert_null(set);
    uint8_t other[ID_BYTES] = {1};
    assert_int_equal(keystore_unwrap_dir(ks, other, keystore_keys_lookup, keys, NULL, &set), -ENOENT);
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
        cmocka_unit_test(another_program_wrote_it),
        cmocka_unit_test(key_file),
        cmocka_unit_test(second_recovery),
        cmocka_unit_test(recipient),
        cmocka_unit_test(command),
        cmocka_unit_test(forged_store_is_refused),
        cmocka_unit_test(moved_blobs_are_refused),
        cmocka_unit_test(damage_is_told_before_the_passphrase),
        cmocka_unit_test(calibration_keeps_the_limits),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
