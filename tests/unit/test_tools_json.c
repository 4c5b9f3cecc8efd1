/* The reader of our daemons' status texts. */
#include "support.h"

#include "tools/json_read.h"

static const char sample[] = "{ \"a\" : 1, \"b\":\"x\\\"\\u00ff\\n\", \"list\":[ 1, {\"a\":true} ,[], \"\" ],"
                             "\"ab\":false,\"empty\":{},\"nest\":{\"a\":-7}}";

static struct json_value whole(void)
{
    return json_read(sample, strlen(sample));
}

static void test_members(void **state)
{
    char text[16];
    assert_int_equal(json_value_number(json_read_get(whole(), "a"), 0), 1);
    assert_int_equal(json_value_number(json_read_get(json_read_get(whole(), "nest"), "a"), 0), -7);
    assert_string_equal(json_value_string(json_read_get(whole(), "b"), text, sizeof text), "x\"\xff\n");
    assert_string_equal(json_value_string(json_read_get(whole(), "b"), text, 3), "x\"");
    assert_string_equal(json_value_string(json_read_get(whole(), "a"), text, sizeof text), "");
    assert_false(json_value_there(json_read_get(whole(), "lis")));
    assert_false(json_value_there(json_read_get(whole(), "c")));
    assert_false(json_value_is_true(json_read_get(whole(), "ab")));
    assert_int_equal(json_value_number(json_read_get(whole(), "b"), 42), 42);
}

static void test_elements(void **state)
{
    struct json_value list = json_read_get(whole(), "list"), v = json_read_next(list, (struct json_value){0});
    assert_int_equal(json_value_number(v, 0), 1);
    v = json_read_next(list, v);
    assert_true(json_value_is_true(json_read_get(v, "a")));
    v = json_read_next(list, v);
    assert_false(json_value_there(json_read_next(v, (struct json_value){0})));
    v = json_read_next(list, v);
    assert_true(json_value_there(v));
    assert_false(json_value_there(json_read_next(list, v)));
}

static void test_malformed(void **state)
{
    static const char *const bad[] = {
        "",        " ",        "{",     "}",   "[1",    "[1,]", "[1 2]",
        "{\"a\"}", "{\"a\":}", "{a:1}", "\"x", "\"x\\", "1 2",  "{\"a\":1}x",
    };
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_false(json_value_there(json_read(bad[i], strlen(bad[i]))));
    char deep[200];
    memset(deep, '[', 100);
    memset(deep + 100, ']', 100);
    assert_false(json_value_there(json_read(deep, sizeof deep)));
}

static void visit(struct json_value v, int depth)
{
    char text[8];
    json_value_number(v, 0);
    json_value_string(v, text, sizeof text);
    json_read_get(v, "a");
    if (depth < 8)
        for (struct json_value e = json_read_next(v, (struct json_value){0}); json_value_there(e);
             e = json_read_next(v, e))
            visit(e, depth + 1);
}

/* Under a sanitizer this tells a read behind the end: the copy has exactly the length of the text. */
static void test_hostile(void **state)
{
    struct rng r = {1};
    for (int i = 0; i < 20000; i++) {
        size_t len = sizeof sample - 1 - (i % 3 ? 0 : rng_next(&r) % (sizeof sample - 1));
        char *copy = malloc(len);
        assert_non_null(copy);
        memcpy(copy, sample, len);
        for (int k = 0; k < i % 4; k++)
            copy[rng_next(&r) % len] ^= (char)(1u << rng_next(&r) % 8);
        struct json_value v = json_read(copy, len);
        visit(v, 0);
        visit(json_read_get(v, "list"), 0);
        free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_elements),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_hostile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
