/* A whole audit log. The check never says "good" of one that a plain walk finds wanting, nor the other way.
 */
#include "latchfs/auditlog.h"

#include <stdlib.h>
#include <string.h>

#define GAP 1000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every line the next record, in order, with its hash and MAC. */
static bool is_whole(const char *text, size_t len, const uint8_t *first)
{
    uint8_t key[LFS_KEY_BYTES], hash[AUDIT_HASH_BYTES] = {0}, mac[AUDIT_HASH_BYTES];
    struct audit_line l;
    uint64_t seq = 1;
    if (first)
        memcpy(key, first, sizeof key);
    for (const char *end = text + len; text < end; seq++) {
        const char *nl = memchr(text, '\n', (size_t)(end - text));
        size_t n = nl ? (size_t)(nl - text) : 0;
        if (!nl || !audit_line_parse(text, n, &l) || l.seq != seq)
            return false;
        if (seq > 1 && memcmp(l.prev, hash, sizeof hash) != 0)
            return false;
        audit_line_hash(text, n, hash);
        if (first) {
            audit_line_mac(key, text, n - AUDIT_MAC_TAIL_BYTES, mac);
            audit_key_next(key);
            if (memcmp(mac, l.mac, sizeof mac) != 0)
                return false;
        }
        text = nl + 1;
    }
    return true;
}

static void check(const char *text, size_t len, const uint8_t *key, const struct audit_head *head)
{
    struct audit_check in = {.text = text, .len = len, .first_key = key, .head = head, .gap_max = GAP};
    struct audit_verdict v;
    if (audit_check(&in, &v))
        return;
    bool clean = v.count == 0;
    for (size_t i = 0; i < v.count; i++)
        if (v.findings[i].line > v.lines + 1)
            abort();
    audit_verdict_clear(&v);
    if (!head && clean != is_whole(text, len, key))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t key[LFS_KEY_BYTES]; /* of the seeds */
    struct audit_head head = {0};
    char *text = malloc(size ? size : 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    memset(key, 7, sizeof key);
    check(text, size, NULL, NULL);
    check(text, size, key, NULL);
    head.seq = size % 16;
    if (size >= sizeof head.hash)
        memcpy(head.hash, data, sizeof head.hash);
    check(text, size, NULL, &head);
    check(text, size, key, &head);
    free(text);
    return 0;
}
