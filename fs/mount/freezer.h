/* Freezes of the mounted volume: who asked, when they end, and what goes before them. */
#ifndef FS_MOUNT_FREEZER_H
#define FS_MOUNT_FREEZER_H

#include "fs/mount/daemon.h"

struct freezer;

struct freezer *freezer_new(struct daemon *d); /* NULL when memory is out */
void freezer_free(struct freezer *f);          /* takes NULL */

/* As mountctl_freeze and mountctl_thaw. */
int freezer_freeze(struct freezer *f, unsigned seconds, uint64_t *serial);
int freezer_thaw(struct freezer *f, uint64_t serial);

/* Seconds since 1970 when the present freeze ends at the latest; 0: there is none. */
uint64_t freezer_until(struct freezer *f);

/* Readable when a freeze has come to its end; then freezer_due. */
int freezer_timer_fd(const struct freezer *f);
void freezer_due(struct freezer *f);

/* Ends a freeze, if there is one; the log says why. */
void freezer_end(struct freezer *f, const char *why);

/* The same, and until release none begins (LFS_ERR_BUSY). They nest. */
void freezer_hold(struct freezer *f, const char *why);
void freezer_release(struct freezer *f);

#endif
