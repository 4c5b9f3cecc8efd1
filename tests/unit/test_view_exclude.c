#include "fs/view/exclude.h"
#include "latchfs/err.h"
#include "support.h"

#include <stdlib.h>
#include <unistd.h>

static const struct {
    const char *pattern, *path;
    bool dir, fits;
} cases[] = {
    {"*.o", "a.o", false, true},
    {"*.o", "deep/in/a.o", false, true},
    {"*.o", "a.o.txt", false, false},
    {".cache", "home/.cache", true, true},
    {"cache/", "x/cache", true, true},
    {"cache/", "x/cache", false, false},
    {"/build", "build", true, true},
    {"/build", "x/build", true, false},
    {"x/build", "x/build", false, true},
    {"x/build", "y/x/build", false, false},
    {"x/*", "x/y", false, true},
    {"x/*", "x/y/z", false, false}, /* never asked: x/y is left out with all in it */
    {"x/*/", "x/y", true, true},
    {"?", "\xff", false, true},
    {"[ab]", "b", false, true},
    {"\\*", "*", false, true},
    {"\\*", "a", false, false},
    {".*", ".hidden", false, true},
};

static void test_patterns(void **state)
{
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct exclude *list = NULL;
        assert_int_equal(exclude_add(&list, cases[i].pattern), 0);
        assert_int_equal(exclude_fits(list, cases[i].path, cases[i].dir), cases[i].fits);
        exclude_free(list);
    }
}

static void test_several(void **state)
{
    struct exclude *list = NULL;
    assert_false(exclude_fits(NULL, "a", false));
    assert_int_equal(exclude_add(&list, "a"), 0);
    assert_int_equal(exclude_add(&list, "b"), 0);
    assert_true(exclude_fits(list, "a", false));
    assert_true(exclude_fits(list, "b", true));
    assert_false(exclude_fits(list, "c", false));
    exclude_free(list);
}

static void test_refused(void **state)
{
    static const char *const bad[] = {"",     "/",   "//",   "!x",  "a/**/b", "**",
                                      "a//b", "//a", "../x", "./x", "a/.",    "."};
    struct exclude *list = NULL;
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_int_equal(exclude_add(&list, bad[i]), LFS_ERR_MISUSE);
    assert_null(list);
}

static int add_text(struct exclude **list, const char *text, unsigned *line)
{
    char path[] = "/tmp/latchfs-exclude-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    int r = exclude_add_file(list, path, line);
    unlink(path);
    return r;
}

static void test_file(void **state)
{
    struct exclude *list = NULL;
    unsigned line;
    assert_int_equal(add_text(&list, "# comment\n\n*.o\n/build", &line), 0);
    assert_true(exclude_fits(list, "x/a.o", false) && exclude_fits(list, "build", true));
    assert_false(exclude_fits(list, "# comment", false));
    assert_int_equal(add_text(&list, "x\n\n!y\nz\n", &line), LFS_ERR_MISUSE);
    assert_int_equal(line, 3);
    assert_true(exclude_add_file(&list, "/nonexistent", &line) < 0);
    assert_int_equal(line, 0);
    exclude_free(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_several),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
