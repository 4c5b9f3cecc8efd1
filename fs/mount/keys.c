#include "fs/mount/keys_int.h"
#include "fs/mount/wipe.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/log.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define DEADLINE_MS 10000
#define RECONNECT_MIN_MS 1000
#define ASK_DEADLINE_S 20
#define NO_KEYS 0u /* rekeyed: no header is made at any version */

int64_t keys_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t); /* a lease ends while the machine sleeps, too */
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

bool keys_is_root(const struct keys *k, const uint8_t pd_id[static ID_BYTES])
{
    return memcmp(pd_id, k->d->pd_id, ID_BYTES) == 0;
}

/* ---- connection ---- */

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

static void lost_keyd(struct keys *k)
{
    if (k->client && k->served)
        k->lost_at = keys_now();
    k->served = false;
    keyclient_freep(&k->client);
    k->try_at = keys_now() + k->backoff_ms;
    k->backoff_ms = k->backoff_ms * 2 < RETRY_MS ? k->backoff_ms * 2 : RETRY_MS;
}

void keys_check_client(struct keys *k)
{
    if (k->client && keyclient_fd(k->client) < 0)
        lost_keyd(k);
}

static void reconnect(struct keys *k)
{
    if (connect_keyd(k)) {
        lost_keyd(k);
        return;
    }
    k->backoff_ms = RECONNECT_MIN_MS;
    k->report_at = 0; /* a new keyd knows no counters */
    k->told_failures = 0;
    log_info("%s: connected to latch-keyd again", k->d->volume_path);
    keys_tell_idle(k);
    keys_take_all(k, false);
}

/* ---- set up ---- */

static int keys_new(struct daemon *d, const char *socket, struct keys **out)
{
    struct keys *k = calloc(1, sizeof *k);
    if (!k)
        return -ENOMEM;
    *k = (struct keys){.d = d,
                       .backoff_ms = RECONNECT_MIN_MS,
                       .unlock_again_at = INT64_MAX,
                       .wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&k->asked, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&k->ask_lock, NULL);
    pthread_mutex_init(&k->turn, NULL);
    k->socket = socket ? strdup(socket) : NULL;
    if (k->wake < 0 || (socket && !k->socket) || !leases_add(&k->leases, d->pd_id)) {
        keys_free(k);
        return -ENOMEM;
    }
    *out = k;
    return 0;
}

static int lease_root(struct keys *k, struct keyset **set)
{
    unsigned seconds = 0;
    int r = keyclient_lease(k->client, k->d->volume_id, NULL, set, &seconds);
    if (r)
        return r;
    lease_begin(&k->leases.items[0], seconds, keyclient_idle_s(k->client), keys_now());
    k->served = true;
    return 0;
}

