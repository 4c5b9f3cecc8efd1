#include "fs/mount/options.h"
#include "latchfs/err.h"
#include "support.h"

#include <errno.h>

static char error[256];

/* Parses up to six words after the program's name. */
static int parse(struct options *o, bool privileged, const char *const words[6])
{
    char *argv[8] = {(char *)(uintptr_t) "latchfs"};
    int argc = 1;
    for (int i = 0; i < 6 && words[i]; i++)
        argv[argc++] = (char *)(uintptr_t)words[i];
    memset(o, 0x5a, sizeof *o);
    return options_parse(argc, argv, privileged, o, error, sizeof error);
}
#define PARSE(o, privileged, ...) parse(o, privileged, (const char *const[6]){__VA_ARGS__})

static void test_words_and_defaults(void **state)
{
    struct options o;
    assert_int_equal(PARSE(&o, false, "vol", "mnt"), 0);
    assert_int_equal(o.act, OPTIONS_MOUNT);
    assert_string_equal(o.volume, "vol");
    assert_string_equal(o.mountpoint, "mnt");
    assert_false(o.allow_other || o.foreground || o.read_only || o.writethrough || o.nonempty ||
                 o.ignore_journal);
    assert_string_equal(o.kernel, "");
    assert_int_equal(o.unlock, UNLOCK_NOT);
    assert_null(o.unlock_with);
    assert_null(o.keyd_socket);
    assert_null(o.fsname);
    options_clear(&o);
}

static void test_root_defaults(void **state)
{
    struct options o;
    assert_int_equal(PARSE(&o, true, "vol", "mnt", "-o", "nosuid"), 0);
    assert_true(o.allow_other);
    assert_string_equal(o.kernel, "nosuid");
    options_clear(&o);
    assert_int_equal(PARSE(&o, true, "vol", "mnt", "-ono_allow_other"), 0);
    assert_false(o.allow_other);
    options_clear(&o);
}

static void test_own_options(void **state)
{
    struct options o;
    assert_int_equal(PARSE(&o, false, "-o", "writethrough,nonempty,,ignore-journal", "-f", "vol", "mnt",
                           "-oallow_other,ro,keyd-socket=/s,fsname=n"),
                     0);
    assert_true(o.writethrough && o.nonempty && o.ignore_journal && o.allow_other && o.read_only &&
                o.foreground);
    assert_string_equal(o.keyd_socket, "/s");
    assert_string_equal(o.fsname, "n");
    assert_int_equal(o.seal_seconds, 0);
    assert_false(o.bench_bypass);
    assert_string_equal(o.kernel, "ro");
    options_clear(&o);
}

static void test_seal_seconds(void **state)
{
    static const char *const refused[] = {"seal-seconds=0",     "seal-seconds=",   "seal-seconds=-1",
                                          "seal-seconds=5s",    "seal-seconds=+1", "seal-seconds= 1",
                                          "seal-seconds=86401", "seal-seconds"};
    struct options o;
    assert_int_equal(PARSE(&o, false, "vol", "mnt", "-o", "seal-seconds=86400"), 0);
    assert_int_equal(o.seal_seconds, 86400);
    options_clear(&o);
    for (size_t i = 0; i < COUNT(refused); i++)
        assert_int_equal(PARSE(&o, false, "vol", "mnt", "-o", refused[i]), LFS_ERR_MISUSE);
}

static void test_read_only_follows_the_last_word(void **state)
{
    struct options o;
    assert_int_equal(PARSE(&o, false, "vol", "mnt", "-o", "ro,rw"), 0);
    assert_false(o.read_only);
    assert_string_equal(o.kernel, "ro,rw");
    options_clear(&o);
}

