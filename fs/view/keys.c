#include "fs/view/keys.h"

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

#define DEADLINE_MS 10000
#define RETRY_MIN_MS 1000
#define RETRY_MAX_MS 30000
#define NEVER INT64_MAX
#define NO_KEYS 0u /* rekeyed: none at any version */

/* All but wake and stopping belongs to the thread once it runs. Times are those of view_now. */
struct keys {
    struct view *v;
    char *socket;
    struct keyclient *client; /* NULL: gone */
    int64_t try_at, backoff_ms;
    int64_t grace_ms, lost_at; /* since when no latch-keyd has given keys; NEVER: one does */

    uint8_t pd_id[ID_BYTES];
    bool held, barred; /* barred: locked as idle, until somebody unlocks */
    int64_t length_ms, until, renew_at, idle_ms;

    int wake; /* eventfd */
    _Atomic bool stopping;
    bool running;
    pthread_t thread;
};

/* ---- the lease ---- */

static int take(struct keys *k)
{
    CLEANUP(keyset_freep) struct keyset *set = NULL;
    unsigned seconds = 0;
    int r = keyclient_lease(k->client, k->v->volume_id, NULL, &set, &seconds);
    if (!r && memcmp(set->volume_id, k->v->volume_id, ID_BYTES) != 0)
        r = LFS_ERR_PROTO;
    struct view_keys *keys = r ? NULL : locked_alloc(sizeof *keys);
    if (!r)
        r = keys ? view_keys_derive(set, keys) : -ENOMEM;
    if (r) {
        locked_free(keys);
        return r;
    }
    struct vnode *root = vtable_root(k->v->nodes);
    if (!k->v->keys && !k->running)
        view_id(keys, VIEW_ID_ROOT, keys->volume_id, "", root->id);
    memcpy(k->pd_id, set->pd_id, ID_BYTES);
    view_set_keys(k->v, keys);
    view_wipe_stack();
    int64_t now = view_now();
    k->held = true;
    k->barred = false;
    k->lost_at = NEVER;
    k->length_ms = (int64_t)seconds * 1000;
    k->until = seconds ? now + k->length_ms : NEVER;
    k->renew_at = seconds ? now + k->length_ms / 3 : NEVER;
    k->idle_ms = (int64_t)keyclient_idle_s(k->client) * 1000;
    atomic_store(&k->v->used_at, now);
    return 0;
}

static void lock(struct keys *k, const char *why)
{
    if (!k->held)
        return;
    view_set_keys(k->v, NULL);
    k->held = false;
    k->until = k->renew_at = NEVER;
    log_info("%s: locked (%s)", k->v->plain, why);
}

/* ---- the connection ---- */

static int connect_keyd(struct keys *k)
{
    const struct keyclient_options o = {.socket_path = k->socket, .deadline_ms = DEADLINE_MS};
    CLEANUP(keyclient_freep) struct keyclient *kc = NULL;
    int r = keyclient_connect(&o, &kc);
    if (!r)
        r = keyclient_attach(kc, k->v->volume_id, k->v->mountpoint);
    if (r)
        return r;
    k->grace_ms = (int64_t)keyclient_grace(kc) * 1000;
    k->client = kc;
    kc = NULL;
    return 0;
}

static void lost(struct keys *k)
{
    if (k->lost_at == NEVER)
        k->lost_at = view_now();
    keyclient_freep(&k->client);
    k->try_at = view_now() + k->backoff_ms;
    k->backoff_ms = k->backoff_ms * 2 < RETRY_MAX_MS ? k->backoff_ms * 2 : RETRY_MAX_MS;
}

static void check_client(struct keys *k)
{
    if (k->client && keyclient_fd(k->client) < 0)
        lost(k);
}

/* A latch-keyd that does not have the volume open has not locked it: what is held stays until its time. */
static void reconnect(struct keys *k)
{
    if (connect_keyd(k)) {
        lost(k);
        return;
    }
    k->backoff_ms = RETRY_MIN_MS;
    if (k->barred)
        keyclient_locked_idle(k->client, k->v->volume_id, k->pd_id);
    else
        take(k);
    check_client(k);
}

/* ---- events ---- */

static void on_revoke(struct keys *k, uint32_t serial)
{
    uint64_t open = atomic_load(&k->v->open_files);
    lock(k, "revoked");
    keyclient_revoked(k->client, serial, open < UINT32_MAX ? (unsigned)open : UINT32_MAX);
}

/* Whose newer keys are refused is locked: the old ones may not be used any more. */
static void on_rekey(struct keys *k, const struct key_event *ev)
{
    int r = k->held ? take(k) : LFS_ERR_NOKEY;
    if (r)
        lock(k, "its new keys were refused");
    if (k->client && keyclient_fd(k->client) >= 0)
        keyclient_rekeyed(k->client, ev->serial, ev->pd_id, r ? NO_KEYS : k->v->keys->dir_version);
}

static bool is_ours(const struct keys *k, const struct key_event *ev)
{
    static const uint8_t whole[ID_BYTES];
    return memcmp(ev->volume_id, k->v->volume_id, ID_BYTES) == 0 &&
           (memcmp(ev->pd_id, whole, ID_BYTES) == 0 || memcmp(ev->pd_id, k->pd_id, ID_BYTES) == 0);
}

