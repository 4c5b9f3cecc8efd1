#include "show_name.h"

#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

/* Length of the well-formed UTF-8 character at p, 0 if there is none. *c gets it. */
static int utf8_char(const unsigned char *p, uint32_t *c)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    int n = p[0] < 0x80             ? 1
            : (p[0] & 0xe0) == 0xc0 ? 2
            : (p[0] & 0xf0) == 0xe0 ? 3
            : (p[0] & 0xf8) == 0xf0 ? 4
                                    : 0;
    if (!n)
        return 0;
    *c = n == 1 ? p[0] : p[0] & (0x7fu >> n);
    for (int i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        *c = *c << 6 | (p[i] & 0x3f);
    }
    return *c < least[n] || *c > 0x10ffff || (*c >= 0xd800 && *c < 0xe000) ? 0 : n;
}

/* Controls, and the marks that turn the direction of text. */
static bool steers(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 || c == 0x200e || c == 0x200f ||
           (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

void show_name(const char *name, FILE *f)
{
    uint32_t c = 0;
    if (!isatty(fileno(f))) {
        fputs(name, f);
        return;
    }
    for (const unsigned char *p = (const unsigned char *)name; *p;) {
        int n = utf8_char(p, &c);
        bool plain = n && !steers(c) && c != '\\';
        for (int i = 0; i < (n ? n : 1); i++, p++) {
            if (plain)
                fputc(*p, f);
            else
                fprintf(f, "\\x%02x", *p);
        }
    }
}
