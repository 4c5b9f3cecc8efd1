/* What makes a held directory readable and is nowhere but here: one blob for each version of its key, in
 * statedir/held/VOLUME.DIRECTORY.VERSION. Without it no copy of the volume, and no backup, opens the
 * directory. */
#ifndef KEYD_HELD_H
#define KEYD_HELD_H

#include "latchfs/keyslots.h"

/* Durable when it returns 0. Never replaces a blob: -EEXIST if there is another one of this version. */
int held_store(int statedir, const uint8_t volume_id[static ID_BYTES], const struct held_blob *b);

/* Overwrites, syncs and unlinks; gone for good when it returns 0. 0 also if there is none. */
int held_destroy(int statedir, const uint8_t volume_id[static ID_BYTES], const uint8_t pd[static ID_BYTES],
                 uint32_t version);

/* fn for every blob of a volume. All are visited; the first error is returned. */
typedef int held_visit(void *arg, const uint8_t *pd, uint32_t version);
int held_each(int statedir, const uint8_t volume_id[static ID_BYTES], held_visit *fn, void *arg);

/* The greatest version of a directory that has a blob or a note; 0: none. */
int held_newest(int statedir, const uint8_t volume_id[static ID_BYTES], const uint8_t pd[static ID_BYTES],
                uint32_t *version);

/* That an edit of this keyd ended a version, or with HELD_WHOLE_DIR all of a directory, after all approvals
 * that policy demands: in statedir/ended, named as the blobs. Pinned: a store that says so was put in place.
 * Notes stay, so that a blob that comes back (from a backup of the state directory) is destroyed again. */
#define HELD_WHOLE_DIR 0u
enum held_note { HELD_NO_NOTE, HELD_ANSWERED, HELD_PINNED };
int held_note_store(int statedir, const uint8_t volume_id[static ID_BYTES], const uint8_t pd[static ID_BYTES],
                    uint32_t version, enum held_note note);
/* Of the version or of its directory, whichever says more. */
int held_note_load(int statedir, const uint8_t volume_id[static ID_BYTES], const uint8_t pd[static ID_BYTES],
                   uint32_t version, enum held_note *out);

/* A held_lookup; arg is the state directory's descriptor, an int. Thread safe. */
int held_find(void *arg, const uint8_t volume_id[static ID_BYTES], const uint8_t pd[static ID_BYTES],
              uint32_t version, uint8_t wrapped[static KEYSTORE_WRAPPED_BYTES]);

#endif
