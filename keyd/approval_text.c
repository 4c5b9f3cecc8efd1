#include "approval_text.h"

#include "latchfs/err.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define HEAD "latchfs request for approval, version 1\n"
#define ACT_CHARS 32

size_t approval_text(const struct approval *p, char text[static APPROVAL_TEXT_MAX])
{
    char volume[2 * ID_BYTES + 1], directory[2 * ID_BYTES + 1], nonce[2 * APPROVAL_NONCE_BYTES + 1];
    id_to_hex(p->volume, volume);
    id_to_hex(p->directory, directory);
    sodium_bin2hex(nonce, sizeof nonce, p->nonce, sizeof p->nonce);
    int n = snprintf(text, APPROVAL_TEXT_MAX,
                     HEAD "act: %s\nvolume: %s\ndirectory: %s\nversion: %" PRIu32 "\nforce: %s\n"
                          "requested by uid: %u\ncreated: %" PRId64 "\nexpires: %" PRId64 "\nnonce: %s\n",
                     key_edit_name(p->act), volume, directory, p->version, p->force ? "yes" : "no",
                     (unsigned)p->uid, p->created, p->expires, nonce);
    return (size_t)n;
}

void approval_name(struct approval *p)
{
    char text[APPROVAL_TEXT_MAX];
    uint8_t hash[crypto_generichash_BYTES];
    size_t len = approval_text(p, text);
    crypto_generichash(hash, sizeof hash, (const uint8_t *)text, len, NULL, 0);
    sodium_bin2hex(p->id, sizeof p->id, hash, APPROVAL_ID_CHARS / 2);
}

bool approval_same(const struct approval *a, const struct approval *b)
{
    return a->act == b->act && a->version == b->version && a->force == b->force && a->uid == b->uid &&
           memcmp(a->volume, b->volume, ID_BYTES) == 0 && memcmp(a->directory, b->directory, ID_BYTES) == 0;
}

bool approval_signature_fits(const struct approval *p, const struct approval_signature *s)
{
    char text[APPROVAL_TEXT_MAX];
    size_t len = approval_text(p, text);
    return crypto_sign_verify_detached(s->signature, (const uint8_t *)text, len, s->public_key) == 0;
}

size_t approval_encode(const struct approval *p, char file[static APPROVAL_FILE_MAX])
{
    char key[2 * crypto_sign_PUBLICKEYBYTES + 1], signature[2 * crypto_sign_BYTES + 1];
    size_t at = approval_text(p, file);
    for (unsigned i = 0; i < p->signature_count; i++) {
        const struct approval_signature *s = &p->signatures[i];
        sodium_bin2hex(key, sizeof key, s->public_key, sizeof s->public_key);
        sodium_bin2hex(signature, sizeof signature, s->signature, sizeof s->signature);
        at += (size_t)snprintf(file + at, APPROVAL_FILE_MAX - at, "signature: %s %s uid %u\n", key, signature,
                               (unsigned)s->brought_by);
    }
    return at;
}

/* ---- reading ---- */

static unsigned act_of(const char *name)
{
    for (unsigned op = 1; op <= EDIT_OP_MAX; op++)
        if (key_edit_is_destructive(op) && strcmp(key_edit_name(op), name) == 0)
            return op;
    return 0;
}

static bool unhex(const char *hex, uint8_t *out, size_t len)
{
    size_t got;
    return strlen(hex) == 2 * len && sodium_hex2bin(out, len, hex, 2 * len, NULL, &got, NULL) == 0 &&
           got == len;
}

/* Where the text ends, or 0. What sscanf is lenient about does not encode to the same bytes again. */
static size_t read_text(const char *text, struct approval *p)
{
    char act[ACT_CHARS + 1], volume[33], directory[33], force[4], nonce[33];
    unsigned uid;
    int end = 0;
    if (sscanf(text,
               HEAD "act: %32[a-z-]\nvolume: %32[0-9a-f]\ndirectory: %32[0-9a-f]\nversion: %10" SCNu32
                    "\nforce: %3[a-z]\nrequested by uid: %10u\ncreated: %18" SCNd64 "\nexpires: %18" SCNd64
                    "\nnonce: %32[0-9a-f]\n%n",
               act, volume, directory, &p->version, force, &uid, &p->created, &p->expires, nonce, &end) != 9)
        return 0;
    p->act = act_of(act);
    p->force = strcmp(force, "yes") == 0;
    p->uid = uid;
    bool ok = p->act && id_from_hex(volume, p->volume) && id_from_hex(directory, p->directory) &&
              unhex(nonce, p->nonce, sizeof p->nonce) && p->created >= 0 && p->created < p->expires;
    return ok && end > 0 ? (size_t)end : 0;
}

/* Length of the line, or 0. */
static size_t read_signature(const char *text, struct approval_signature *s)
{
    char key[65], signature[129];
    unsigned uid;
    int end = 0;
    if (sscanf(text, "signature: %64[0-9a-f] %128[0-9a-f] uid %10u\n%n", key, signature, &uid, &end) != 3)
        return 0;
    s->brought_by = uid;
    bool ok = unhex(key, s->public_key, sizeof s->public_key) &&
              unhex(signature, s->signature, sizeof s->signature);
    return ok && end > 0 ? (size_t)end : 0;
}

static int check_signatures(const struct approval *p)
{
    for (unsigned i = 0; i < p->signature_count; i++) {
        if (!approval_signature_fits(p, &p->signatures[i]))
            return LFS_ERR_AUTH;
        for (unsigned k = 0; k < i; k++)
            if (memcmp(p->signatures[k].public_key, p->signatures[i].public_key,
                       sizeof p->signatures[i].public_key) == 0)
                return LFS_ERR_AUTH;
    }
    return 0;
}

int approval_decode(const char *text, size_t len, struct approval *out)
{
    struct approval p = {0};
    char again[APPROVAL_FILE_MAX];
    if (len >= APPROVAL_FILE_MAX || strlen(text) != len)
        return LFS_ERR_CORRUPT;
    size_t at = read_text(text, &p), n = 1;
    for (; at && n && at < len && p.signature_count < APPROVAL_SIGNATURES_MAX; at += n) {
        n = read_signature(text + at, &p.signatures[p.signature_count]);
        p.signature_count += n > 0;
    }
    if (!at || at != len || approval_encode(&p, again) != len || memcmp(again, text, len) != 0)
        return LFS_ERR_CORRUPT;
    int r = check_signatures(&p);
    if (r)
        return r;
    approval_name(&p);
    *out = p;
    return 0;
}
