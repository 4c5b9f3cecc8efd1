/* Rotations in a thread of the mount, one at a time (latchfs/mountctl.h). Any thread may call. */
#ifndef FS_MOUNT_CONTROL_JOBS_H
#define FS_MOUNT_CONTROL_JOBS_H

#include "latchfs/mountctl.h"

struct jobs;

struct jobs *jobs_new(struct volume *v); /* NULL when memory is out */

/* Stops the job, waits for its end. Nobody starts another any more. Takes NULL. */
void jobs_join(struct jobs *j);

/* The same, and no thread may be in another call of these. Takes NULL. */
void jobs_free(struct jobs *j);

/* version, if not 0: LFS_ERR_NOKEY unless the volume's keys of pd_id make headers at it or a later one. A
 * walk with older keys would find every header right. LFS_ERR_BUSY while a job is running. */
int jobs_start(struct jobs *j, enum mount_job job, const uint8_t pd_id[static ID_BYTES],
               uint64_t bytes_per_second, uint32_t version);

void jobs_status(struct jobs *j, struct mount_job_status *out);

/* Asks the running job, if any, to end soon. */
void jobs_stop(struct jobs *j);

/* Stops what works on a protected directory (NULL: on any), and waits until its thread has wiped what it
 * held, for some seconds at most. */
void jobs_end(struct jobs *j, const uint8_t *pd_id);

#endif