static void handle_event(struct keys *k, const struct key_event *ev)
{
    uint64_t open = atomic_load(&k->v->open_files);
    if (!is_ours(k, ev))
        return;
    if (ev->type == KEY_EVENT_REVOKE)
        on_revoke(k, ev->serial);
    else if (ev->type == KEY_EVENT_UNLOCKED && take(k) == 0)
        log_info("%s: unlocked", k->v->plain);
    else if (ev->type == KEY_EVENT_REKEY)
        on_rekey(k, ev);
    else if (ev->type == KEY_EVENT_HELD)
        keyclient_held(k->client, ev->serial, open < UINT32_MAX ? (unsigned)open : UINT32_MAX);
    check_client(k);
}

static void take_events(struct keys *k)
{
    struct key_event ev;
    while (k->client && !atomic_load(&k->stopping)) {
        int r = keyclient_event(k->client, &ev);
        if (r) {
            log_warn("%s: latch-keyd is gone: %s", k->v->plain, lfs_strerror(r));
            lost(k);
        } else if (ev.type == KEY_EVENT_NONE) {
            return;
        } else {
            handle_event(k, &ev);
        }
    }
}

/* ---- time ---- */

static void renew(struct keys *k)
{
    int r = keyclient_renew(k->client, k->v->volume_id, NULL);
    int64_t now = view_now();
    k->renew_at = r ? NEVER : now + k->length_ms / 3; /* refused: it runs out */
    if (!r)
        k->until = now + k->length_ms;
    check_client(k);
    if (r == LFS_ERR_NOKEY && k->client)
        take(k);
}

static int64_t idle_at(const struct keys *k)
{
    return k->held && k->idle_ms ? atomic_load(&k->v->used_at) + k->idle_ms : NEVER;
}

static int64_t grace_end(const struct keys *k)
{
    return k->held && k->grace_ms && k->lost_at != NEVER ? k->lost_at + k->grace_ms : NEVER;
}

static void lock_idle(struct keys *k)
{
    lock(k, "idle");
    k->barred = true;
    if (k->client)
        keyclient_locked_idle(k->client, k->v->volume_id, k->pd_id);
    check_client(k);
}

static void do_timed(struct keys *k)
{
    int64_t now = view_now();
    if (now >= k->until)
        lock(k, "the lease has ended");
    if (now >= grace_end(k))
        lock(k, "no latch-keyd has given keys for too long");
    if (now >= idle_at(k))
        lock_idle(k);
    if (k->client && now >= k->renew_at)
        renew(k);
    if (!k->client && now >= k->try_at)
        reconnect(k);
}

static int timeout_ms(const struct keys *k)
{
    const int64_t times[] = {k->until, grace_end(k), idle_at(k), k->client ? k->renew_at : k->try_at};
    int64_t next = NEVER, now = view_now();
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++)
        next = times[i] < next ? times[i] : next;
    return next == NEVER ? -1 : next <= now ? 0 : next - now > INT32_MAX ? INT32_MAX : (int)(next - now);
}

static void *run(void *arg)
{
    struct keys *k = arg;
    eventfd_t woken;
    while (!atomic_load(&k->stopping)) {
        do_timed(k);
        take_events(k); /* last: those that came during other calls do not show on the descriptor */
        struct pollfd p[2] = {{.fd = k->wake, .events = POLLIN},
                              {.fd = k->client ? keyclient_fd(k->client) : -1, .events = POLLIN}};
        poll(p, 2, timeout_ms(k));
        eventfd_read(k->wake, &woken);
    }
    return NULL;
}

/* ---- life ---- */

static int fail(struct keys *k, int r)
{
    const char *why = k->client ? keyclient_message(k->client) : "";
    if (r == -ENOENT || r == -ECONNREFUSED) /* no latch-keyd: nobody has unlocked anything */
        r = LFS_ERR_NOKEY;
    if (r == LFS_ERR_NOKEY)
        log_error("%s: locked; 'latch view' opens it", k->v->plain);
    else
        log_error("%s: latch-keyd: %s", k->v->plain, *why ? why : lfs_strerror(r));
    keys_free(k);
    return r;
}

int keys_open(struct view *v, const char *socket, struct keys **out)
{
    struct keys *k = calloc(1, sizeof *k);
    if (!k)
        return -ENOMEM;
    *k = (struct keys){.v = v,
                       .backoff_ms = RETRY_MIN_MS,
                       .lost_at = NEVER,
                       .until = NEVER,
                       .renew_at = NEVER,
                       .wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
                       .socket = socket ? strdup(socket) : NULL};
    int r = k->wake < 0 || (socket && !k->socket) ? -ENOMEM : connect_keyd(k);
    if (!r)
        r = take(k);
    if (r)
        return fail(k, r);
    *out = k;
    return 0;
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
        atomic_store(&k->stopping, true);
        eventfd_write(k->wake, 1);
        pthread_join(k->thread, NULL);
    }
    view_set_keys(k->v, NULL);
    keyclient_free(k->client);
    lfs_close_fd(&k->wake);
    free(k->socket);
    free(k);
}
