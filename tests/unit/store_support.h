/* An opened key store that edits are made to, as latch-keyd would. */
#ifndef TEST_STORE_SUPPORT_H
#define TEST_STORE_SUPPORT_H

#include "keyd_support.h"

#include <errno.h>
#include <sodium.h>

#define HELD_MAX 64u

struct opened {
    char *ini; /* what ks was made from */
    size_t len;
    struct keystore *ks;
    struct keystore_keys *keys;
    struct key_edit_result result; /* of the last edit */
    struct key_why why;
    struct held_blob held[HELD_MAX];
    uint32_t held_count;
};

static inline int find_held(void *arg, const uint8_t volume_id[static ID_BYTES],
                            const uint8_t pd[static ID_BYTES], uint32_t version,
                            uint8_t wrapped[static KEYSTORE_WRAPPED_BYTES])
{
    const struct opened *o = arg;
    for (uint32_t i = 0; i < o->held_count; i++) {
        if (o->held[i].version == version && memcmp(o->held[i].pd, pd, ID_BYTES) == 0) {
            memcpy(wrapped, o->held[i].wrapped, KEYSTORE_WRAPPED_BYTES);
            return 0;
        }
    }
    return -ENOENT;
}

static inline void drop_keys(struct opened *o)
{
    keystore_free(o->ks);
    keystore_keys_free(o->keys);
    o->ks = NULL;
    o->keys = NULL;
}

static inline void drop_opened(struct opened *o)
{
    drop_keys(o);
    key_edit_result_clear(&o->result);
    free(o->ini);
    memset(o, 0, sizeof *o);
}

/* Opens o->ini anew. */
static inline int reopen(struct opened *o, const struct credential *c)
{
    drop_keys(o);
    return keystore_open(o->ini, o->len, c, &o->ks, &o->keys, &o->why);
}

/* One edit; keeps the new text and what latch-keyd would keep. After an error ks and keys are of no use. */
static inline int edit(struct opened *o, const struct key_edit *e)
{
    struct held_source held = {find_held, o};
    struct held_blobs fresh = {0};
    char *ini = NULL;
    size_t len = 0;
    key_edit_result_clear(&o->result);
    int r = keystore_edit(o->ks, o->keys, e, 10, &held, &ini, &len, &o->result, &fresh, &o->why);
    if (r) {
        assert_null(ini);
        return r;
    }
    assert_string_equal(o->why.text, "");
    for (uint32_t i = 0; i < fresh.count; i++) {
        assert_true(o->held_count < HELD_MAX);
        o->held[o->held_count++] = fresh.blob[i];
    }
    free(o->ini);
    o->ini = ini;
    o->len = len;
    return 0;
}

#define EDIT(o, ...) edit((o), &(struct key_edit){__VA_ARGS__})

/* An edit about a protected directory. */
static inline int edit_pd(struct opened *o, enum key_edit_op op, const uint8_t *pd, uint32_t number,
                          const char *label)
{
    struct key_edit e = {.op = op, .number = number, .label = label};
    memcpy(e.pd, pd ? pd : o->ks->root_id, ID_BYTES);
    return edit(o, &e);
}

/* A store that opens fast: its only slot is a key file of 32 bytes of value `fill`. */
static inline struct secret *key_file_of(uint8_t fill)
{
    uint8_t bytes[KEYFILE_MIN];
    memset(bytes, fill, sizeof bytes);
    return secret_new_copy(bytes, sizeof bytes);
}

static inline struct opened make_opened(const struct secret *key_file)
{
    struct opened o = {0};
    struct keystore_init in = {.suite = 1, .first = {CRED_KEYFILE, key_file}, .label = "first"};
    assert_int_equal(keystore_make(&in, 10, &o.ini, &o.len, NULL, &o.why), 0);
    assert_int_equal(reopen(&o, &in.first), 0);
    return o;
}

/* One with every kind of section: all slot types, environment, directories that are named, held, rotated and
 * shredded, destroyed versions, backups with needs. Keys of slots: see tests. */
static inline struct opened make_full(const struct secret *key_file, const uint8_t public_key[static 32])
{
    struct opened o = make_opened(key_file);
    uint8_t blob[300], named[ID_BYTES];
    for (size_t i = 0; i < sizeof blob; i++)
        blob[i] = (uint8_t)(i * 7);
    struct secret *word = secret_new_copy(WORD, strlen(WORD)), *made = key_file_of(0x77);
    const struct credential word_slot = {CRED_PASSPHRASE, word};
    const struct credential recipient = {.type = CRED_RECIPIENT, .public_key = public_key};
    const struct credential command = {
        .type = CRED_COMMAND, .secret = made, .command = "clevis", .blob = blob, .blob_len = sizeof blob};
    assert_int_equal(EDIT(&o, .op = EDIT_SLOT_ADD, .fresh = word_slot, .fast_kdf = true), 0);
    assert_int_equal(EDIT(&o, .op = EDIT_SLOT_ADD, .fresh = {CRED_RECOVERY}), 0);
    assert_int_equal(EDIT(&o, .op = EDIT_SLOT_ADD, .fresh = recipient, .label = "officer"), 0);
    assert_int_equal(EDIT(&o, .op = EDIT_SLOT_ADD, .fresh = command), 0);
    assert_int_equal(EDIT(&o, .op = EDIT_ENVIRONMENT, .label = "production"), 0);
    assert_int_equal(EDIT(&o, .op = EDIT_DIR_ADD, .label = "gone"), 0);
    assert_int_equal(edit_pd(&o, EDIT_DIR_SHRED, o.result.pd, 0, NULL), 0);
    assert_int_equal(EDIT(&o, .op = EDIT_DIR_ADD, .label = "board papers"), 0);
    memcpy(named, o.result.pd, ID_BYTES);
    assert_int_equal(edit_pd(&o, EDIT_DIR_ROTATE, named, 0, NULL), 0);
    assert_int_equal(edit_pd(&o, EDIT_DIR_FINISH, named, 2, NULL), 0);
    assert_int_equal(edit_pd(&o, EDIT_DIR_DESTROY, named, 1, NULL), 0);
    assert_int_equal(edit_pd(&o, EDIT_DIR_ROTATE, named, 1, NULL), 0);
    assert_int_equal(EDIT(&o, .op = EDIT_DIR_ADD, .label = "held", .held = true), 0);
    assert_int_equal(EDIT(&o, .op = EDIT_MASTER_ROTATE), 0);
    assert_int_equal(EDIT(&o, .op = EDIT_MASTER_DESTROY, .number = 1), 0);
    assert_int_equal(EDIT(&o, .op = EDIT_BACKUP_ADD, .label = "tape 7"), 0);
    assert_int_equal(EDIT(&o, .op = EDIT_BACKUP_ADD), 0);
    secret_free(word);
    secret_free(made);
    return o;
}

#endif
