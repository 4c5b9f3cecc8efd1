/* Changes of key stores: each edit, each refusal, each limit. */
#include "store_support.h"

static struct secret *first; /* key file of slot 1 */
static struct opened o;

static int setup(void **state)
{
    first = key_file_of(1);
    o = make_opened(first);
    return 0;
}

static int teardown(void **state)
{
    drop_opened(&o);
    secret_free(first);
    return 0;
}

static struct credential first_credential(void)
{
    return (struct credential){CRED_KEYFILE, first};
}

static void open_first(void)
{
    struct credential c = first_credential();
    assert_int_equal(reopen(&o, &c), 0);
}

static void ok(int r)
{
    struct held_source held = {find_held, &o};
    struct key_why why;
    if (r)
        fail_msg("%d: %s", r, o.why.text);
    open_first();
    assert_int_equal(keystore_verify(o.ks, o.keys, &held, &why), 0);
}

/* The edit answered `want` for a reason that has these words; the store is as before. */
static void refused(int r, int want, const char *words)
{
    if (r != want || !strstr(o.why.text, words))
        fail_msg("%d: %s", r, o.why.text);
    open_first();
}

static struct keyset *keys_of(const uint8_t *pd)
{
    struct held_source held = {find_held, &o};
    struct keyset *set = NULL;
    assert_int_equal(keystore_unwrap_dir(o.ks, pd, keystore_keys_lookup, o.keys, &held, &set), 0);
    return set;
}

static void add_dir(const char *name, bool held, uint8_t pd[static ID_BYTES])
{
    int r = EDIT(&o, .op = EDIT_DIR_ADD, .label = name, .held = held);
    memcpy(pd, o.result.pd, ID_BYTES);
    ok(r);
}

static const struct keystore_dirkey *version_of(const uint8_t *pd, uint32_t version)
{
    return keystore_dirkey(keystore_dir(o.ks, pd), version);
}

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

/* ---- directories ---- */

static void dir_names(void **state)
{
    uint8_t pd[ID_BYTES], other[ID_BYTES], held[ID_BYTES];
    char label[KEYSTORE_LABEL_MAX + 1];
    add_dir("board papers", false, pd);
    add_dir("held", true, held);
    struct keyset *set = keys_of(pd);
    assert_int_equal(keystore_dir_label(o.ks, pd, set, label), 0);
    assert_string_equal(label, "board papers");
    assert_null(memmem(o.ini, o.len, "board", 5));
    assert_int_equal(keystore_dir_label(o.ks, held, set, label), LFS_ERR_AUTH);
    keyset_free(set);
    refused(EDIT(&o, .op = EDIT_DIR_ADD, .label = "board papers"), LFS_ERR_DENIED, "another");
    refused(EDIT(&o, .op = EDIT_DIR_ADD, .label = "held"), LFS_ERR_DENIED, "another");
    refused(EDIT(&o, .op = EDIT_DIR_ADD, .label = "a/b"), LFS_ERR_DENIED, "name has");
    refused(EDIT(&o, .op = EDIT_DIR_ADD), LFS_ERR_DENIED, "needs a name");
    add_dir("third", false, other);
    refused(edit_pd(&o, EDIT_DIR_NAME, other, 0, "held"), LFS_ERR_DENIED, "another");
    ok(edit_pd(&o, EDIT_DIR_NAME, other, 0, "third")); /* its own */
    ok(edit_pd(&o, EDIT_DIR_NAME, NULL, 0, "the root"));
    set = keys_of(NULL);
    assert_int_equal(keystore_dir_label(o.ks, NULL, set, label), 0);
    assert_string_equal(label, "the root");
    ok(edit_pd(&o, EDIT_DIR_NAME, NULL, 0, ""));
    assert_int_equal(keystore_dir_label(o.ks, NULL, set, label), 0);
    assert_string_equal(label, "");
    keyset_free(set);
    uint8_t unknown[ID_BYTES] = {1};
    refused(edit_pd(&o, EDIT_DIR_NAME, unknown, 0, "x"), -ENOENT, "no protected directory 01");
}

