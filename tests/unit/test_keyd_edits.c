/* Changes of key stores: slots, master key, backups, and what holds of all edits. */
#include "edit_fixture.h"

/* ---- slots ---- */

static void slot_remove(void **state)
{
    uint8_t before[LFS_KEY_BYTES];
    struct secret *second = key_file_of(2);
    ok(EDIT(&o, .op = EDIT_SLOT_ADD, .fresh = {CRED_KEYFILE, second}));
    memcpy(before, o.keys->store_key, sizeof before);
    struct opened old = {.ini = exact_copy(o.ini, o.len), .len = o.len};
    refused(EDIT(&o, .op = EDIT_SLOT_REMOVE, .number = 9), -ENOENT, "no slot 9");
    ok(EDIT(&o, .op = EDIT_SLOT_REMOVE, .number = 2));
    assert_int_equal(o.ks->generation, 3);
    assert_int_equal(o.ks->slot_count, 1);
    assert_memory_not_equal(before, o.keys->store_key, sizeof before);
    struct credential c = {CRED_KEYFILE, second};
    assert_int_equal(reopen(&o, &c), LFS_ERR_PASSPHRASE);
    assert_int_equal(reopen(&old, &c), 0);
    open_first();
    refused(EDIT(&o, .op = EDIT_SLOT_REMOVE, .number = 1), LFS_ERR_DENIED, "last one");
    assert_int_equal(EDIT(&o, .op = EDIT_SLOT_REMOVE, .number = 1, .force = true), 0);
    c = first_credential();
    assert_int_equal(reopen(&o, &c), LFS_ERR_PASSPHRASE);
    drop_opened(&old);
    secret_free(second);
}

static void slot_replace(void **state)
{
    struct secret *second = key_file_of(2);
    uint8_t blob[100] = {1};
    struct credential command = {
        .type = CRED_COMMAND, .secret = second, .command = "kms", .blob = blob, .blob_len = sizeof blob};
    ok(EDIT(&o, .op = EDIT_SLOT_ADD, .fresh = command, .label = "token"));
    refused(EDIT(&o, .op = EDIT_SLOT_REPLACE, .number = 3, .fresh = {CRED_RECOVERY}), -ENOENT, "no slot 3");
    assert_int_equal(EDIT(&o, .op = EDIT_SLOT_REPLACE, .number = 2, .fresh = {CRED_RECOVERY}), 0);
    assert_int_equal(o.result.number, 2);
    struct credential recovery = {CRED_RECOVERY, o.result.recovery};
    assert_int_equal(reopen(&o, &recovery), 0);
    assert_int_equal(o.keys->slot_id, 2);
    assert_int_equal(o.ks->slots[1].type, SLOT_RECOVERY);
    assert_string_equal(o.ks->slots[1].label, "token");
    assert_int_equal(o.ks->next_slot, 3);
    assert_int_equal(reopen(&o, &command), LFS_ERR_PASSPHRASE);
    open_first();
    ok(EDIT(&o, .op = EDIT_SLOT_REPLACE, .number = 2, .fresh = command));
    assert_int_equal(o.ks->slots[1].blob_len, sizeof blob);
    secret_free(second);
}

static void slot_label(void **state)
{
    ok(EDIT(&o, .op = EDIT_SLOT_LABEL, .number = 1, .label = "ann"));
    assert_string_equal(o.ks->slots[0].label, "ann");
    refused(EDIT(&o, .op = EDIT_SLOT_LABEL, .number = 1, .label = "a\nb"), LFS_ERR_DENIED, "a label has");
    refused(EDIT(&o, .op = EDIT_SLOT_LABEL, .number = 2, .label = "b"), -ENOENT, "no slot 2");
    ok(EDIT(&o, .op = EDIT_SLOT_LABEL, .number = 1, .label = ""));
    assert_string_equal(o.ks->slots[0].label, "");
}

static void slots_are_limited(void **state)
{
    uint8_t public_key[32];
    for (unsigned i = 2; i <= KEYSTORE_SLOTS_MAX; i++) {
        randombytes_buf(public_key, sizeof public_key);
        ok(EDIT(&o, .op = EDIT_SLOT_ADD, .fresh = {.type = CRED_RECIPIENT, .public_key = public_key}));
    }
    randombytes_buf(public_key, sizeof public_key);
    const struct credential c = {.type = CRED_RECIPIENT, .public_key = public_key};
    refused(EDIT(&o, .op = EDIT_SLOT_ADD, .fresh = c), -ENOSPC, "no room");
    ok(EDIT(&o, .op = EDIT_SLOT_REMOVE, .number = 5));
    ok(EDIT(&o, .op = EDIT_SLOT_ADD, .fresh = c));
    assert_int_equal(o.result.number, 17); /* numbers are not used again */
}

/* ---- master key ---- */

