/* Checks of the mounted volume in a thread of the mount, one at a time (latchfs/mountctl.h). Any thread may
 * call. */
#ifndef FS_MOUNT_CONTROL_CHECK_H
#define FS_MOUNT_CONTROL_CHECK_H

#include "latchfs/mountctl.h"

struct checks;

struct checks *checks_new(struct volume *v); /* NULL when memory is out */

/* Stops the check, waits for its end. Nobody starts another any more. Takes NULL. */
void checks_join(struct checks *c);

/* The same, and no thread may be in another call of these. Takes NULL. */
void checks_free(struct checks *c);

/* subtree: ciphertext path, "": all; resume: "": from the beginning. LFS_ERR_BUSY while one is running. */
int checks_start(struct checks *c, const struct mountctl_request *q, const char *subtree);

void checks_status(struct checks *c, struct mount_check_status *out);

/* The answer to CHECK_FINDINGS. */
int checks_answer_findings(struct checks *c, uint64_t after, uint8_t *out, size_t size);

/* Asks the running check, if any, to end soon. */
void checks_stop(struct checks *c);

/* For a lock: stops it, waits until its threads are gone, for some seconds at most, and forgets the findings,
 * which have plaintext names. */
void checks_end(struct checks *c);

#endif
