/* Directories being read. The kernel opens them without asking, so that a request says only which directory
 * and from where; the stream that stands there is kept from one request to the next, for some directories at
 * a time. A position holds without its stream: another one goes on there. */
#ifndef FS_MOUNT_DIR_STREAMS_H
#define FS_MOUNT_DIR_STREAMS_H

#include "latchfs/store.h"

struct dir_streams;

struct dir_streams *dir_streams_new(void);    /* NULL: no memory */
void dir_streams_free(struct dir_streams *t); /* takes NULL; before the volume is closed */

/* A stream of dir for the caller alone, the one that stands at cookie if there is one. Errors as of dir_open.
 */
int dir_streams_take(struct dir_streams *t, struct node *dir, uint64_t cookie, struct dir_stream **out);

/* Gives it back; it stands at cookie. The one that was used least lately may be closed for it. */
void dir_streams_put(struct dir_streams *t, struct node *dir, uint64_t cookie, struct dir_stream *s);

/* The kernel knows the directory no more: its streams are closed, so that nothing but the caller keeps it. */
void dir_streams_drop(struct dir_streams *t, const struct node *dir);

#endif
