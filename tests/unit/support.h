/* What the unit tests share: cmocka with its includes, and a small seeded generator, so that every run of a
 * random test is the same run. */
#ifndef TEST_SUPPORT_H
#define TEST_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

struct rng {
    uint64_t state;
};

/* SplitMix64. */
static inline uint64_t rng_next(struct rng *r)
{
    uint64_t z = (r->state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static inline uint64_t rng_below(struct rng *r, uint64_t n)
{
    return rng_next(r) % n;
}

static inline void rng_fill(struct rng *r, void *out, size_t len)
{
    uint8_t *p = out;
    while (len--)
        *p++ = (uint8_t)rng_next(r);
}

/* A heap copy of exactly len bytes, so that a sanitizer sees a read past its end. */
static inline void *exact_copy(const void *data, size_t len)
{
    void *p = malloc(len ? len : 1);
    assert_non_null(p);
    memcpy(p, data, len);
    return p;
}

#endif