/* What a rotation of each sort answers in each state: 0 refused, else the version. */
static void dir_rotate(void **state)
{
    static const struct {
        char act; /* h, d: rotate headers, data; f: finish the active version */
        uint32_t want, least, data;
    } steps[] = {{'h', 2, 1, 0}, {'h', 2, 1, 0}, {'f', 2, 2, 0}, {'d', 3, 2, 3}, {'d', 3, 2, 3},
                 {'h', 0, 2, 3}, {'f', 3, 3, 3}, {'h', 4, 3, 3}, {'d', 5, 3, 5}, {'h', 0, 3, 5},
                 {'d', 5, 3, 5}, {'f', 5, 5, 5}, {'f', 5, 5, 5}, {'h', 6, 5, 5}};
    uint8_t pd[ID_BYTES];
    for (int held = 0; held < 2; held++) {
        uint32_t active = 1;
        add_dir(held ? "held" : "plain", held, pd);
        struct keyset *begin = keys_of(pd);
        for (size_t i = 0; i < COUNT(steps); i++) {
            bool finish = steps[i].act == 'f';
            int r = edit_pd(&o, finish ? EDIT_DIR_FINISH : EDIT_DIR_ROTATE, pd,
                            finish ? active : steps[i].act == 'd', NULL);
            if (!steps[i].want) {
                refused(r, LFS_ERR_DENIED, "finish that first");
            } else {
                assert_int_equal(o.result.number, active = steps[i].want);
                ok(r);
            }
            const struct keystore_dir *d = keystore_dir(o.ks, pd);
            assert_int_equal(keystore_active_dirkey(d)->version, active);
            assert_int_equal(d->least, steps[i].least);
            assert_int_equal(d->data_version, steps[i].data);
            struct keyset *set = keys_of(pd);
            assert_memory_equal(set->name_key, begin->name_key, LFS_KEY_BYTES);
            assert_int_equal(set->count, active - steps[i].least + 1); /* retired ones are left out */
            assert_int_equal(set->versions[0].version, steps[i].least);
            assert_int_equal(set->active, active);
            keyset_free(set);
        }
        keyset_free(begin);
    }
    assert_int_equal(edit_pd(&o, EDIT_DIR_ROTATE, pd, 2, NULL), LFS_ERR_MISUSE);
}

static void dir_ends(void **state)
{
    uint8_t pd[ID_BYTES];
    add_dir("a", false, pd);
    ok(EDIT(&o, .op = EDIT_BACKUP_ADD)); /* needs version 1 */
    ok(edit_pd(&o, EDIT_DIR_ROTATE, pd, 0, NULL));
    refused(edit_pd(&o, EDIT_DIR_FINISH, pd, 1, NULL), LFS_ERR_DENIED, "not the active one, that is 2");
    refused(edit_pd(&o, EDIT_DIR_DESTROY, pd, 1, NULL), LFS_ERR_DENIED, "decrypt-only");
    refused(edit_pd(&o, EDIT_DIR_DESTROY, pd, 2, NULL), LFS_ERR_DENIED, "active");
    refused(edit_pd(&o, EDIT_DIR_DESTROY, pd, 3, NULL), -ENOENT, "no key of version 3");
    ok(edit_pd(&o, EDIT_DIR_FINISH, pd, 2, NULL));
    assert_int_equal(version_of(pd, 1)->state, KEY_RETIRED);
    refused(edit_pd(&o, EDIT_DIR_DESTROY, pd, 1, NULL), LFS_ERR_DENIED, "backup 1 still needs");
    ok(EDIT(&o, .op = EDIT_BACKUP_ADD)); /* needs version 2 only */
    ok(EDIT(&o, .op = EDIT_BACKUP_REMOVE, .number = 1));
    ok(edit_pd(&o, EDIT_DIR_DESTROY, pd, 1, NULL));
    assert_int_equal(version_of(pd, 1)->state, KEY_DESTROYED);
    refused(edit_pd(&o, EDIT_DIR_DESTROY, pd, 1, NULL), LFS_ERR_DENIED, "destroyed");
    ok(EDIT(&o, .op = EDIT_MASTER_ROTATE)); /* passes what is destroyed */
}

/* A retired version may be one that headers still have, or that the name key is wrapped by, if another
 * program wrote the store: such a one is leased, and not destroyed. */
