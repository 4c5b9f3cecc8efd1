#include "latchfs/auditlog.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define CONTEXT "latchaud" /* of crypto_kdf */
enum { KEY_NEXT = 1, KEY_MAC = 2 };

/* A number without leading zeros; returns what follows it, or NULL. */
static const char *number(const char *p, const char *end, uint64_t *out)
{
    uint64_t v = 0;
    const char *start = p;
    for (; p < end && *p >= '0' && *p <= '9'; p++) {
        v = v * 10 + (uint64_t)(*p - '0');
        if (v > AUDIT_SEQ_MAX)
            return NULL;
    }
    if (p == start || (*start == '0' && p - start > 1))
        return NULL;
    *out = v;
    return p;
}

static const char *literal(const char *p, const char *end, const char *text)
{
    size_t n = strlen(text);
    return p && (size_t)(end - p) >= n && memcmp(p, text, n) == 0 ? p + n : NULL;
}

/* Lower case only, so that a record has one form. */
static const char *hex(const char *p, const char *end, uint8_t *out, size_t bytes)
{
    if (!p || (size_t)(end - p) < 2 * bytes)
        return NULL;
    for (size_t i = 0; i < 2 * bytes; i++) {
        char c = p[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return NULL;
        uint8_t v = (uint8_t)(c <= '9' ? c - '0' : c - 'a' + 10);
        out[i / 2] = (uint8_t)(i % 2 ? out[i / 2] | v : v << 4);
    }
    return p + 2 * bytes;
}

static bool printable(const char *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (p[i] < ' ' || p[i] > '~')
            return false;
    return true;
}

/* from..to of a record about missing ones. */
static void read_gap(const char *p, const char *end, struct audit_line *l)
{
    uint64_t from, to;
    p = p ? number(p, end, &from) : NULL;
    p = literal(p, end, ",\"to\":");
    p = p ? number(p, end, &to) : NULL;
    if (!p || from < 1 || to < from || to >= l->seq)
        return;
    l->from = from;
    l->to = to;
}

/* What stands behind the number and the time. */
static void read_act(const char *p, const char *end, struct audit_line *l)
{
    const char *at = literal(p, end, ",\"time\":\"");
    if (!at || end - at < 24)
        return;
    at = literal(at + 24, end, "\",\"act\":\"");
    const char *lost = literal(at, end, "audit-lost\",\"from\":");
    read_gap(lost ? lost : literal(at, end, "alarm\",\"from\":"), end, l);
    l->lost = lost && l->from;
    l->begins = hex(literal(at, end, "audit-begin\",\"chain\":\""), end, l->chain, sizeof l->chain) != NULL;
}

bool audit_line_parse(const char *line, size_t len, struct audit_line *out)
{
    struct audit_line l = {0};
    const char *end = line + len;
    if (len < AUDIT_TAIL_BYTES || len >= AUDIT_LINE_MAX || !printable(line, len))
        return false;
    const char *tail = end - AUDIT_TAIL_BYTES;
    const char *p = literal(line, tail, "{\"seq\":");
    p = p ? number(p, tail, &l.seq) : NULL;
    if (!p || l.seq < 1 || p == tail || *p != ',')
        return false;
    read_act(p, tail, &l);
    tail = hex(literal(tail, end, ",\"prev\":\""), end, l.prev, sizeof l.prev);
    tail = hex(literal(tail, end, "\",\"mac\":\""), end, l.mac, sizeof l.mac);
    if (!literal(tail, end, "\"}"))
        return false;
    *out = l;
    return true;
}

void audit_line_hash(const char *line, size_t len, uint8_t hash[static AUDIT_HASH_BYTES])
{
    crypto_generichash(hash, AUDIT_HASH_BYTES, (const uint8_t *)line, len, NULL, 0);
}

void audit_line_mac(const uint8_t chain_key[static LFS_KEY_BYTES], const char *line, size_t covered,
                    uint8_t mac[static AUDIT_HASH_BYTES])
{
    uint8_t key[LFS_KEY_BYTES];
    crypto_kdf_derive_from_key(key, sizeof key, KEY_MAC, CONTEXT, chain_key);
    crypto_generichash(mac, AUDIT_HASH_BYTES, (const uint8_t *)line, covered, key, sizeof key);
    sodium_memzero(key, sizeof key);
}

void audit_key_next(uint8_t chain_key[static LFS_KEY_BYTES])
{
    uint8_t next[LFS_KEY_BYTES];
    crypto_kdf_derive_from_key(next, sizeof next, KEY_NEXT, CONTEXT, chain_key);
    memcpy(chain_key, next, sizeof next);
    sodium_memzero(next, sizeof next);
}
