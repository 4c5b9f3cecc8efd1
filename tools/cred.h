/* A credential (keyclient.h) together with all that it points to: made from what the options name, to open a
 * volume. */
#ifndef TOOLS_CRED_H
#define TOOLS_CRED_H

#include "passphrase.h"
#include "volume_files.h"

struct cred {
    struct credential c; /* points into this struct: do not copy it */
    struct secret *secret;
    uint8_t signing_public[KEYSTORE_PUBLIC_BYTES];
    uint8_t public_key[KEYSTORE_PUBLIC_BYTES];
    char command[KEYSTORE_COMMAND_MAX + 1];
    uint8_t *blob;
};
void cred_clear(struct cred *c);
#define AUTO_CRED CLEANUP(cred_clear)

/* Gets the secret that opens v: from the terminal, a file, a descriptor, an identity, or the program of one
 * of its command slots. Prints its own error; returns an exit code. */
int cred_open(const struct cred_source *s, const struct volume_files *v, struct cred *out);

/* The number of an existing slot. Prints its own error; returns an exit code. */
int cred_parse_slot(const char *text, const struct keystore *ks, unsigned *id);

/* How often to ask in all: more than once only for what is typed. */
int cred_tries(const struct cred_source *s);

/* After a successful opening at kc: whoever can write the volume can make slots for a recipient or a command,
 * so the first time a volume is seen, says on standard error which key signs it. */
void cred_say_first(const struct cred *c, const struct volume_files *v, const struct keyclient *kc);

#endif
