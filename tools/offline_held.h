/* What a latch-keyd keeps of directories whose keys it holds (docs/FORMAT.md, "Held directories"), read from
 * its state directory or a backup of it. */
#ifndef TOOLS_OFFLINE_HELD_H
#define TOOLS_OFFLINE_HELD_H

#include "latchfs/keyslots.h"

struct offline_held {
    int dirfd; /* of the blobs; -1: none, nothing is found */
};

/* dir: a state directory, which has held/ in it. 0 or an error. */
int offline_held_open(const char *dir, struct offline_held *h);
void offline_held_clear(struct offline_held *h);

/* A held_lookup; arg is a struct offline_held. */
int offline_held_find(void *arg, const uint8_t volume_id[static ID_BYTES], const uint8_t pd[static ID_BYTES],
                      uint32_t version, uint8_t wrapped[static KEYSTORE_WRAPPED_BYTES]);

#endif
