/* keyd's own directory: audit log and pins. Not on FUSE: a directory there could be a stalled mount of ours.
 */
#ifndef KEYD_STATEDIR_H
#define KEYD_STATEDIR_H

#include "latchfs/keystore.h"

#include <limits.h>

/* $LATCH_KEYD_STATE_DIR, for root /var/lib/latchfs, else $XDG_STATE_HOME/latchfs or ~/.local/state/latchfs.
 */
int statedir_path(char path[static PATH_MAX]);

/* Makes the directory (0700) with its parents, opens it. LFS_ERR_DENIED: it is another user's or open to
 * others; -EOPNOTSUPP: it is on FUSE. */
int statedir_open(const char *path, int *fd);

/* What keyd last accepted as a volume's key store. */
struct pin {
    uint64_t generation;
    uint8_t hash[32]; /* BLAKE2b-256 of the file */
    uint8_t signing_public[KEYSTORE_PUBLIC_BYTES];
};
void pin_of(const struct keystore *ks, const char *ini, size_t len, struct pin *out);

/* -ENOENT if there is none; LFS_ERR_CORRUPT. */
int pin_load(int statedir, const uint8_t volume_id[static ID_BYTES], struct pin *out);
int pin_store(int statedir, const uint8_t volume_id[static ID_BYTES], const struct pin *p);

/* LFS_ERR_ROLLBACK unless now is what is pinned, or newer and signed with the same key. */
int pin_compare(const struct pin *pinned, const struct pin *now);

#endif
