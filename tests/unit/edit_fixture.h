/* An opened key store for each test of edits, and what edits answer. */
#ifndef TEST_EDIT_FIXTURE_H
#define TEST_EDIT_FIXTURE_H

#include "store_support.h"

static struct secret *first; /* key file of slot 1 */
static struct opened o;

static inline int setup(void **state)
{
    first = key_file_of(1);
    o = make_opened(first);
    return 0;
}

static inline int teardown(void **state)
{
    drop_opened(&o);
    secret_free(first);
    return 0;
}

static inline struct credential first_credential(void)
{
    return (struct credential){CRED_KEYFILE, first};
}

static inline void open_first(void)
{
    struct credential c = first_credential();
    assert_int_equal(reopen(&o, &c), 0);
}

static inline void ok(int r)
{
    struct held_source held = {find_held, &o};
    struct key_why why;
    if (r)
        fail_msg("%d: %s", r, o.why.text);
    open_first();
    assert_int_equal(keystore_verify(o.ks, o.keys, &held, &why), 0);
}

/* The edit answered `want` for a reason that has these words; the store is as before. */
static inline void refused(int r, int want, const char *words)
{
    if (r != want || !strstr(o.why.text, words))
        fail_msg("%d: %s", r, o.why.text);
    open_first();
}

static inline struct keyset *keys_of(const uint8_t *pd)
{
    struct held_source held = {find_held, &o};
    struct keyset *set = NULL;
    assert_int_equal(keystore_unwrap_dir(o.ks, pd, keystore_keys_lookup, o.keys, &held, &set), 0);
    return set;
}

static inline void add_dir(const char *name, bool held, uint8_t pd[static ID_BYTES])
{
    int r = EDIT(&o, .op = EDIT_DIR_ADD, .label = name, .held = held);
    memcpy(pd, o.result.pd, ID_BYTES);
    ok(r);
}

static inline const struct keystore_dirkey *version_of(const uint8_t *pd, uint32_t version)
{
    return keystore_dirkey(keystore_dir(o.ks, pd), version);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