static void dir_destroy_looks_closely(void **state)
{
    uint8_t pd[ID_BYTES];
    add_dir("a", false, pd);
    assert_int_equal(edit_pd(&o, EDIT_DIR_ROTATE, pd, 0, NULL), 0);
    struct keystore_dir *d = &o.ks->dirs[1];
    d->keys[0].state = KEY_RETIRED;
    struct keyset *set = keys_of(pd);
    assert_int_equal(set->count, 2);
    keyset_free(set);
    refused(edit_pd(&o, EDIT_DIR_DESTROY, pd, 1, NULL), LFS_ERR_DENIED, "only a retired one");
    d = &o.ks->dirs[1];
    d->keys[0].state = KEY_RETIRED;
    d->least = 2;
    d->name_version = 1;
    refused(edit_pd(&o, EDIT_DIR_DESTROY, pd, 1, NULL), LFS_ERR_DENIED, "still wraps the name key");
}

static void versions_are_limited(void **state)
{
    for (uint32_t v = 2; v <= KEYSET_VERSIONS_MAX; v++) {
        ok(edit_pd(&o, EDIT_DIR_ROTATE, NULL, 0, NULL));
        ok(edit_pd(&o, EDIT_DIR_FINISH, NULL, v, NULL));
    }
    refused(edit_pd(&o, EDIT_DIR_ROTATE, NULL, 0, NULL), -ENOSPC, "destroy some first");
    ok(edit_pd(&o, EDIT_DIR_DESTROY, NULL, 5, NULL));
    ok(edit_pd(&o, EDIT_DIR_DESTROY, NULL, 4, NULL));
    ok(edit_pd(&o, EDIT_DIR_ROTATE, NULL, 0, NULL));
    assert_int_equal(o.result.number, KEYSET_VERSIONS_MAX + 1);
    assert_null(version_of(NULL, 4));
    assert_non_null(version_of(NULL, 5));
}

static void dir_shred(void **state)
{
    uint8_t pd[ID_BYTES];
    struct keyset *set = NULL;
    add_dir("secret", false, pd);
    ok(edit_pd(&o, EDIT_DIR_ROTATE, pd, 1, NULL));
    ok(EDIT(&o, .op = EDIT_BACKUP_ADD));
    refused(edit_pd(&o, EDIT_DIR_SHRED, NULL, 0, NULL), LFS_ERR_DENIED, "root");
    assert_int_equal(o.ks->backups[0].need_count, 2);
    ok(edit_pd(&o, EDIT_DIR_SHRED, pd, 0, NULL));
    const struct keystore_dir *d = keystore_dir(o.ks, pd);
    assert_true(d->shredded);
    assert_false(d->named);
    for (uint32_t i = 0; i < d->count; i++)
        assert_int_equal(d->keys[i].state, KEY_DESTROYED);
    assert_int_equal(o.ks->backups[0].need_count, 1);
    int r = keystore_unwrap_dir(o.ks, pd, keystore_keys_lookup, o.keys, NULL, &set);
    assert_int_equal(r, LFS_ERR_NOKEY);
    static const enum key_edit_op ops[] = {EDIT_DIR_NAME, EDIT_DIR_ROTATE, EDIT_DIR_FINISH, EDIT_DIR_DESTROY,
                                           EDIT_DIR_SHRED};
    for (size_t i = 0; i < COUNT(ops); i++)
        refused(edit_pd(&o, ops[i], pd, 1, "x"), LFS_ERR_DENIED, "was shredded");
    ok(EDIT(&o, .op = EDIT_BACKUP_ADD));
    assert_int_equal(o.ks->backups[1].need_count, 1);
    add_dir("secret", false, pd); /* its name is free again */
}

