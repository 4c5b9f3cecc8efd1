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

static int value_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

/* Whether decoding would succeed: the alphabet only, no lone last character, no bits left over. */
static bool well_formed(const char *text, size_t len)
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

int b64_decode(const char *text, size_t len, uint8_t *out, size_t *out_len)
{
    if (!well_formed(text, len))
        return LFS_ERR_CORRUPT;
    uint8_t *o = out;
    uint32_t v = 0;
    unsigned bits = 0;
    for (size_t i = 0; i < len; i++) {
        v = v << 6 | (uint32_t)value_of(text[i]);
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            *o++ = (uint8_t)(v >> bits);
        }
    }
    *out_len = (size_t)(o - out);
    return 0;
}
