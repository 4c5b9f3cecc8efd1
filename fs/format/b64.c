#include "latchfs/name.h"

#include "latchfs/err.h"

static const char alphabet[64] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

size_t b64_encode(const void *data, size_t len, char *out)
{
    const uint8_t *p = data;
    char *o = out;
    for (; len >= 3; p += 3, len -= 3) {
        uint32_t v = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
        *o++ = alphabet[v >> 18];
        *o++ = alphabet[v >> 12 & 63];
        *o++ = alphabet[v >> 6 & 63];
        *o++ = alphabet[v & 63];
    }
    if (len > 0) {
        uint32_t v = (uint32_t)p[0] << 16 | (len == 2 ? (uint32_t)p[1] << 8 : 0);
        *o++ = alphabet[v >> 18];
        *o++ = alphabet[v >> 12 & 63];
        if (len == 2)
            *o++ = alphabet[v >> 6 & 63];
    }
    *o = '\0';
    return (size_t)(o - out);
}

/* What a character stands for, and one more; 0: nothing. What is decoded is no secret. */
static const uint8_t places[256] = {
    ['A'] = 1,  ['B'] = 2,  ['C'] = 3,  ['D'] = 4,  ['E'] = 5,  ['F'] = 6,  ['G'] = 7,  ['H'] = 8,
    ['I'] = 9,  ['J'] = 10, ['K'] = 11, ['L'] = 12, ['M'] = 13, ['N'] = 14, ['O'] = 15, ['P'] = 16,
    ['Q'] = 17, ['R'] = 18, ['S'] = 19, ['T'] = 20, ['U'] = 21, ['V'] = 22, ['W'] = 23, ['X'] = 24,
    ['Y'] = 25, ['Z'] = 26, ['a'] = 27, ['b'] = 28, ['c'] = 29, ['d'] = 30, ['e'] = 31, ['f'] = 32,
    ['g'] = 33, ['h'] = 34, ['i'] = 35, ['j'] = 36, ['k'] = 37, ['l'] = 38, ['m'] = 39, ['n'] = 40,
    ['o'] = 41, ['p'] = 42, ['q'] = 43, ['r'] = 44, ['s'] = 45, ['t'] = 46, ['u'] = 47, ['v'] = 48,
    ['w'] = 49, ['x'] = 50, ['y'] = 51, ['z'] = 52, ['0'] = 53, ['1'] = 54, ['2'] = 55, ['3'] = 56,
    ['4'] = 57, ['5'] = 58, ['6'] = 59, ['7'] = 60, ['8'] = 61, ['9'] = 62, ['-'] = 63, ['_'] = 64,
};

static int value_of(char c)
{
    return places[(uint8_t)c] - 1;
}

bool b64_is_whole(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (value_of(text[i]) < 0)
            return false;
    switch (len % 4) {
    case 0:
        return true;
    case 1:
        return false;
    case 2:
        return (value_of(text[len - 1]) & 15) == 0;
    default:
        return (value_of(text[len - 1]) & 3) == 0;
    }
}

static uint32_t bits_of(const char *text, size_t len)
{
    uint32_t v = 0;
    for (size_t i = 0; i < len; i++)
        v = v << 6 | (uint32_t)value_of(text[i]);
    return v;
}

int b64_decode(const char *text, size_t len, uint8_t *out, size_t *out_len)
{
    if (!b64_is_whole(text, len))
        return LFS_ERR_CORRUPT;
    uint8_t *o = out;
    for (; len >= 4; text += 4, len -= 4) {
        uint32_t v = bits_of(text, 4);
        *o++ = (uint8_t)(v >> 16);
        *o++ = (uint8_t)(v >> 8);
        *o++ = (uint8_t)v;
    }
    if (len > 1) {
        uint32_t v = bits_of(text, len) << 6 * (4 - len);
        *o++ = (uint8_t)(v >> 16);
        if (len > 2)
            *o++ = (uint8_t)(v >> 8);
    }
    *out_len = (size_t)(o - out);
    return 0;
}
