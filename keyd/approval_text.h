/* One request for approval: the text that is signed, and the file that keeps it. Both are canonical: what
 * decodes encodes to the same bytes. */
#ifndef KEYD_APPROVAL_TEXT_H
#define KEYD_APPROVAL_TEXT_H

#include "approvals.h"

#include <sodium.h>

#define APPROVAL_SIGNATURES_MAX 32u /* more than there are admins at a time: they may change meanwhile */
#define APPROVAL_NONCE_BYTES 16u
#define APPROVAL_FILE_MAX 16384u

struct approval_signature {
    uid_t brought_by;
    uint8_t public_key[crypto_sign_PUBLICKEYBYTES];
    uint8_t signature[crypto_sign_BYTES];
};

struct approval {
    char id[APPROVAL_ID_CHARS + 1]; /* from the text */
    unsigned act;                   /* enum key_edit_op, a destructive one */
    uint8_t volume[ID_BYTES], directory[ID_BYTES];
    uint32_t version;
    bool force;
    uid_t uid; /* of the requester */
    int64_t created, expires;
    uint8_t nonce[APPROVAL_NONCE_BYTES]; /* no earlier signature fits a new request */
    unsigned signature_count;
    struct approval_signature signatures[APPROVAL_SIGNATURES_MAX];
};

/* Writes the text, NUL-terminated; returns its length. */
size_t approval_text(const struct approval *p, char text[static APPROVAL_TEXT_MAX]);

/* Sets id from the rest. */
void approval_name(struct approval *p);

/* Same act, target and requester. */
bool approval_same(const struct approval *a, const struct approval *b);

bool approval_signature_fits(const struct approval *p, const struct approval_signature *s);

/* The file: the text and a line for each signature. Returns its length. */
size_t approval_encode(const struct approval *p, char file[static APPROVAL_FILE_MAX]);

/* LFS_ERR_CORRUPT: not exactly what approval_encode makes; LFS_ERR_AUTH: a signature does not fit, or a key
 * has signed twice. text has a NUL at text[len]. */
int approval_decode(const char *text, size_t len, struct approval *out);

#endif