int keys_open(struct daemon *d, const char *socket, struct keys **out, struct keyset **set)
{
    struct keys *k = NULL;
    int r = keys_new(d, socket, &k);
    if (r)
        return r;
    r = connect_keyd(k);
    if (!r)
        r = lease_root(k, set);
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

/* ---- events ---- */

static bool is_zero(const uint8_t id[static ID_BYTES])
{
    static const uint8_t zeros[ID_BYTES];
    return memcmp(id, zeros, ID_BYTES) == 0;
}

static void on_revoke(struct keys *k, const struct key_event *ev, const uint8_t *pd)
{
    unsigned held = 0;
    keys_lock(k, pd, "revoked", false, &held);
    keyclient_revoked(k->client, ev->serial, held);
}

static void on_unlocked(struct keys *k, const struct key_event *ev)
{
    if (is_zero(ev->pd_id))
        keys_take_all(k, true);
    else if (keys_is_root(k, ev->pd_id) || !volume_is_locked(k->d->vol))
        keys_take(k, ev->pd_id, NULL);
}

/* A directory whose newer keys are refused is locked: the old ones may not be used any more. */
static void on_rekey(struct keys *k, const struct key_event *ev, const uint8_t *pd)
{
    const struct lease *l = leases_find(&k->leases, pd);
    struct keyset *set = NULL;
    uint32_t active = NO_KEYS;
    unsigned held;
    int r = l && l->held ? keys_take(k, pd, &set) : LFS_ERR_NOKEY;
    if (!r)
        active = set->active;
    else if (k->client && l && l->held)
        keys_lock(k, pd, "its new keys were refused", false, &held);
    keyset_free(set);
    if (k->client)
        keyclient_rekeyed(k->client, ev->serial, pd, active);
}

static void handle_event(struct keys *k, const struct key_event *ev)
{
    if (memcmp(ev->volume_id, k->d->volume_id, ID_BYTES) != 0)
        return;
    const uint8_t *pd = is_zero(ev->pd_id) ? k->d->pd_id : ev->pd_id;
    if (ev->type == KEY_EVENT_UNLOCKED)
        on_unlocked(k, ev);
    else if (ev->type == KEY_EVENT_REVOKE)
        on_revoke(k, ev, pd);
    else if (ev->type == KEY_EVENT_REKEY)
        on_rekey(k, ev, pd);
    else if (ev->type == KEY_EVENT_HELD)
        keyclient_held(k->client, ev->serial, keys_count_open(k, ev->pd_id));
    keys_check_client(k);
}

static void take_events(struct keys *k)
{
    struct key_event ev;
    while (k->client && !atomic_load(&k->stopping)) {
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

/* ---- asked by other threads ---- */

static int take_and_use(struct keys *k, const uint8_t pd[static ID_BYTES], keys_use_fn *fn, void *arg)
{
    CLEANUP(keyset_freep) struct keyset *set = NULL;
    int r = k->client ? keys_take(k, pd, &set) : -ENOTCONN;
    if (!r)
        r = fn(set, arg);
    wipe_thread(); /* it ran in the store */
    return r;
}

static void answer_ask(struct keys *k)
{
    uint8_t pd[ID_BYTES];
    pthread_mutex_lock(&k->ask_lock);
    bool pending = k->ask.state == ASK_PENDING;
    if (pending)
        k->ask.state = ASK_WORKING;
    keys_use_fn *fn = k->ask.fn;
    void *arg = k->ask.arg;
    memcpy(pd, k->ask.pd_id, ID_BYTES);
    pthread_mutex_unlock(&k->ask_lock);
    if (!pending)
        return;
    int r = take_and_use(k, pd, fn, arg);
    pthread_mutex_lock(&k->ask_lock);
    k->ask.state = ASK_DONE;
    k->ask.result = r;
    pthread_cond_signal(&k->asked);
    pthread_mutex_unlock(&k->ask_lock);
}

/* Until the thread has taken the question up there is a deadline; from then on keyd's calls have theirs, and
 * fn must not be left running. */
static int wait_for_answer(struct keys *k)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ASK_DEADLINE_S;
    int err = 0;
    while (k->ask.state == ASK_WORKING || (k->ask.state == ASK_PENDING && err != ETIMEDOUT))
        err = k->ask.state == ASK_WORKING ? pthread_cond_wait(&k->asked, &k->ask_lock)
                                          : pthread_cond_timedwait(&k->asked, &k->ask_lock, &until);
    return k->ask.state == ASK_DONE ? k->ask.result : LFS_ERR_TIMEOUT;
}

int keys_lease_dir(struct keys *k, const uint8_t pd_id[static ID_BYTES], keys_use_fn *fn, void *arg)
{
    pthread_mutex_lock(&k->turn);
    pthread_mutex_lock(&k->ask_lock);
    k->ask.state = ASK_PENDING;
    k->ask.fn = fn;
    k->ask.arg = arg;
    memcpy(k->ask.pd_id, pd_id, ID_BYTES);
    eventfd_write(k->wake, 1);
    int r = wait_for_answer(k);
    k->ask.state = ASK_NONE;
    pthread_mutex_unlock(&k->ask_lock);
    pthread_mutex_unlock(&k->turn);
    return r;
}

void keys_note_refusal(struct keys *k)
{
    if (!atomic_exchange(&k->d->refusals, 1))
        eventfd_write(k->wake, 1);
}

/* ---- the thread ---- */

static int timeout_ms(const struct keys *k)
{
    int64_t next = keys_next(k);
    if (!k->client && k->try_at < next)
        next = k->try_at;
    int64_t left = next - keys_now();
    return next == INT64_MAX ? -1 : left < 0 ? 0 : left > INT32_MAX ? INT32_MAX : (int)left;
}

static void sleep_until_due(struct keys *k)
{
    struct pollfd p[2] = {{.fd = k->wake, .events = POLLIN}, {.fd = -1, .events = POLLIN}};
    eventfd_t woken;
    if (k->client)
        p[1].fd = keyclient_fd(k->client);
    poll(p, 2, timeout_ms(k));
    eventfd_read(k->wake, &woken);
}

static void *run(void *arg)
{
    struct keys *k = arg;
    while (!atomic_load(&k->stopping)) {
        answer_ask(k);
        keys_do_timed(k, keys_now());
        if (!k->client && keys_now() >= k->try_at && !atomic_load(&k->stopping))
            reconnect(k);
        take_events(k); /* last: those that came during other calls do not show on the descriptor */
        sleep_until_due(k);
    }
    return NULL;
}

int keys_start(struct keys *k)
{
    keys_take_all(k, false);
    int err = pthread_create(&k->thread, NULL, run, k);
    k->running = !err;
    return -err;
}

void keys_free(struct keys *k)
{
    if (!k)
        return;
    if (k->running) {
        atomic_store(&k->stopping, true);
        eventfd_write(k->wake, 1);
        pthread_join(k->thread, NULL);
    }
    keyclient_free(k->client);
    leases_clear(&k->leases);
    lfs_close_fd(&k->wake);
    pthread_mutex_destroy(&k->turn);
    pthread_mutex_destroy(&k->ask_lock);
    pthread_cond_destroy(&k->asked);
    free(k->told_uses);
    free(k->socket);
    free(k);
}
