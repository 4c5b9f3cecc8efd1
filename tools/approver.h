/* The signing key of an administrator who approves: a file with an Ed25519 seed, mode 0600. Two lines:
 * "latchfs-approver 1" and the seed in hex. */
#ifndef TOOLS_APPROVER_H
#define TOOLS_APPROVER_H

#include "latchfs/buf.h"
#include "latchfs/secret.h"

#include <sodium.h>

struct approver {
    struct secret *secret_key; /* Ed25519, 64 bytes */
    uint8_t public_key[crypto_sign_PUBLICKEYBYTES];
};
void approver_clear(struct approver *a);

/* Makes the file, which must not exist. Prints its own error; returns an exit code. */
int approver_make(const char *path, char public_hex[static 2 * crypto_sign_PUBLICKEYBYTES + 1]);

/* Refuses a file that others may read. Prints its own error; returns an exit code. */
int approver_load(const char *path, struct approver *a);

void approver_sign(const struct approver *a, const void *text, size_t len,
                   uint8_t signature[static crypto_sign_BYTES]);

#endif
