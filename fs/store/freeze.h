/* Freezing: who changes the backing directory is counted, and waits while the volume is frozen. */
#ifndef LATCHFS_STORE_FREEZE_H
#define LATCHFS_STORE_FREEZE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct file;
struct volume;

enum freeze_state {
    FREEZE_NONE,
    FREEZE_CLOSING, /* changes wait; those under way end, then everything is put in place */
    FREEZE_FROZEN,
};

struct freeze {
    pthread_mutex_t turn; /* freezing and ending a freeze, one at a time; outside all other locks */
    pthread_mutex_t lock; /* for changed; a leaf */
    pthread_cond_t changed;
    _Atomic int state;                 /* enum freeze_state */
    _Atomic uint64_t changes, moments; /* under way */
    _Atomic int64_t deadline;          /* milliseconds of CLOCK_MONOTONIC */
    _Atomic uint64_t raise;            /* the generation that the journal must be above, or 0 */
};

void freeze_init(struct freeze *f);
void freeze_clear(struct freeze *f);

/* Every public call that changes the backing directory, and every thread of ours that does, is between these
 * two: enter waits while the volume is frozen, so it comes before the gate and all locks. They nest in a
 * thread; what is inside of one never waits. */
void freeze_enter(struct volume *v);
void freeze_leave(struct volume *v);

/* The first line of such a call. */
void freeze_leavep(struct volume **v);
#define VOLUME_CHANGE(vol)                                         \
    CLEANUP(freeze_leavep) struct volume *changing_volume = (vol); \
    freeze_enter(changing_volume)

/* For a change on the way of a read, where locks are held: false when it has to be left out, or put off. */
bool freeze_try(struct volume *v);

/* The same for a change that is undone at once, or undoes one: passes until the volume is frozen for good,
 * since the last checkpoint before may wait for the reader. */
bool freeze_moment_begin(struct volume *v);
void freeze_moment_end(struct volume *v);

/* Ends a freeze, if there is one; waits for one that is beginning. Not inside a change: nothing then. */
void freeze_end(struct volume *v);

/* As freeze_enter, but ends what it would wait for. */
void freeze_overrule(struct volume *v);

/* journal_raise, or a note for whoever ends the freeze. */
int freeze_raise(struct volume *v, uint64_t generation);

/* Calls fn for every file in memory, its lock held for writing. */
int freeze_each_file(struct volume *v, void (*fn)(struct file *f));

#endif