static void dirs_are_limited(void **state)
{
    uint8_t shredded[ID_BYTES], pd[ID_BYTES];
    char name[16];
    add_dir("shredded", false, shredded);
    ok(edit_pd(&o, EDIT_DIR_SHRED, shredded, 0, NULL));
    for (unsigned i = 2; i < KEYSTORE_DIRS_MAX; i++) {
        snprintf(name, sizeof name, "dir %u", i);
        assert_int_equal(EDIT(&o, .op = EDIT_DIR_ADD, .label = name), 0);
    }
    open_first();
    assert_int_equal(o.ks->dir_count, KEYSTORE_DIRS_MAX);
    add_dir("one more", false, pd); /* in place of the one that was shredded */
    assert_null(keystore_dir(o.ks, shredded));
    refused(EDIT(&o, .op = EDIT_DIR_ADD, .label = "too many"), -ENOSPC, "256 protected directories");
    for (unsigned i = 1; i <= KEYSTORE_NEEDS_MAX / KEYSTORE_DIRS_MAX; i++)
        ok(EDIT(&o, .op = EDIT_BACKUP_ADD));
    refused(EDIT(&o, .op = EDIT_BACKUP_ADD), -ENOSPC, "what another backup needs");
}

/* ---- held directories ---- */

static void held_keys(void **state)
{
    uint8_t pd[ID_BYTES];
    struct keyset *set = NULL;
    struct key_why why;
    struct held_source held = {find_held, &o}, nowhere = {NULL, NULL};
    add_dir("held", true, pd);
    assert_int_equal(o.held_count, 1);
    set = keys_of(pd);
    /* neither the store nor what is held is enough alone */
    assert_null(memmem(o.ini, o.len, o.held[0].wrapped, KEYSTORE_WRAPPED_BYTES));
    uint8_t other[ID_BYTES];
    add_dir("other", true, other);
    struct held_blob keep = o.held[0];
    o.held[0] = o.held[1];
    memcpy(o.held[0].pd, pd, ID_BYTES); /* another's blob */
    struct keyset *bad = NULL;
    int r = keystore_unwrap_dir(o.ks, pd, keystore_keys_lookup, o.keys, &held, &bad);
    assert_int_equal(r, LFS_ERR_AUTH);
    assert_int_equal(keystore_verify(o.ks, o.keys, &held, &why), LFS_ERR_AUTH);
    o.held[0] = keep;
    r = keystore_unwrap_dir(o.ks, pd, keystore_keys_lookup, o.keys, NULL, &bad);
    assert_int_equal(r, LFS_ERR_NOKEY);
    r = keystore_unwrap_dir(o.ks, pd, keystore_keys_lookup, o.keys, &nowhere, &bad);
    assert_int_equal(r, LFS_ERR_NOKEY);
    assert_null(bad);
    assert_int_equal(keystore_verify(o.ks, o.keys, NULL, &why), 0);
    assert_int_equal(keystore_verify(o.ks, o.keys, &nowhere, &why), LFS_ERR_NOKEY);
    assert_non_null(strstr(why.text, "held elsewhere"));
    assert_int_equal(keystore_verify(o.ks, o.keys, &held, &why), 0);
    keyset_free(set);
}

/* What is held is gone, or elsewhere: the rest of the store can still be administered. */
static void held_elsewhere(void **state)
{
    uint8_t pd[ID_BYTES];
    add_dir("held", true, pd);
    o.held_count = 0;
    refused(edit_pd(&o, EDIT_DIR_ROTATE, pd, 0, NULL), LFS_ERR_NOKEY, "held by another");
    refused(edit_pd(&o, EDIT_DIR_NAME, pd, 0, "x"), LFS_ERR_NOKEY, "held by another");
    assert_int_equal(EDIT(&o, .op = EDIT_MASTER_ROTATE), 0);
    assert_int_equal(EDIT(&o, .op = EDIT_DIR_ADD, .label = "more"), 0);
    assert_int_equal(edit_pd(&o, EDIT_DIR_SHRED, pd, 0, NULL), 0);
    open_first();
    assert_true(keystore_dir(o.ks, pd)->shredded);
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

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
        TEST(dir_names),
        TEST(dir_rotate),
        TEST(dir_ends),
        TEST(dir_destroy_looks_closely),
        TEST(versions_are_limited),
        TEST(dir_shred),
        TEST(dirs_are_limited),
        TEST(held_keys),
        TEST(held_elsewhere),
        TEST(backups),
        TEST(environment),
        TEST(unknown_edits),
        TEST(the_text_is_limited),
        TEST(nothing_broken_is_signed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
