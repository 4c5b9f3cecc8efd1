/* Changes of key stores: protected directories, held ones too. */
#include "edit_fixture.h"

#include "keyd/wrap.h"

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

/* Names that no edit writes, sealed by somebody who has the name key. */
static void strange_names(void **state)
{
    static const uint8_t plains[][KEYSTORE_LABEL_MAX + 1] = {
        {65, 'a'}, {255, 'a'}, {0}, {2, 'a'}, {3, 'a', 0, 'b'}, {1, 'a', 'b'}, {1, '/'}, {2, 'a', ' '}};
    uint8_t sub[LFS_KEY_BYTES];
    char label[KEYSTORE_LABEL_MAX + 1] = "untouched";
    struct keyset *set = keys_of(NULL);
    struct keystore_dir *d = &o.ks->dirs[0];
    struct wrap_what what = wrap_of_label(o.ks, d);
    crypto_kdf_derive_from_key(sub, sizeof sub, 5, "latchfsN", set->name_key);
    d->named = true;
    for (size_t i = 0; i < COUNT(plains); i++) {
        assert_int_equal(wrap_key(&what, sub, plains[i], sizeof plains[i], d->label_wrapped), 0);
        assert_int_equal(keystore_dir_label(o.ks, NULL, set, label), LFS_ERR_CORRUPT);
        assert_string_equal(label, "untouched");
    }
    keyset_free(set);
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

/* Files came back from a backup: older headers are taken again, until the next rotation has finished. */
static void dir_accept(void **state)
{
    uint8_t pd[ID_BYTES];
    add_dir("a", false, pd);
    struct keyset *before = keys_of(pd);
    for (uint32_t v = 2; v <= 4; v++) {
        ok(edit_pd(&o, EDIT_DIR_ROTATE, pd, v == 4, NULL));
        ok(edit_pd(&o, EDIT_DIR_FINISH, pd, v, NULL));
    }
    ok(edit_pd(&o, EDIT_DIR_DESTROY, pd, 2, NULL));
    refused(edit_pd(&o, EDIT_DIR_ACCEPT, pd, 5, NULL), -ENOENT, "no key of version 5");
    refused(edit_pd(&o, EDIT_DIR_ACCEPT, pd, 2, NULL), LFS_ERR_DENIED, "was destroyed");
    refused(edit_pd(&o, EDIT_DIR_ACCEPT, pd, 4, NULL), LFS_ERR_DENIED, "taken already");
    ok(edit_pd(&o, EDIT_DIR_ACCEPT, pd, 1, NULL));
    struct keyset *set = keys_of(pd);
    assert_int_equal(set->least, 1);
    assert_int_equal(set->count, 3);
    assert_memory_equal(&set->versions[0], &before->versions[0], sizeof set->versions[0]);
    refused(edit_pd(&o, EDIT_DIR_DESTROY, pd, 1, NULL), LFS_ERR_DENIED, "decrypt-only");
    ok(EDIT(&o, .op = EDIT_BACKUP_ADD));
    assert_int_equal(o.ks->backups[0].needs[1].least, 1);
    /* the last rotation was one of data: so is the one that brings the restored files up */
    refused(edit_pd(&o, EDIT_DIR_ROTATE, pd, 0, NULL), LFS_ERR_DENIED, "finish that first");
    ok(edit_pd(&o, EDIT_DIR_ROTATE, pd, 1, NULL));
    assert_int_equal(keystore_active_dirkey(keystore_dir(o.ks, pd))->version, 4);
    ok(edit_pd(&o, EDIT_DIR_FINISH, pd, 4, NULL));
    assert_int_equal(version_of(pd, 1)->state, KEY_RETIRED);
    keyset_free(before);
    keyset_free(set);
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
    static const enum key_edit_op ops[] = {EDIT_DIR_NAME,   EDIT_DIR_ROTATE,  EDIT_DIR_FINISH,
                                           EDIT_DIR_ACCEPT, EDIT_DIR_DESTROY, EDIT_DIR_SHRED};
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(dir_names),
        TEST(strange_names),
        TEST(dir_rotate),
        TEST(dir_ends),
        TEST(dir_destroy_looks_closely),
        TEST(dir_accept),
        TEST(versions_are_limited),
        TEST(dir_shred),
        TEST(dirs_are_limited),
        TEST(held_keys),
        TEST(held_elsewhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
