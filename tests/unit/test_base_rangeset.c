#include "latchfs/rangeset.h"
#include "support.h"

#define SPACE 600

/* Sorted, disjoint, not touching, not empty. */
static void check_shape(const struct rangeset *s)
{
    for (size_t i = 0; i < s->n; i++) {
        assert_true(s->r[i].lo < s->r[i].hi);
        if (i > 0)
            assert_true(s->r[i - 1].hi < s->r[i].lo);
    }
}

static void check_against(const struct rangeset *s, const bool *model)
{
    check_shape(s);
    for (size_t v = 0; v < SPACE; v++)
        assert_int_equal(rangeset_has(s, v), model[v]);
}

static bool model_meets(const bool *model, size_t lo, size_t hi)
{
    for (; lo < hi; lo++)
        if (model[lo])
            return true;
    return false;
}

static void one_step(struct rng *rng, struct rangeset *s, bool *model)
{
    size_t lo = rng_below(rng, SPACE), hi = lo + rng_below(rng, 1 + rng_below(rng, 60));
    hi = hi > SPACE ? SPACE : hi;
    bool adding = rng_below(rng, 5) < 3;
    assert_int_equal((adding ? rangeset_add : rangeset_remove)(s, lo, hi), 0);
    for (size_t v = lo; v < hi; v++)
        model[v] = adding;
    lo = rng_below(rng, SPACE);
    hi = lo + rng_below(rng, SPACE - lo);
    assert_int_equal(rangeset_meets(s, lo, hi), model_meets(model, lo, hi));
}

static void test_against_naive_model(void **state)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct rng rng = {seed};
        struct rangeset s = {.exact = seed % 2};
        bool model[SPACE] = {false};
        for (int i = 0; i < 300; i++) {
            one_step(&rng, &s, model);
            check_against(&s, model);
        }
        rangeset_clear(&s);
        assert_int_equal(s.n, 0);
        assert_false(rangeset_has(&s, 1));
    }
}

static void test_merge(void **state)
{
    struct rangeset a = {0}, b = {0};
    bool model[SPACE] = {false};
    struct rng rng = {77};
    for (int i = 0; i < 20; i++) {
        size_t lo = rng_below(&rng, SPACE - 20), hi = lo + 1 + rng_below(&rng, 20);
        assert_int_equal(rangeset_add(i % 2 ? &a : &b, lo, hi), 0);
        for (size_t v = lo; v < hi; v++)
            model[v] = true;
    }
    assert_int_equal(rangeset_merge(&a, &b), 0);
    check_against(&a, model);
    rangeset_clear(&a);
    rangeset_clear(&b);
}

static void test_ends_of_the_space(void **state)
{
    struct rangeset s = {0};
    assert_int_equal(rangeset_add(&s, 5, 5), 0); /* empty: nothing */
    assert_int_equal(s.n, 0);
    assert_int_equal(rangeset_add(&s, 0, 1), 0);
    assert_int_equal(rangeset_add(&s, UINT64_MAX - 1, UINT64_MAX), 0);
    assert_true(rangeset_has(&s, 0));
    assert_true(rangeset_has(&s, UINT64_MAX - 1));
    assert_false(rangeset_has(&s, UINT64_MAX));
    assert_int_equal(rangeset_remove(&s, 0, UINT64_MAX), 0);
    assert_int_equal(s.n, 0);
    rangeset_clear(&s);
}

/* Past the limit a set may grow, never shrink; an exact one does neither. */
static void test_coalescing(void **state)
{
    struct rangeset loose = {0}, exact = {.exact = true};
    const uint64_t count = RANGESET_MAX + 500;
    for (uint64_t i = 0; i < count; i++) {
        assert_int_equal(rangeset_add(&loose, i * 10, i * 10 + 3 + i % 2), 0);
        assert_int_equal(rangeset_add(&exact, i * 10, i * 10 + 3 + i % 2), 0);
    }
    assert_true(loose.n <= RANGESET_MAX);
    assert_int_equal(exact.n, count);
    check_shape(&loose);
    for (uint64_t i = 0; i < count; i++) {
        assert_true(rangeset_has(&loose, i * 10 + 2));
        assert_false(rangeset_has(&exact, i * 10 + 5));
    }
    assert_false(rangeset_has(&loose, count * 10));
    assert_int_equal(rangeset_end(&exact, 11), 14);
    assert_int_equal(rangeset_end(&exact, 14), 14);
    rangeset_clear(&loose);
    rangeset_clear(&exact);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_naive_model),
        cmocka_unit_test(test_merge),
        cmocka_unit_test(test_ends_of_the_space),
        cmocka_unit_test(test_coalescing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
