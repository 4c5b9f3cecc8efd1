/* struct keys, shared by keys.c (connection, events, the thread) and keys_dirs.c (what is done to one
 * protected directory). */
#ifndef FS_MOUNT_KEYS_INT_H
#define FS_MOUNT_KEYS_INT_H

#include "fs/mount/keys.h"
#include "fs/mount/leases.h"
#include "latchfs/keyclient.h"

#include <pthread.h>

#define RETRY_MS 30000 /* reconnecting at the latest, and unlocking that failed */

enum ask_state { ASK_NONE, ASK_PENDING, ASK_WORKING, ASK_DONE };

/* All fields without a note belong to the thread once it runs. */
struct keys {
    struct daemon *d;
    char *socket;             /* or NULL */
    struct keyclient *client; /* NULL while keyd is gone */
    struct leases leases;
    int64_t try_at; /* next reconnection */
    int64_t backoff_ms;
    bool served;             /* this keyd gave the root's keys; one that was restarted has none at first */
    int64_t lost_at;         /* since when no keyd serves; counts while served is false */
    int64_t grace_ms;        /* how long keys may stay without it; 0: no limit */
    int64_t unlock_again_at; /* a lease is here, but the volume could not be unlocked; else INT64_MAX */

    int64_t report_at;
    uint64_t told_failures; /* what the last report said */
    struct key_use *told_uses;
    size_t told_count;

    int wake;             /* eventfd */
    atomic_bool stopping; /* any thread */
    pthread_t thread;
    bool running;

    pthread_mutex_t turn; /* one keys_lease_dir at a time; taken before ask_lock */
    pthread_mutex_t ask_lock;
    pthread_cond_t asked;
    struct {
        enum ask_state state;
        uint8_t pd_id[ID_BYTES];
        keys_use_fn *fn;
        void *arg;
        int result;
    } ask; /* guarded by ask_lock */
};

/* Milliseconds of the clock that leases.h wants. */
int64_t keys_now(void);

bool keys_is_root(const struct keys *k, const uint8_t pd_id[static ID_BYTES]);

/* After a call that failed: gives the connection up if it is broken. A refusal leaves it. */
void keys_check_client(struct keys *k);

/* Leases one and gives its keys to the volume. *set (may be NULL) is the caller's. */
int keys_take(struct keys *k, const uint8_t pd_id[static ID_BYTES], struct keyset **set);

/* The root's first, then all others of latchfs.ini; those that idleness locked only with even_idle. */
void keys_take_all(struct keys *k, bool even_idle);

/* Locks one (the root's: the whole volume); held: files that are open there. */
void keys_lock(struct keys *k, const uint8_t pd_id[static ID_BYTES], const char *why, bool idle,
               unsigned *held);

/* Tells a new connection what idleness has locked here. */
void keys_tell_idle(struct keys *k);

/* Files open in one, or (zeros) in all. */
unsigned keys_count_open(const struct keys *k, const uint8_t pd_id[static ID_BYTES]);

/* What time brings: ends, renewals, idleness, reports. */
void keys_do_timed(struct keys *k, int64_t now);

/* When that has something to do. */
int64_t keys_next(const struct keys *k);

#endif
