/* A volume that several mounts change in turns (volume_options.shared). One at a time has the token, a lock
 * on the journal file (journal_lock.h); all calls of this mount run while it has it. Before it lets go,
 * everything is in place and on disk and the journal is empty. When it comes back and others have changed
 * something meanwhile, what this mount knew of files, places and descriptors is forgotten; so is what others
 * left who died. It goes by itself when nobody used it for a while, or when another mount asks.
 *
 * Every function takes a volume that is not shared, and then does nothing. */
#ifndef LATCHFS_STORE_SHARE_H
#define LATCHFS_STORE_SHARE_H

#include "fs/store/node.h"

struct share;

/* Takes the token for the first time, replays what a dead mount left (report: may be NULL). The thread that
 * gives it back begins with share_start. */
int share_open(struct volume *v, struct replay_report *report);
int share_start(struct volume *v);

/* Ends the thread. True: the caller has the token and closes the volume with it; false: there is nothing of
 * this mount that is not in place. Nobody else is inside any more. */
bool share_stop(struct volume *v);
void share_free(struct volume *v);

/* ---- turns: outside the gate and all locks of the store; they nest in a thread ---- */

/* The token is here until share_leave, waited for if need be. LFS_ERR_TIMEOUT; LFS_ERR_NOKEY while barred;
 * -EIO once something could not be put in place. After an error no share_leave. */
int share_enter(struct volume *v);

/* The same for what changes something. Where that cannot be, every share_enter inside answers why. */
void share_enter_change(struct volume *v);

/* Only if the token is here, without waiting. Otherwise every share_enter inside fails: then nothing of this
 * mount is pending, or loaded, that another could not have changed. share_leave follows in both cases. */
bool share_join(struct volume *v);

/* The same for a change on the way of a read; false: it is to be left out, and no share_leave. */
bool share_try_change(struct volume *v);

void share_leave(struct volume *v);

/* Another mount asks for the token: what takes long inside should end. */
bool share_is_wanted(const struct volume *v);

/* Nothing enters any more (LFS_ERR_NOKEY) until it is unbarred, and the token is gone: for locking the
 * volume. The error of putting in place, after which the token does not come back. */
int share_bar(struct volume *v);
void share_unbar(struct volume *v);

/* ---- what nodes stand for (share_node.c); inside of a turn ---- */

/* Tells inodes apart that had the same number one after the other; 0: the filesystem cannot say. name: in the
 * directory fd, or "" for fd itself. */
uint64_t share_birth(int fd, const char *name);

/* False if a descriptor, or what a place leads to, is another inode than the node. */
bool share_is_node(const struct node *n, int fd, const char *name);

/* The node was seen at its place now. */
void share_seen(struct node *n);

/* Its place is as this mount knows it: nobody has had the token since it was seen there. */
bool share_place_holds(const struct node *n);

/* Forgets what others may have changed: a new epoch. Nobody is inside. */
int share_forget(struct volume *v);

/* Openers of a regular file: its descriptor stays, whatever others do to its name. */
void share_opened(struct node *n);
void share_closed(struct node *n);

#endif
