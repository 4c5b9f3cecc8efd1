#include "keytext.h"

#include "latchfs/secret.h"

#include <string.h>

#define GROUP 5u /* four digits and their check */
#define SYMBOLS (KEYTEXT_GROUPS * GROUP)

static const char digits[] = "0123456789abcdef";

/* Twice v in GF(16), x^4 + x + 1. */
static uint8_t twice(uint8_t v)
{
    return (uint8_t)((v << 1) ^ (v & 8 ? 0x13 : 0)) & 15;
}

/* A weight of its own for each place catches any one wrong digit and any two exchanged ones; the group's
 * number catches exchanged groups. */
static uint8_t check_of(const uint8_t *four, unsigned group)
{
    uint8_t sum = 0;
    for (unsigned i = 0; i < GROUP - 1; i++)
        sum = twice(sum ^ four[i]);
    return sum ^ (uint8_t)group;
}

void keytext_format(const uint8_t key[static KEYTEXT_KEY], char out[static KEYTEXT_CHARS])
{
    for (unsigned g = 0; g < KEYTEXT_GROUPS; g++) {
        const uint8_t *b = key + (size_t)g * 2;
        uint8_t four[] = {b[0] >> 4, b[0] & 15, b[1] >> 4, b[1] & 15};
        char *to = out + (size_t)g * (GROUP + 1);
        for (unsigned i = 0; i < GROUP - 1; i++)
            to[i] = digits[four[i]];
        to[GROUP - 1] = digits[check_of(four, g)];
        if (g + 1 < KEYTEXT_GROUPS)
            to[GROUP] = '-';
    }
}

static int digit_of(char c)
{
    if (c >= 'A' && c <= 'F')
        c = (char)(c - 'A' + 'a');
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

static int read_symbols(const char *text, size_t len, uint8_t sym[static SYMBOLS])
{
    unsigned n = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '-' || text[i] == ' ')
            continue;
        int v = digit_of(text[i]);
        if (n == SYMBOLS)
            return -1;
        if (v < 0)
            return (int)(n / GROUP + 1);
        sym[n++] = (uint8_t)v;
    }
    /* A digit left out spoils its group, too, and naming that one helps more. */
    for (unsigned g = 0; (g + 1) * GROUP <= n; g++)
        if (check_of(sym + (size_t)g * GROUP, g) != sym[g * GROUP + GROUP - 1])
            return (int)(g + 1);
    return n == SYMBOLS ? 0 : -1;
}

int keytext_parse(const char *text, size_t len, uint8_t key[static KEYTEXT_KEY])
{
    uint8_t *sym = locked_alloc(SYMBOLS);
    int r = sym ? read_symbols(text, len, sym) : -1;
    for (unsigned g = 0; !r && g < KEYTEXT_GROUPS; g++) {
        const uint8_t *s = sym + (size_t)g * GROUP;
        key[g * 2] = (uint8_t)(s[0] << 4 | s[1]);
        key[g * 2 + 1] = (uint8_t)(s[2] << 4 | s[3]);
    }
    locked_free(sym);
    return r;
}
