/* Recipients: X25519 key pairs of people who open volumes with a private key file. FILE has the private key,
 * FILE.pub the public one that others make slots for. */
#ifndef TOOLS_IDENTITY_H
#define TOOLS_IDENTITY_H

#include "keytext.h"

#include "latchfs/secret.h"

#define RECIPIENT_PREFIX "latch-recipient-"
#define RECIPIENT_CHARS (sizeof RECIPIENT_PREFIX - 1 + KEYTEXT_CHARS)

/* Makes a key pair: path (new, mode 0600) and path.pub (new), both synced. text gets the public key's text.
 * Prints its own error and returns an exit code; a failure leaves neither file. */
int identity_make(const char *path, char text[static RECIPIENT_CHARS + 1]);

/* The private key in path, 32 bytes. Prints its own error; returns an exit code. */
int identity_read(const char *path, struct secret **private_key);

/* The public key that what names: its text itself, a file with that text, or an identity file. Prints its own
 * error; returns an exit code. */
int recipient_read(const char *what, uint8_t public_key[static KEYTEXT_KEY]);

void recipient_text(const uint8_t public_key[static KEYTEXT_KEY], char text[static RECIPIENT_CHARS + 1]);

#endif
