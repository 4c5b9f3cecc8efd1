/* Key stores for the tests of keyd. */
#ifndef TEST_KEYD_SUPPORT_H
#define TEST_KEYD_SUPPORT_H

#include "support.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/keyslots.h"

#define WORD "a passphrase"

struct store_text {
    char *ini;
    size_t len;
    struct secret *recovery;
};

/* A fresh store with a passphrase slot (WORD) and a recovery slot. */
static inline struct store_text make_store(void)
{
    struct store_text t = {0};
    struct key_why why;
    struct secret *word = secret_new_copy(WORD, strlen(WORD));
    struct keystore_init in = {
        .suite = 1, .fast_kdf = true, .recovery = true, .first = {CRED_PASSPHRASE, word}, .label = "first"};
    assert_int_equal(keystore_make(&in, 1000, &t.ini, &t.len, &t.recovery, &why), 0);
    secret_free(word);
    return t;
}

static inline void drop_store(struct store_text *t)
{
    free(t->ini);
    secret_free(t->recovery);
}

static inline int open_with(const char *ini, size_t len, enum credential_type type, const void *data,
                            size_t n, struct keystore **ks, struct keystore_keys **keys, struct key_why *why)
{
    struct secret *s = secret_new_copy(data, n);
    struct credential c = {type, s};
    int r = keystore_open(ini, len, &c, ks, keys, why);
    secret_free(s);
    return r;
}

#endif
