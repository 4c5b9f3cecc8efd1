/* Where a check stopped, in a small text file, so that the next run of the same command goes on there. It has
 * ciphertext paths and counts, nothing of the plaintext. */
#ifndef TOOLS_CHECK_PLACE_H
#define TOOLS_CHECK_PLACE_H

#include "latchfs/check.h"
#include "latchfs/format.h"

#include <limits.h>
#include <stdbool.h>

struct check_place {
    char path[PATH_MAX]; /* of the file; "": keeps none */
    uint8_t volume_id[ID_BYTES];
    bool found; /* there was an earlier run that did not end */
    uint64_t started;
    struct check_progress done; /* up to where */
    char where[PATH_MAX];       /* as check_position said; "" if nowhere yet */
    /* A check in a mount goes on without its command: which it is, and what had come from it. */
    uint32_t mount_pid;
    uint64_t serial, seen;
    struct check_progress base; /* done when it began */
};

/* file: as the user gave it, or NULL: KIND/VOLUMEID below $STATE_DIRECTORY, $XDG_STATE_HOME/latchfs or
 * ~/.local/state/latchfs, which is made. Reads what is there; restart: begins anew. Refuses a file of
 * something else. Prints its own error; returns an exit code. */
int check_place_open(struct check_place *p, const char *kind, const char *file,
                     const uint8_t volume_id[static ID_BYTES], bool restart);

/* Writes it, durably. 0 or an error. */
int check_place_save(const struct check_place *p);

/* The check came to its end. */
void check_place_done(const struct check_place *p);

#endif
