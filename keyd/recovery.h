/* The printable form of a recovery key: 256 bits as 13 groups of five, XXXXX-XXXXX-..., in Crockford's
 * base 32. The fifth character of a group checks its four and its place, so that a typing error is named by
 * group. */
#ifndef KEYD_RECOVERY_H
#define KEYD_RECOVERY_H

#include "latchfs/keyslots.h"

#define RECOVERY_GROUPS 13u
#define RECOVERY_TEXT_BYTES (RECOVERY_GROUPS * 6u) /* with dashes and the NUL */

/* The text of a key, NUL-terminated; NULL when memory is out. */
struct secret *recovery_format(const uint8_t key[static LFS_KEY_BYTES]);

/* Reads a text: case, spaces and dashes do not count; O is 0, I and L are 1. LFS_ERR_PASSPHRASE with the
 * reason, the first bad group, in why. */
int recovery_parse(const struct secret *text, uint8_t key[static LFS_KEY_BYTES], struct key_why *why);

#endif
