/* Opening a volume at latch-keyd: shared by unlock and mount. */
#ifndef TOOLS_UNLOCK_H
#define TOOLS_UNLOCK_H

#include "passphrase.h"
#include "volume_files.h"

/* Gets the secret (asks up to three times if it is typed) and gives it to latch-keyd, which is started if
 * need be. Prints its own error; returns an exit code. */
int volume_unlock_with(const struct volume_files *v, const struct cred_source *source, bool accept_older);

/* Asks latch-keyd whether it holds the keys; no keyd, no keys. Prints its own error. */
int volume_is_unlocked(const struct volume_files *v, bool *unlocked);

#endif
