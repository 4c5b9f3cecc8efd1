/* Damage to the ciphertext of a closed volume, and what a check says of it. */
#ifndef TEST_DAMAGE_FIXTURE_H
#define TEST_DAMAGE_FIXTURE_H

#include "check_fixture.h"

static char path[1024];

static inline int damage_setup(void **state)
{
    int r = check_setup(state);
    fill_volume();
    return r;
}

/* The path of the backing file of plain, in the volume that is closed then. */
static inline void at(const char *plain)
{
    path_of(plain, path);
    close_volume();
}

static inline void stored_name(const char *of, const char *suffix, char out[static 1024])
{
    snprintf(out, 1024, "%.900s%s", of, suffix);
}

/* What a check finds of it with keys, contents included, and that it is one thing. */
__attribute__((unused)) static const struct seen *find_one(enum check_kind kind, const char *plain)
{
    check_read_only(CHECK_CONTENTS);
    const struct seen *s = expect_one(kind, plain);
    if (!plain)
        return s;
    const char *rest = path + strlen(volume_dir) + 1;
    assert_int_equal(strncmp(s->cipher, rest, strlen(s->cipher)), 0);
    return s;
}

static inline void damaged(const struct seen *s, int err)
{
    assert_int_equal(s->severity, CHECK_DAMAGE);
    assert_int_equal(s->err, err);
}

/* Without keys. */
static inline void bare_one(enum check_kind kind)
{
    check_bare();
    expect_one(kind, NULL);
}

static inline void bare_none(void)
{
    check_bare();
    expect_none();
}

#endif