static void master_rotate(void **state)
{
    uint8_t pd[ID_BYTES], held[ID_BYTES], store_key[LFS_KEY_BYTES];
    add_dir("a", false, pd);
    add_dir("b", true, held);
    ok(edit_pd(&o, EDIT_DIR_ROTATE, pd, 0, NULL));
    const uint8_t *const dirs[] = {NULL, pd, held};
    struct keyset *before[COUNT(dirs)];
    for (size_t i = 0; i < COUNT(dirs); i++)
        before[i] = keys_of(dirs[i]);
    memcpy(store_key, o.keys->store_key, sizeof store_key);
    struct keystore_keys *old = locked_alloc(sizeof *old);
    *old = *o.keys;
    ok(EDIT(&o, .op = EDIT_MASTER_ROTATE));
    assert_int_equal(o.result.number, 2);
    assert_int_equal(keystore_master(o.ks, 1)->state, KEY_DECRYPT_ONLY);
    assert_int_equal(keystore_active_master(o.ks)->version, 2);
    assert_memory_not_equal(store_key, o.keys->store_key, sizeof store_key);
    for (size_t i = 0; i < COUNT(dirs); i++) {
        struct keyset *after = keys_of(dirs[i]), *none = NULL;
        assert_memory_equal(before[i], after, sizeof *after);
        assert_int_equal(keystore_unwrap_dir(o.ks, dirs[i], keystore_keys_lookup, old, NULL, &none),
                         LFS_ERR_NOKEY);
        keyset_free(before[i]);
        keyset_free(after);
    }
    keystore_keys_free(old);
}

static void master_ends(void **state)
{
    refused(EDIT(&o, .op = EDIT_MASTER_RETIRE, .number = 1), LFS_ERR_DENIED, "the active one");
    refused(EDIT(&o, .op = EDIT_MASTER_DESTROY, .number = 1), LFS_ERR_DENIED, "the active one");
    refused(EDIT(&o, .op = EDIT_MASTER_DESTROY, .number = 2), -ENOENT, "no master key");
    ok(EDIT(&o, .op = EDIT_BACKUP_ADD, .label = "before"));
    ok(EDIT(&o, .op = EDIT_MASTER_ROTATE));
    ok(EDIT(&o, .op = EDIT_MASTER_RETIRE, .number = 1));
    assert_int_equal(keystore_master(o.ks, 1)->state, KEY_RETIRED);
    refused(EDIT(&o, .op = EDIT_MASTER_DESTROY, .number = 1), LFS_ERR_DENIED,
            "backup 1 (before) still needs version 1");
    ok(EDIT(&o, .op = EDIT_BACKUP_REMOVE, .number = 1));
    ok(EDIT(&o, .op = EDIT_MASTER_DESTROY, .number = 1));
    assert_int_equal(keystore_master(o.ks, 1)->state, KEY_DESTROYED);
    assert_int_equal(o.keys->count, 1);
    refused(EDIT(&o, .op = EDIT_MASTER_DESTROY, .number = 1), LFS_ERR_DENIED, "was destroyed");
    refused(EDIT(&o, .op = EDIT_MASTER_RETIRE, .number = 1), LFS_ERR_DENIED, "was destroyed");
    ok(EDIT(&o, .op = EDIT_MASTER_ROTATE));
    assert_int_equal(o.result.number, 3);
}

/* A blob still wrapped by an older version (no edit leaves one, another program may). */
static void master_in_use(void **state)
{
    assert_int_equal(EDIT(&o, .op = EDIT_MASTER_ROTATE), 0);
    o.ks->journal_master = 1;
    refused(EDIT(&o, .op = EDIT_MASTER_RETIRE, .number = 1), LFS_ERR_DENIED, "are wrapped by version 1");
    o.ks->dirs[0].keys[0].master = 1;
    refused(EDIT(&o, .op = EDIT_MASTER_DESTROY, .number = 1), LFS_ERR_DENIED, "are wrapped by version 1");
}

static void masters_are_limited(void **state)
{
    for (unsigned i = 2; i <= KEYSTORE_MASTERS_MAX; i++)
        assert_int_equal(EDIT(&o, .op = EDIT_MASTER_ROTATE), 0);
    open_first();
    refused(EDIT(&o, .op = EDIT_MASTER_ROTATE), -ENOSPC, "destroy some first");
    ok(EDIT(&o, .op = EDIT_MASTER_DESTROY, .number = 7));
    ok(EDIT(&o, .op = EDIT_MASTER_DESTROY, .number = 3));
    ok(EDIT(&o, .op = EDIT_MASTER_ROTATE));
    assert_int_equal(o.result.number, KEYSTORE_MASTERS_MAX + 1);
    assert_null(keystore_master(o.ks, 3)); /* the oldest destroyed one went */
    assert_non_null(keystore_master(o.ks, 7));
}

/* ---- backups, environment ---- */

