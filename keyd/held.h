/* What makes a held directory readable and is nowhere but here: one blob for each version of its key, in
 * statedir/held/VOLUME.DIRECTORY.VERSION. Without it no copy of the volume, and no backup, opens the
 * directory. */
#ifndef KEYD_HELD_H
#define KEYD_HELD_H

#include "latchfs/keyslots.h"

/* Durable when it returns 0. */
int held_store(int statedir, const uint8_t volume_id[static ID_BYTES], const struct held_blob *b);

/* Overwrites, syncs and unlinks; gone for good when it returns 0. 0 also if there is none. */
int held_destroy(int statedir, const uint8_t volume_id[static ID_BYTES], const uint8_t pd[static ID_BYTES],
                 uint32_t version);

/* Destroys every blob that belongs to a version which ks calls destroyed, or to a shredded directory. Others
 * stay, also those of directories that ks does not know. *count (may be NULL): how many. */
int held_reconcile(int statedir, const struct keystore *ks, unsigned *count);

/* A held_lookup; arg is the state directory's descriptor, an int. Thread safe. */
int held_find(void *arg, const uint8_t volume_id[static ID_BYTES], const uint8_t pd[static ID_BYTES],
              uint32_t version, uint8_t wrapped[static KEYSTORE_WRAPPED_BYTES]);

#endif
