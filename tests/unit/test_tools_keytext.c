/* The text of recipients' keys: known answers, and every small typing error named by its group. */
#include "support.h"

#include "tools/keytext.h"

/* The check digits were worked out apart from this code: a digit has the weight x^4, x^3, x^2 or x in GF(16)
 * with x^4 + x + 1, and the group's number (from 0) is added. */
static const struct {
    uint8_t first, step;
    const char *text;
} known[] = {
    {0x00, 0,
     "00000-00001-00002-00003-00004-00005-00006-00007-00008-00009-0000a-0000b-0000c-0000d-0000e-0000f"},
    {0x00, 1,
     "00012-02034-0405e-06078-08099-0a0bf-0c0d5-0e0f3-1011d-1213b-14151-16177-18196-1a1b0-1c1da-1e1fc"},
    {0xff, 0,
     "ffff7-ffff6-ffff5-ffff4-ffff3-ffff2-ffff1-ffff0-fffff-ffffe-ffffd-ffffc-ffffb-ffffa-ffff9-ffff8"},
};
enum { KNOWN = sizeof known / sizeof known[0] };

static void fill(int which, uint8_t key[static KEYTEXT_KEY])
{
    for (unsigned i = 0; i < KEYTEXT_KEY; i++)
        key[i] = (uint8_t)(known[which].first + i * known[which].step);
}

static int parse(const char *text)
{
    uint8_t key[KEYTEXT_KEY];
    return keytext_parse(text, strlen(text), key);
}

static void test_known_answers(void **state)
{
    for (int i = 0; i < KNOWN; i++) {
        uint8_t key[KEYTEXT_KEY], back[KEYTEXT_KEY] = {0};
        char text[KEYTEXT_CHARS + 1] = "";
        fill(i, key);
        keytext_format(key, text);
        assert_string_equal(text, known[i].text);
        assert_int_equal(keytext_parse(text, KEYTEXT_CHARS, back), 0);
        assert_memory_equal(back, key, sizeof key);
    }
}

static void test_other_spellings(void **state)
{
    char text[KEYTEXT_CHARS + 1];
    strcpy(text, known[1].text);
    for (char *p = text; *p; p++)
        *p = *p == '-' ? ' ' : *p >= 'a' ? (char)(*p - 'a' + 'A') : *p;
    assert_int_equal(parse(text), 0);
}

static void test_every_wrong_digit(void **state)
{
    for (unsigned at = 0; at < KEYTEXT_CHARS; at++) {
        char text[KEYTEXT_CHARS + 1];
        strcpy(text, known[1].text);
        for (int c = 1; c < 128 && text[at] != '-'; c++) {
            if (c == known[1].text[at] || c == '-' || c == ' ' || (c >= 'A' && c <= 'F'))
                continue;
            text[at] = (char)c;
            assert_int_equal(parse(text), at / 6 + 1);
            text[at] = known[1].text[at];
        }
    }
}

static void test_exchanged_digits_and_groups(void **state)
{
    for (unsigned g = 0; g < KEYTEXT_GROUPS; g++) {
        char text[KEYTEXT_CHARS + 1], kept[5];
        for (unsigned a = 0; a < 5; a++) {
            for (unsigned b = 0; b < a; b++) {
                strcpy(text, known[1].text);
                text[g * 6 + a] = known[1].text[g * 6 + b];
                text[g * 6 + b] = known[1].text[g * 6 + a];
                if (text[g * 6 + a] != text[g * 6 + b])
                    assert_int_equal(parse(text), g + 1);
            }
        }
        for (unsigned h = 0; h < g; h++) {
            strcpy(text, known[1].text);
            memcpy(kept, text + g * 6, 5);
            memcpy(text + g * 6, text + h * 6, 5);
            memcpy(text + h * 6, kept, 5);
            assert_int_equal(parse(text), h + 1);
        }
    }
}

static void test_lengths(void **state)
{
    uint8_t key[KEYTEXT_KEY];
    char text[KEYTEXT_CHARS + 2];
    for (size_t len = 0; len < KEYTEXT_CHARS; len++)
        assert_int_not_equal(keytext_parse(known[1].text, len, key), 0);
    snprintf(text, sizeof text, "%s0", known[1].text);
    assert_int_equal(parse(text), -1);
    assert_int_equal(parse(""), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),     cmocka_unit_test(test_other_spellings),
        cmocka_unit_test(test_every_wrong_digit), cmocka_unit_test(test_exchanged_digits_and_groups),
        cmocka_unit_test(test_lengths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
