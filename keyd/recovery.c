#include "recovery.h"

#include "latchfs/err.h"
#include "slot_type.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#define GROUP 5u
#define SYMBOLS (RECOVERY_GROUPS * GROUP)

static const char alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/* Twice v in GF(32), x^5 + x^2 + 1. */
static uint8_t twice(uint8_t v)
{
    return (uint8_t)((v << 1) ^ (v & 16 ? 0x25 : 0)) & 31;
}

/* Different weight for each place: catches any one wrong character and any two exchanged ones; the group's
 * number catches exchanged groups. */
static uint8_t check_of(const uint8_t *four, unsigned group)
{
    uint8_t sum = 0;
    for (unsigned i = 0; i < GROUP - 1; i++)
        sum = twice(sum ^ four[i]);
    return sum ^ (uint8_t)(group + 1);
}

static void key_to_symbols(const uint8_t key[static LFS_KEY_BYTES], uint8_t sym[static SYMBOLS])
{
    for (unsigned i = 0; i < RECOVERY_GROUPS * 4; i++) {
        unsigned bit = i * 5, at = bit / 8;
        unsigned two = (unsigned)key[at] << 8 | (at + 1 < LFS_KEY_BYTES ? key[at + 1] : 0);
        sym[i / 4 * GROUP + i % 4] = (two >> (11 - bit % 8)) & 31;
    }
    for (unsigned g = 0; g < RECOVERY_GROUPS; g++)
        sym[g * GROUP + 4] = check_of(sym + g * GROUP, g);
}

/* The last symbol carries one bit of the key; its other four are zero. */
static bool symbols_to_key(const uint8_t sym[static SYMBOLS], uint8_t key[static LFS_KEY_BYTES])
{
    memset(key, 0, LFS_KEY_BYTES);
    for (unsigned i = 0; i < RECOVERY_GROUPS * 4; i++) {
        unsigned bit = i * 5, at = bit / 8;
        unsigned two = (unsigned)sym[i / 4 * GROUP + i % 4] << (11 - bit % 8);
        key[at] |= (uint8_t)(two >> 8);
        if (at + 1 < LFS_KEY_BYTES)
            key[at + 1] |= (uint8_t)two;
    }
    return (sym[SYMBOLS - 2] & 15) == 0;
}

struct secret *recovery_format(const uint8_t key[static LFS_KEY_BYTES])
{
    uint8_t *sym = locked_alloc(SYMBOLS);
    struct secret *text = secret_new(RECOVERY_TEXT_BYTES);
    if (sym && text) {
        key_to_symbols(key, sym);
        uint8_t *to = secret_bytes(text);
        for (unsigned i = 0; i < SYMBOLS; i++) {
            if (i && i % GROUP == 0)
                *to++ = '-';
            *to++ = (uint8_t)alphabet[sym[i]];
        }
    } else {
        secret_freep(&text);
    }
    locked_free(sym);
    return text;
}

static int symbol_of(char c)
{
    if (c >= 'a' && c <= 'z')
        c = (char)(c - 'a' + 'A');
    c = c == 'O' ? '0' : c == 'I' || c == 'L' ? '1' : c;
    const char *at = c ? strchr(alphabet, c) : NULL;
    return at ? (int)(at - alphabet) : -1;
}

/* Reads up to SYMBOLS characters; *n counts all that were there. */
static int read_symbols(const struct secret *text, uint8_t sym[static SYMBOLS], unsigned *n,
                        struct key_why *why)
{
    const uint8_t *p = secret_const(text);
    size_t len = secret_len(text);
    *n = 0;
    for (size_t i = 0; i < len && p[i] && p[i] != '\n'; i++) {
        if (p[i] == '-' || p[i] == ' ')
            continue;
        int v = symbol_of((char)p[i]);
        if (v < 0) {
            key_why_set(why, "group %u of the recovery key has a character that no recovery key has",
                        *n / GROUP + 1);
            return LFS_ERR_PASSPHRASE;
        }
        if (*n < SYMBOLS)
            sym[*n] = (uint8_t)v;
        ++*n;
    }
    return 0;
}

static int check_symbols(const uint8_t sym[static SYMBOLS], unsigned n, struct key_why *why)
{
    for (unsigned g = 0; g < RECOVERY_GROUPS && (g + 1) * GROUP <= n; g++) {
        if (check_of(sym + g * GROUP, g) != sym[g * GROUP + 4]) {
            key_why_set(why, "group %u of the recovery key has a typing error", g + 1);
            return LFS_ERR_PASSPHRASE;
        }
    }
    if (n == SYMBOLS)
        return 0;
    key_why_set(why, "the recovery key has %u characters instead of %u", n, SYMBOLS);
    return LFS_ERR_PASSPHRASE;
}

int recovery_parse(const struct secret *text, uint8_t key[static LFS_KEY_BYTES], struct key_why *why)
{
    uint8_t *sym = locked_alloc(SYMBOLS + LFS_KEY_BYTES);
    unsigned n;
    if (!sym)
        return -ENOMEM;
    int r = read_symbols(text, sym, &n, why);
    if (!r)
        r = check_symbols(sym, n, why);
    if (!r && !symbols_to_key(sym, sym + SYMBOLS)) {
        key_why_set(why, "group %u of the recovery key has a typing error", RECOVERY_GROUPS);
        r = LFS_ERR_PASSPHRASE;
    }
    if (!r)
        memcpy(key, sym + SYMBOLS, LFS_KEY_BYTES);
    locked_free(sym);
    return r;
}
