/* struct journal, for journal.c and journal_sync.c. */
#ifndef LATCHFS_STORE_JOURNAL_INT_H
#define LATCHFS_STORE_JOURNAL_INT_H

#include "fs/store/journal.h"

#include <pthread.h>
#include <stdatomic.h>

/* Space that ordinary entries leave: for the checkpoint's marks, for those of a replay, and for one entry's
 * worth of padding at the end of the ring. */
#define HEADROOM_MARKS (UINT64_C(1) << 20)
#define HEADROOM_REPLAY (UINT64_C(512) << 10)
#define HEADROOM_PAD ((uint64_t)JENTRY_DATA_MAX + JENTRY_ITEMS_MAX + 4096)

/* A flush of space that was allocated but never written also writes metadata, and costs several times as
 * much: before a flush the ring ahead of the head is filled with zeros, this much at a time. */
#define FILL_AHEAD (UINT64_C(1) << 20)

struct journal {
    int fd;
    bool writable;
    uint8_t volume_id[ID_BYTES];
    struct journal_keys *keys; /* locked memory; NULL while the volume is locked */

    pthread_mutex_t append; /* guards head, tail_pos, reserved, super; held across the write of an entry,
                               which puts it into the page cache: entries must become whole in order */
    struct journal_point head;
    uint64_t tail_pos; /* space before it may be used again */
    uint64_t reserved;
    struct journal_super super; /* as last written */
    uint64_t base;              /* where the first lap began */
    uint64_t written; /* ring bytes from its start that were written at least once since it was allocated */

    pthread_mutex_t sync; /* guards syncing, durable, sync_error */
    pthread_cond_t synced;
    bool syncing;
    uint64_t durable; /* entries up to here are on disk */
    int sync_error;   /* sticky: a failed flush is not tried again */
    _Atomic uint64_t syncs;
};

/* Writes j->super to the slot of its counter; not synced. Caller holds append. */
int journal_write_super(struct journal *j);

#endif
