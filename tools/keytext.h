/* A key of 32 bytes as text that people copy: 16 groups of four hex digits and a check digit each. */
#ifndef TOOLS_KEYTEXT_H
#define TOOLS_KEYTEXT_H

#include <stddef.h>
#include <stdint.h>

#define KEYTEXT_KEY 32u
#define KEYTEXT_GROUPS 16u
#define KEYTEXT_CHARS (KEYTEXT_GROUPS * 6 - 1) /* without a NUL */

/* Writes exactly KEYTEXT_CHARS characters, no NUL. */
void keytext_format(const uint8_t key[static KEYTEXT_KEY], char out[static KEYTEXT_CHARS]);

/* The key in len characters of text; upper and lower case, blanks between groups as good as hyphens. Returns
 * 0, the number of the group (1..) that has a typing error, or -1 for a wrong number of characters. */
int keytext_parse(const char *text, size_t len, uint8_t key[static KEYTEXT_KEY]);

#endif
