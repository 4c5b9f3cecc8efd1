/* Who may use a volume: locks on the journal file (docs/FORMAT.md, "Locks"). They belong to the open file, so
 * they end with its descriptor, however the process ends.
 *
 * One writer, or any number of readers, or any number of shared mounts. Of these one at a time has the token,
 * and only with the token anything of the volume is read or changed. */
#ifndef LATCHFS_STORE_JOURNAL_LOCK_H
#define LATCHFS_STORE_JOURNAL_LOCK_H

#include "fs/store/journal.h"

/* LFS_ERR_BUSY: others are there that this does not go with. For JOURNAL_SHARED also what the filesystem says
 * that has no locks. */
int journal_lock_use(int fd, enum journal_mode mode);

/* ---- of a shared journal ---- */

/* Takes the token, or LFS_ERR_BUSY. Who finds it taken asks for it, and is the next to have it then if it
 * goes on trying: *asked is for the calls of one who waits, false at first. */
int journal_token_try(const struct journal *j, bool *asked);

/* Asks no longer. */
void journal_token_give_up(const struct journal *j, bool *asked);

void journal_token_release(const struct journal *j);

/* Somebody asks for the token. */
bool journal_token_wanted(const struct journal *j);

/* No other shared mount is there. */
bool journal_is_alone(const struct journal *j);

#endif
