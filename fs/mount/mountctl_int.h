/* Pieces of the control socket's messages, for mountctl_codec*.c. */
#ifndef FS_MOUNT_MOUNTCTL_INT_H
#define FS_MOUNT_MOUNTCTL_INT_H

#include "latchfs/buf.h"
#include "latchfs/mountctl.h"

struct wcur ctl_begin(uint16_t kind, int err, uint8_t *out, size_t size); /* the head of an answer */
int ctl_end(const struct wcur *w);           /* the length, or LFS_ERR_MISUSE if there was no room */
int ctl_head(struct rcur *r, uint16_t want); /* 0: a body follows */

void ctl_put_string(struct wcur *w, const char *s);
/* Always terminates out; a string that is too long or has a NUL turns r bad. */
void ctl_get_string(struct rcur *r, char *out, size_t size);
void ctl_put_numbers(struct wcur *w, const uint64_t *const *numbers, size_t count);
void ctl_get_numbers(struct rcur *r, uint64_t *const *numbers, size_t count);
bool ctl_get_bool(struct rcur *r);

/* Names that lead down from a root and nowhere else. */
bool ctl_path_is_plain(const char *path);

#endif
