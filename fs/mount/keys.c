#include "fs/mount/keys.h"

#include "fs/mount/lock.h"
#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/keyclient.h"
#include "latchfs/log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define DEADLINE_MS 10000
#define RECONNECT_MIN_MS 1000
#define RECONNECT_MAX_MS 30000

/* All fields belong to the thread once it runs. */
struct keys {
    struct daemon *d;
    char *socket;             /* or NULL */
    struct keyclient *client; /* NULL while keyd is gone */
    int64_t lease_ms;         /* 0: no end */
    int64_t leased_at;        /* last lease or renewal, of now_ms() */
    int64_t try_at;           /* next renewal or reconnection */
    int64_t backoff_ms;
    int64_t lost_at;    /* since when keyd is gone; counts while client is NULL */
    int64_t grace_ms;   /* how long keys may stay without it; 0: no limit */
    bool unlock_failed; /* a lease is here, but the volume could not be unlocked: tried again at try_at */
    int stop;           /* eventfd */
    pthread_t thread;
    bool running;
};

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t); /* a lease ends while the machine sleeps, too */
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int connect_keyd(struct keys *k)
{
    struct keyclient_options o = {.socket_path = k->socket, .deadline_ms = DEADLINE_MS};
    CLEANUP(keyclient_freep) struct keyclient *kc = NULL;
    int r = keyclient_connect(&o, &kc);
    if (!r)
        r = keyclient_attach(kc, k->d->volume_id, k->d->mountpoint);
    if (r)
        return r;
    k->client = kc;
    k->grace_ms = (int64_t)keyclient_grace(kc) * 1000;
    kc = NULL;
    return 0;
}

static void note_lease(struct keys *k, unsigned seconds)
{
    k->lease_ms = (int64_t)seconds * 1000;
    k->leased_at = now_ms();
    k->try_at = k->leased_at + k->lease_ms / 3;
}

static int lease(struct keys *k, struct keyset **set)
{
    unsigned seconds = 0;
    int r = keyclient_lease(k->client, k->d->volume_id, NULL, set, &seconds);
    if (!r)
        note_lease(k, seconds);
    return r;
}

int keys_open(struct daemon *d, const char *socket, struct keys **out, struct keyset **set)
{
    struct keys *k = calloc(1, sizeof *k);
    if (!k)
        return -ENOMEM;
    *k = (struct keys){.d = d, .backoff_ms = RECONNECT_MIN_MS, .stop = eventfd(0, EFD_CLOEXEC)};
    k->socket = socket ? strdup(socket) : NULL;
    int r = k->stop < 0 || (socket && !k->socket) ? -ENOMEM : connect_keyd(k);
    if (!r)
        r = lease(k, set);
    if (r) {
        const char *why = k->client ? keyclient_message(k->client) : "";
        if (r == -ENOENT || r == -ECONNREFUSED) /* no keyd: nobody has unlocked anything */
            r = LFS_ERR_NOKEY;
        if (r == LFS_ERR_NOKEY)
            log_error("%s: locked; 'latch unlock' opens it", d->volume_path);
        else
            log_error("%s: latch-keyd: %s", d->volume_path, *why ? why : lfs_strerror(r));
        keys_free(k);
        return r;
    }
    *out = k;
    return 0;
}

/* ---- the thread ---- */

static void lock_now(struct keys *k, const char *why, unsigned *held)
{
    int r = lock_volume(k->d, held);
    if (r)
        log_error("%s: locking: %s", k->d->volume_path, lfs_strerror(r));
    log_info("%s: locked (%s), %u files open", k->d->volume_path, why, *held);
}

static void lost_keyd(struct keys *k)
{
    if (k->client)
        k->lost_at = now_ms();
    keyclient_freep(&k->client);
    k->try_at = now_ms() + k->backoff_ms;
    k->backoff_ms = k->backoff_ms * 2 < RECONNECT_MAX_MS ? k->backoff_ms * 2 : RECONNECT_MAX_MS;
}

/* Leases anew and unlocks, or, unlocked, only takes up the lease. Being refused is no fault of the
 * connection. */
static void lease_again(struct keys *k)
{
    CLEANUP(keyset_freep) struct keyset *set = NULL;
    int r = lease(k, &set);
    if (!r && volume_is_locked(k->d->vol)) {
        r = volume_unlock(k->d->vol, set);
        k->unlock_failed = r != 0;
        if (r)
            k->try_at = now_ms() + RECONNECT_MAX_MS;
        if (!r)
            log_info("%s: unlocked", k->d->volume_path);
        else
            log_error("%s: unlocking: %s", k->d->volume_path, lfs_strerror(r));
    } else if (r && r != LFS_ERR_NOKEY && r != LFS_ERR_DENIED) {
        lost_keyd(k);
    }
}

