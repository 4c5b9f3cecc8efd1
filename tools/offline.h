/* A volume, a copy of one, or a part of one, opened by latch itself: no daemon, no mount. The secret opens a
 * slot here and nothing is kept after the command. */
#ifndef TOOLS_OFFLINE_H
#define TOOLS_OFFLINE_H

#include "passphrase.h"
#include "volume_files.h"

#include "latchfs/keyslots.h"
#include "latchfs/store.h"

struct offline {
    struct volume_files files; /* opened */
    struct keystore *ks;
    struct keyset **sets; /* of every protected directory whose keys are here; [0] is the root's */
    size_t count;
    unsigned without_keys; /* protected directories left out: held by latch-keyd, or shredded */
    struct volume *volume; /* NULL until offline_volume */
    struct replay_report replay;
};
void offline_clear(struct offline *o);
#define AUTO_OFFLINE CLEANUP(offline_clear)

/* The options every such command has, beside OPENING_OPTIONS. */
struct offline_options {
    struct cred_source cred;
    const char *header;  /* --header FILE: a header backup in place of latchfs.ini */
    const char *held;    /* --held-dir DIR: latch-keyd's state directory, for held directories */
    bool ignore_journal; /* --ignore-journal: a copy without one, or with a broken one */
};

/* Reads the key store, gets the secret, unwraps what it opens. Prints its own error; returns an exit code. */
int offline_keys(const char *path, const struct offline_options *opt, struct offline *o);

/* Opens the volume with all keysets. With want->read_only through the journal's overlay, writing nothing.
 * Says where it is mounted if it is (LFS_EXIT_BUSY). Prints its own error; returns an exit code. */
int offline_volume(struct offline *o, const struct volume_options *want);

/* The node of a plaintext path below the volume's root ("" or "/": the root), symbolic links not followed.
 * Prints its own error; returns an exit code. */
int offline_lookup(struct offline *o, const char *path, struct node **out);

#endif
