#include "latchfs/secret.h"
#include "support.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

static bool all_zero(const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (p[i])
            return false;
    return true;
}

static void test_lengths(void **state)
{
    static const size_t lens[] = {1, 31, 32, 33, 48, 49, 64, 4096, 65535, 65536};
    for (size_t i = 0; i < COUNT(lens); i++) {
        struct secret *s = secret_new(lens[i]);
        assert_non_null(s);
        assert_int_equal(secret_len(s), lens[i]);
        assert_true(all_zero(secret_const(s), lens[i]));
        memset(secret_bytes(s), 0xaa, lens[i]);
        secret_free(s);
    }
    assert_null(secret_new(0));
    assert_null(secret_new(65537));
    secret_free(NULL);
}

static void test_copy_and_equal(void **state)
{
    struct secret *a = secret_new_copy("0123456789abcdef", 16), *b = secret_new_copy("0123456789abcdef", 16);
    struct secret *shorter = secret_new_copy("0123456789abcde", 15);
    assert_memory_equal(secret_const(a), "0123456789abcdef", 16);
    assert_true(secret_equal(a, b));
    assert_false(secret_equal(a, shorter));
    secret_bytes(b)[15] ^= 1;
    assert_false(secret_equal(a, b));
    secret_freep(&a);
    assert_null(a);
    secret_free(b);
    secret_free(shorter);
}

static void test_random_differs(void **state)
{
    struct secret *a = secret_new_random(32), *b = secret_new_random(32);
    assert_false(all_zero(secret_const(a), 32));
    assert_false(secret_equal(a, b));
    secret_free(a);
    secret_free(b);
}

/* The arena is never unmapped, so freed memory may be looked at: it must hold nothing. */
static void test_free_wipes(void **state)
{
    uint8_t *volatile p = locked_alloc(200);
    memset(p, 0x5a, 200);
    locked_free(p);
    assert_true(all_zero(p, 200));
    uint8_t *again = locked_alloc(200);
    assert_true(all_zero(again, 200));
    locked_free(again);
    locked_free(NULL);
}

static void test_child_sees_no_secret(void **state)
{
    struct secret *s = secret_new_copy("never in a child", 16);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(memcmp(secret_const(s), "never in a child", 16) == 0);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    secret_free(s);
}

/* Blocks that live at the same time never overlap: each keeps its own pattern. */
static void *churn(void *arg)
{
    struct rng rng = {(uint64_t)(uintptr_t)arg};
    struct {
        uint8_t *p, fill;
        size_t len;
    } live[32] = {0};
    for (int i = 0; i < 3000; i++) {
        size_t k = rng_below(&rng, COUNT(live));
        for (size_t j = 0; j < live[k].len; j++)
            if (live[k].p[j] != live[k].fill)
                return NULL;
        locked_free(live[k].p);
        live[k].len = 1 + rng_below(&rng, 300);
        live[k].fill = (uint8_t)rng_next(&rng);
        live[k].p = locked_alloc(live[k].len);
        if (!live[k].p)
            return NULL;
        memset(live[k].p, live[k].fill, live[k].len);
    }
    for (size_t k = 0; k < COUNT(live); k++)
        locked_free(live[k].p);
    return arg;
}

static void test_threads_get_separate_blocks(void **state)
{
    pthread_t t[4];
    for (uintptr_t i = 0; i < COUNT(t); i++)
        assert_int_equal(pthread_create(&t[i], NULL, churn, (void *)(i + 1)), 0);
    for (uintptr_t i = 0; i < COUNT(t); i++) {
        void *result;
        assert_int_equal(pthread_join(t[i], &result), 0);
        assert_ptr_equal(result, (void *)(i + 1));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_copy_and_equal),
        cmocka_unit_test(test_random_differs),
        cmocka_unit_test(test_free_wipes),
        cmocka_unit_test(test_child_sees_no_secret),
        cmocka_unit_test(test_threads_get_separate_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
