/* Which directories a file has names in, as its header says: so that nobody can exchange it with a file of
 * another directory. HEADER_HOMES are named at most; a file with names in more directories is not bound.
 *
 * A header must name a directory before a name there can be durable. So a rename or link into another
 * directory begins with a header in the journal, on disk. The directory that it left goes from the header
 * after the next full checkpoint, when the rename is on disk. */
#ifndef LATCHFS_STORE_FILE_HOME_H
#define LATCHFS_STORE_FILE_HOME_H

#include "fs/store/file.h"

/* One file on its way to a name in another directory. Under volume.move_lock. */
struct home_move {
    struct node *n; /* NULL: nothing to end */
};

/* Before the rename (from: the directory of the name that goes) or the link (from NULL) into the directory
 * to, outside every lock but move_lock. Nothing happens to what is no regular file, nor to one that can't be
 * read. n stays referenced by the caller until home_move_end. */
int home_move_begin(struct home_move *m, struct node *n, const uint8_t *from,
                    const uint8_t to[static ID_BYTES]);
void home_move_end(struct home_move *m);

/* It moves, or loses a name, just now: its homes stay until that is on disk. */
void home_remember(struct node *n);

/* Around the end of one of several names of a file. */
void home_unlink_begin(struct node *n);
void home_unlink_end(struct node *n);

/* Those that moved since the last time and are in memory (referenced), to be given to home_settle_moved. */
struct node **home_take_moved(struct volume *v, size_t *count);
bool home_moved_many(struct volume *v); /* it is time for that */
/* durable: their renames are on disk, so that files with one name need name no other directory. Else they are
 * kept for the next time. True if there are headers to be put in place now. */
bool home_settle_moved(struct volume *v, struct node **list, size_t count, bool durable);

/* The homes of a header that is made now (write lock held). fd: of the file. */
void home_of_birth(struct file *f, int fd, struct file_header *h);

/* LFS_ERR_AUTH if the file was found in a directory that its header does not name. */
int home_check(struct node *n, const struct file_header *h);

#endif