static void test_unlock_withs(void **state)
{
    static const struct {
        const char *word;
        enum options_unlock how;
    } cases[] = {
        {"passphrase-file=/a b", UNLOCK_PASSPHRASE_FILE},
        {"keyfile=/a b", UNLOCK_KEYFILE},
        {"recovery-file=/a b", UNLOCK_RECOVERY_FILE},
        {"identity=/a b", UNLOCK_IDENTITY},
        {"command=/a b", UNLOCK_COMMAND}, /* latch says what a name may be */
    };
    struct options o;
    for (size_t i = 0; i < COUNT(cases); i++) {
        assert_int_equal(PARSE(&o, false, "vol", "mnt", "-o", cases[i].word), 0);
        assert_int_equal(o.unlock, cases[i].how);
        assert_string_equal(o.unlock_with, "/a b");
        options_clear(&o);
    }
}

static void test_escaped_comma(void **state)
{
    struct options o;
    assert_int_equal(PARSE(&o, false, "vol", "mnt", "-o", "passphrase-file=/a\\,b\\\\c,ro"), 0);
    assert_string_equal(o.unlock_with, "/a,b\\c");
    assert_true(o.read_only);
    options_clear(&o);
}

static void test_fstab_noise_is_ignored(void **state)
{
    struct options o;
    assert_int_equal(PARSE(&o, false, "vol", "mnt", "-o",
                           "defaults,_netdev,nofail,auto,noauto,user,user=me,users,x-systemd.requires=a,X-b,"
                           "comment=c,relatime,uhelper=u"),
                     0);
    assert_string_equal(o.kernel, "");
    options_clear(&o);
}

static void test_refused(void **state)
{
    static const struct {
        const char *words[6];
        const char *tells;
    } cases[] = {
        {{NULL}, "VOLUME"},
        {{"vol"}, "MOUNTPOINT"},
        {{"vol", "mnt", "more"}, "more"},
        {{"vol", ""}, "empty"},
        {{"vol", "mnt", "-o"}, "-o"},
        {{"vol", "mnt", "-o", "ro,nonsense"}, "nonsense"},
        {{"vol", "mnt", "-o", "nonsense=1"}, "nonsense"},
        {{"vol", "mnt", "-o", "ro=1"}, "ro"},
        {{"vol", "mnt", "-o", "keyfile="}, "keyfile"},
        {{"vol", "mnt", "-o", "keyfile"}, "keyfile"},
        {{"vol", "mnt", "-o", "keyfile=a,recovery-file=b"}, "only one"},
        {{"vol", "mnt", "-o", "identity=a,command=b"}, "only one"},
        {{"vol", "mnt", "-o", "command="}, "needs a value"},
        {{"vol", "mnt", "-x"}, "-x"},
        {{"vol", "mnt", "--nonsense"}, "--nonsense"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct options o, untouched;
        memset(&untouched, 0x5a, sizeof untouched);
        assert_int_equal(parse(&o, false, cases[i].words), LFS_ERR_MISUSE);
        assert_non_null(strstr(error, cases[i].tells));
        assert_memory_equal(&o, &untouched, sizeof o);
    }
}

static void test_help_and_version_need_no_words(void **state)
{
    struct options o;
    assert_int_equal(PARSE(&o, false, "--help"), 0);
    assert_int_equal(o.act, OPTIONS_HELP);
    options_clear(&o);
    assert_int_equal(PARSE(&o, false, "-V"), 0);
    assert_int_equal(o.act, OPTIONS_VERSION);
    options_clear(&o);
}

static void test_double_dash_ends_options(void **state)
{
    struct options o;
    assert_int_equal(PARSE(&o, false, "-o", "ro", "--", "-vol", "-o"), 0);
    assert_string_equal(o.volume, "-vol");
    assert_string_equal(o.mountpoint, "-o");
    options_clear(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_and_defaults),
        cmocka_unit_test(test_root_defaults),
        cmocka_unit_test(test_own_options),
        cmocka_unit_test(test_seal_seconds),
        cmocka_unit_test(test_read_only_follows_the_last_word),
        cmocka_unit_test(test_unlock_withs),
        cmocka_unit_test(test_escaped_comma),
        cmocka_unit_test(test_fstab_noise_is_ignored),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_help_and_version_need_no_words),
        cmocka_unit_test(test_double_dash_ends_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
