/* The printable recovery key. */
#include "keyd_support.h"

#include "recovery.h"

#define TEXT (RECOVERY_TEXT_BYTES - 1)

static const uint8_t key[LFS_KEY_BYTES] = {0x00, 0x44, 0x32, 0x14, 0xc7, 0x42, 0x54, 0xb6, 0x35, 0xcf, 0x84,
                                           0x65, 0x3a, 0x56, 0xd7, 0xc6, 0x75, 0xbe, 0x77, 0xdf, 0x80, 0x0a,
                                           0x55, 0xaa, 0x33, 0xcc, 0x0f, 0xf0, 0x12, 0x34, 0x56, 0x79};
/* Computed apart from the code, by docs/FORMAT.md. */
static const char text[] = "01237-4567K-89ABE-CDEFY-GHJKN-MNPQ1-RSTVW-WXYZ4-G055T-BAHKW-SG7ZH-04HMA-ASWGG";

static int parse(const char *s, uint8_t out[static LFS_KEY_BYTES], struct key_why *why)
{
    struct secret *t = secret_new_copy(s, strlen(s));
    why->text[0] = '\0';
    int r = recovery_parse(t, out, why);
    secret_free(t);
    return r;
}

static void expect_group(const char *s, unsigned group)
{
    struct key_why why;
    uint8_t out[LFS_KEY_BYTES];
    char want[40];
    snprintf(want, sizeof want, "group %u of ", group);
    assert_int_equal(parse(s, out, &why), LFS_ERR_PASSPHRASE);
    if (strncmp(why.text, want, strlen(want)) != 0)
        fail_msg("%s: %s", s, why.text);
}

static void known_answer(void **state)
{
    struct secret *s = recovery_format(key);
    struct key_why why;
    uint8_t out[LFS_KEY_BYTES];
    assert_int_equal(secret_len(s), sizeof text);
    assert_string_equal((const char *)secret_const(s), text);
    assert_int_equal(parse(text, out, &why), 0);
    assert_memory_equal(out, key, sizeof key);
    secret_free(s);
}

static void round_trips(void **state)
{
    struct rng rng = {7};
    for (int i = 0; i < 500; i++) {
        uint8_t in[LFS_KEY_BYTES], out[LFS_KEY_BYTES];
        struct key_why why = {""};
        rng_fill(&rng, in, sizeof in);
        struct secret *s = recovery_format(in);
        assert_int_equal(recovery_parse(s, out, &why), 0);
        assert_memory_equal(in, out, sizeof in);
        secret_free(s);
    }
}

static void every_wrong_character_is_named(void **state)
{
    static const char alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    for (unsigned i = 0; i < TEXT; i++) {
        char wrong[sizeof text];
        memcpy(wrong, text, sizeof text);
        if (text[i] == '-')
            continue;
        for (const char *c = alphabet; *c; c++) {
            wrong[i] = *c;
            if (*c != text[i])
                expect_group(wrong, i / 6 + 1);
        }
    }
}

static void exchanged_characters_are_named(void **state)
{
    for (unsigned i = 0; i + 1 < TEXT; i++) {
        for (unsigned j = i + 1; j < TEXT && text[j] != '-'; j++) {
            char wrong[sizeof text];
            memcpy(wrong, text, sizeof text);
            wrong[i] = text[j];
            wrong[j] = text[i];
            if (text[i] != text[j] && text[i] != '-')
                expect_group(wrong, i / 6 + 1);
        }
    }
}

static void exchanged_groups_are_named(void **state)
{
    for (unsigned a = 0; a < RECOVERY_GROUPS; a++) {
        for (unsigned b = a + 1; b < RECOVERY_GROUPS; b++) {
            char wrong[sizeof text];
            memcpy(wrong, text, sizeof text);
            memcpy(wrong + a * 6, text + b * 6, 5);
            memcpy(wrong + b * 6, text + a * 6, 5);
            expect_group(wrong, a + 1);
        }
    }
}

static void lengths(void **state)
{
    struct key_why why;
    uint8_t out[LFS_KEY_BYTES];
    char cut[sizeof text], more[sizeof text + 1];
    memcpy(cut, text, sizeof text);
    cut[TEXT - 1] = '\0';
    assert_int_equal(parse(cut, out, &why), LFS_ERR_PASSPHRASE);
    assert_string_equal(why.text, "the recovery key has 64 characters instead of 65");
    snprintf(more, sizeof more, "%sA", text);
    assert_int_equal(parse(more, out, &why), LFS_ERR_PASSPHRASE);
    assert_string_equal(why.text, "the recovery key has 66 characters instead of 65");
    expect_group(text + 1, 1);
    expect_group("?", 1);
}

static void what_people_type(void **state)
{
    struct key_why why;
    uint8_t out[LFS_KEY_BYTES];
    char typed[2 * sizeof text] = "", *to = typed;
    for (const char *c = text; *c; c++) {
        *to++ = *c == '-' ? ' ' : *c == '0' ? 'o' : *c == '1' ? 'l' : *c >= 'A' ? (char)(*c + 32) : *c;
        if (*c == '-')
            *to++ = ' ';
    }
    *to++ = '\n';
    assert_int_equal(parse(typed, out, &why), 0);
    assert_memory_equal(out, key, sizeof key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answer),
        cmocka_unit_test(round_trips),
        cmocka_unit_test(every_wrong_character_is_named),
        cmocka_unit_test(exchanged_characters_are_named),
        cmocka_unit_test(exchanged_groups_are_named),
        cmocka_unit_test(lengths),
        cmocka_unit_test(what_people_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