static void handle_event(struct keys *k, const struct key_event *ev)
{
    static const uint8_t whole[ID_BYTES];
    if (memcmp(ev->volume_id, k->d->volume_id, ID_BYTES) != 0)
        return;
    bool root = memcmp(ev->pd_id, whole, ID_BYTES) == 0 || memcmp(ev->pd_id, k->d->pd_id, ID_BYTES) == 0;
    unsigned held = 0;
    if (ev->type == KEY_EVENT_UNLOCKED) {
        lease_again(k);
    } else if (ev->type == KEY_EVENT_REVOKE) {
        if (root)
            lock_now(k, "revoked", &held);
        if (keyclient_revoked(k->client, ev->serial, held))
            lost_keyd(k);
    }
}

static void take_events(struct keys *k)
{
    struct key_event ev;
    while (k->client) {
        int r = keyclient_event(k->client, &ev);
        if (r) {
            log_warn("%s: latch-keyd is gone: %s", k->d->volume_path, lfs_strerror(r));
            lost_keyd(k);
        } else if (ev.type == KEY_EVENT_NONE) {
            return;
        } else {
            handle_event(k, &ev);
        }
    }
}

static void reconnect(struct keys *k)
{
    if (connect_keyd(k)) {
        lost_keyd(k);
        return;
    }
    k->backoff_ms = RECONNECT_MIN_MS;
    log_info("%s: connected to latch-keyd again", k->d->volume_path);
    lease_again(k);
}

static void renew(struct keys *k)
{
    int r = keyclient_renew(k->client, k->d->volume_id, NULL);
    if (!r)
        note_lease(k, (unsigned)(k->lease_ms / 1000));
    else if (r == LFS_ERR_NOKEY || r == LFS_ERR_DENIED)
        k->try_at = k->leased_at + k->lease_ms; /* refused: the lease runs out */
    else
        lost_keyd(k);
}

static bool lease_is_over(const struct keys *k, int64_t now)
{
    return k->lease_ms && now >= k->leased_at + k->lease_ms && !volume_is_locked(k->d->vol);
}

static bool grace_is_over(const struct keys *k, int64_t now)
{
    return !k->client && k->grace_ms && now >= k->lost_at + k->grace_ms && !volume_is_locked(k->d->vol);
}

static void do_timed(struct keys *k)
{
    int64_t now = now_ms();
    unsigned held;
    if (grace_is_over(k, now))
        lock_now(k, "latch-keyd is gone for too long", &held);
    if (lease_is_over(k, now))
        lock_now(k, "the lease has ended", &held);
    if (!k->client && now >= k->try_at)
        reconnect(k);
    else if (k->client && k->unlock_failed && now >= k->try_at)
        lease_again(k);
    else if (k->client && k->lease_ms && now >= k->try_at && !volume_is_locked(k->d->vol))
        renew(k);
}

/* Milliseconds until do_timed has something to do, -1 for never. */
static int timeout_ms(const struct keys *k)
{
    bool held = k->lease_ms && !volume_is_locked(k->d->vol);
    int64_t next = INT64_MAX;
    if (!k->client || held || k->unlock_failed)
        next = k->try_at;
    if (!k->client && k->grace_ms && !volume_is_locked(k->d->vol) && k->lost_at + k->grace_ms < next)
        next = k->lost_at + k->grace_ms;
    if (held && k->leased_at + k->lease_ms < next)
        next = k->leased_at + k->lease_ms;
    int64_t left = next - now_ms();
    return next == INT64_MAX ? -1 : left < 0 ? 0 : left > INT32_MAX ? INT32_MAX : (int)left;
}

static void *run(void *arg)
{
    struct keys *k = arg;
    for (;;) {
        struct pollfd p[2] = {{.fd = k->stop, .events = POLLIN}, {.fd = -1, .events = POLLIN}};
        if (k->client)
            p[1].fd = keyclient_fd(k->client);
        poll(p, 2, timeout_ms(k));
        if (p[0].revents)
            return NULL;
        if (p[1].revents)
            take_events(k);
        do_timed(k);
    }
}

int keys_start(struct keys *k)
{
    int err = pthread_create(&k->thread, NULL, run, k);
    k->running = !err;
    return -err;
}

void keys_free(struct keys *k)
{
    if (!k)
        return;
    if (k->running) {
        eventfd_write(k->stop, 1);
        pthread_join(k->thread, NULL);
    }
    keyclient_free(k->client);
    lfs_close_fd(&k->stop);
    free(k->socket);
    free(k);
}