static void backups(void **state)
{
    uint8_t pd[ID_BYTES];
    add_dir("a", false, pd);
    ok(edit_pd(&o, EDIT_DIR_ROTATE, pd, 0, NULL));
    ok(EDIT(&o, .op = EDIT_BACKUP_ADD, .label = "tape"));
    assert_int_equal(o.result.number, 1);
    const struct keystore_backup *b = keystore_backup(o.ks, 1);
    assert_string_equal(b->label, "tape");
    assert_int_equal(b->need_count, 2);
    assert_memory_equal(b->needs[1].pd, pd, ID_BYTES);
    assert_int_equal(b->needs[1].least, 1);
    assert_int_equal(b->needs[1].most, 2);
    assert_int_equal(b->master_least, 1);
    assert_int_equal(b->master_most, 1);
    refused(EDIT(&o, .op = EDIT_BACKUP_ADD, .label = "a;b"), LFS_ERR_DENIED, "a label has");
    refused(EDIT(&o, .op = EDIT_BACKUP_REMOVE, .number = 2), -ENOENT, "no backup 2");
    for (unsigned i = 2; i <= KEYSTORE_BACKUPS_MAX; i++)
        ok(EDIT(&o, .op = EDIT_BACKUP_ADD));
    refused(EDIT(&o, .op = EDIT_BACKUP_ADD), -ENOSPC, "32 registered backups");
    ok(EDIT(&o, .op = EDIT_BACKUP_REMOVE, .number = 32));
    ok(EDIT(&o, .op = EDIT_BACKUP_ADD));
    assert_int_equal(o.result.number, 33); /* numbers are not used again */
}

static void environment(void **state)
{
    ok(EDIT(&o, .op = EDIT_ENVIRONMENT, .label = "production"));
    assert_string_equal(o.ks->environment, "production");
    refused(EDIT(&o, .op = EDIT_ENVIRONMENT, .label = "a\tb"), LFS_ERR_DENIED, "a label has");
    ok(EDIT(&o, .op = EDIT_ENVIRONMENT, .label = ""));
    assert_string_equal(o.ks->environment, "");
    struct keystore_init in = {.suite = 1, .first = first_credential(), .environment = "staging"};
    struct opened other = {0};
    assert_int_equal(keystore_make(&in, 10, &other.ini, &other.len, NULL, &other.why), 0);
    assert_int_equal(reopen(&other, &in.first), 0);
    assert_string_equal(other.ks->environment, "staging");
    drop_opened(&other);
    in.environment = "=";
    assert_int_equal(keystore_make(&in, 10, &other.ini, &other.len, NULL, &other.why), LFS_ERR_DENIED);
}

/* ---- the whole ---- */

static void unknown_edits(void **state)
{
    assert_int_equal(EDIT(&o, .op = 0), LFS_ERR_MISUSE);
    assert_int_equal(EDIT(&o, .op = EDIT_OP_MAX + 1), LFS_ERR_MISUSE);
    for (unsigned op = 1; op <= EDIT_OP_MAX; op++)
        assert_non_null(key_edit_name(op));
    assert_null(key_edit_name(0));
    assert_null(key_edit_name(EDIT_OP_MAX + 1));
    assert_true(key_edit_is_destructive(EDIT_DIR_SHRED));
    assert_false(key_edit_is_destructive(EDIT_DIR_ADD));
}

static void the_text_is_limited(void **state)
{
    uint8_t *blob = malloc(KEYSTORE_BLOB_MAX);
    assert_non_null(blob);
    memset(blob, 1, KEYSTORE_BLOB_MAX);
    struct secret *s = key_file_of(3);
    const struct credential c = {
        .type = CRED_COMMAND, .secret = s, .command = "x", .blob = blob, .blob_len = KEYSTORE_BLOB_MAX};
    for (int i = 0; i < 15; i++) {
        int r = EDIT(&o, .op = EDIT_SLOT_ADD, .fresh = c);
        if (r) {
            refused(r, -ENOSPC, "would exceed 256 KiB");
            break;
        }
        assert_true(i < 14 && o.len <= KEYSTORE_MAX_BYTES);
    }
    secret_free(s);
    free(blob);
}

/* Somebody changed one wrapped key in memory, or what it should be wrapped by: nothing is signed. */
static void nothing_broken_is_signed(void **state)
{
    uint8_t pd[ID_BYTES];
    add_dir("a", false, pd);
    ok(EDIT(&o, .op = EDIT_MASTER_ROTATE));
    for (int i = 0; i < 7; i++) {
        struct keystore_dir *d = &o.ks->dirs[1];
        uint8_t *const places[] = {d->keys[0].wrapped,    d->name_wrapped,          d->label_wrapped,
                                   o.ks->journal_wrapped, o.ks->masters[0].wrapped, o.ks->signing_wrapped};
        if (i < 6)
            places[i][40] ^= 1;
        else
            o.keys->masters[0].key[0] ^= 1;
        assert_int_equal(EDIT(&o, .op = EDIT_ENVIRONMENT, .label = "x"), LFS_ERR_AUTH);
        assert_string_not_equal(o.why.text, "");
        open_first();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(slot_remove),
        TEST(slot_replace),
        TEST(slot_label),
        TEST(slots_are_limited),
        TEST(master_rotate),
        TEST(master_ends),
        TEST(master_in_use),
        TEST(masters_are_limited),
        TEST(backups),
        TEST(environment),
        TEST(unknown_edits),
        TEST(the_text_is_limited),
        TEST(nothing_broken_is_signed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
