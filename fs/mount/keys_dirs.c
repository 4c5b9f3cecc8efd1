/* What the keys' thread does to single protected directories: lease and give keys, lock, watch over time. */
#include "fs/mount/keys_int.h"
#include "fs/mount/lock.h"
#include "fs/mount/open_files.h"
#include "fs/mount/pd_list.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/keystore.h"
#include "latchfs/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define REPORT_MS 30000
#define USES_MAX 256u /* of one report */

/* Its first digits name a protected directory in the log; its own name is encrypted. */
static const char *short_id(const uint8_t pd_id[static ID_BYTES], char hex[static 2 * ID_BYTES + 1])
{
    id_to_hex(pd_id, hex);
    hex[8] = '\0';
    return hex;
}

/* ---- leasing ---- */

static int lease_one(struct keys *k, const uint8_t pd_id[static ID_BYTES], struct keyset **set,
                     unsigned *seconds)
{
    bool root = keys_is_root(k, pd_id);
    CLEANUP(keyset_freep) struct keyset *got = NULL;
    int r = keyclient_lease(k->client, k->d->volume_id, root ? NULL : pd_id, &got, seconds);
    if (r)
        return r;
    if (memcmp(got->pd_id, pd_id, ID_BYTES) || memcmp(got->volume_id, k->d->volume_id, ID_BYTES))
        return LFS_ERR_PROTO;
    *set = got;
    got = NULL;
    return 0;
}

static int give_keys(struct keys *k, const struct keyset *set)
{
    bool opens = keys_is_root(k, set->pd_id) && volume_is_locked(k->d->vol);
    int r = opens ? volume_unlock(k->d->vol, set) : volume_pd_unlock(k->d->vol, set);
    if (r)
        log_error("%s: unlocking: %s", k->d->volume_path, lfs_strerror(r));
    if (opens) {
        k->unlock_again_at = r ? keys_now() + RETRY_MS : INT64_MAX;
        if (!r)
            log_info("%s: unlocked", k->d->volume_path);
    }
    return r;
}

int keys_take(struct keys *k, const uint8_t pd_id[static ID_BYTES], struct keyset **set)
{
    CLEANUP(keyset_freep) struct keyset *got = NULL;
    unsigned seconds = 0;
    int r = lease_one(k, pd_id, &got, &seconds);
    if (r) {
        keys_check_client(k);
        return r;
    }
    unsigned idle = keyclient_idle_s(k->client);
    struct lease *l = leases_add(&k->leases, pd_id);
    r = l ? give_keys(k, got) : -ENOMEM;
    if (r)
        return r;
    lease_begin(l, seconds, idle, keys_now());
    if (keys_is_root(k, pd_id))
        k->served = true;
    if (set) {
        *set = got;
        got = NULL;
    }
    return 0;
}

/* A keyd that gives the root's keys and refuses these has them locked: what is here from the one before it
 * goes. */
static void take_other(struct keys *k, const uint8_t pd_id[static ID_BYTES])
{
    char hex[2 * ID_BYTES + 1];
    unsigned held;
    int r = keys_take(k, pd_id, NULL);
    const struct lease *l = leases_find(&k->leases, pd_id);
    if (!r || !k->client)
        return;
    if (l && l->held)
        keys_lock(k, pd_id, "refused", false, &held);
    else if (r != LFS_ERR_NOKEY)
        log_warn("%s: directory %s stays locked: %s", k->d->volume_path, short_id(pd_id, hex),
                 lfs_strerror(r));
}

static void take_others(struct keys *k, const struct pd_list *list, bool even_idle)
{
    for (size_t i = 0; i < list->count && k->client; i++) {
        const struct lease *l = leases_find(&k->leases, list->ids[i]);
        if (!keys_is_root(k, list->ids[i]) && (even_idle || !l || !l->barred))
            take_other(k, list->ids[i]);
    }
}

void keys_take_all(struct keys *k, bool even_idle)
{
    CLEANUP(pd_list_clear) struct pd_list list = {0};
    /* At the start the root's keys are leased already, and given to the volume. */
    bool fresh = !k->running && k->leases.items[0].held;
    if (!fresh && keys_take(k, k->d->pd_id, NULL))
        return;
    int r = pd_list_read(k->d->volume_path, &list);
    if (!r && memcmp(list.volume_id, k->d->volume_id, ID_BYTES) != 0)
        r = LFS_ERR_ROLLBACK;
    if (r)
        log_error("%s: %s: %s", k->d->volume_path, KEYSTORE_NAME, lfs_strerror(r));
    else
        take_others(k, &list, even_idle);
}

/* ---- what the volume says of its directories ---- */

struct use {              /* of one directory, or of all */
    const uint8_t *pd_id; /* NULL: of all */
    uint64_t last_use;
};

static void add_use(const struct pd_status *st, void *arg)
{
    struct use *u = arg;
    if (u->pd_id && memcmp(u->pd_id, st->id, ID_BYTES) != 0)
        return;
    if (st->last_use > u->last_use)
        u->last_use = st->last_use;
}

static uint64_t last_use_of(const struct keys *k, const uint8_t pd_id[static ID_BYTES])
{
    struct use u = {.pd_id = keys_is_root(k, pd_id) ? NULL : pd_id};
    volume_pd_each(k->d->vol, add_use, &u);
    return u.last_use;
}

static uint64_t open_in(const struct keys *k, const uint8_t pd_id[static ID_BYTES])
{
    return open_files_now(k->d, keys_is_root(k, pd_id) ? NULL : pd_id);
}

unsigned keys_count_open(const struct keys *k, const uint8_t pd_id[static ID_BYTES])
{
    static const uint8_t zeros[ID_BYTES];
    bool all = memcmp(pd_id, zeros, ID_BYTES) == 0;
    uint64_t n = open_in(k, all ? k->d->pd_id : pd_id);
    return n < UINT32_MAX ? (unsigned)n : UINT32_MAX;
}

/* ---- locking ---- */

struct idle_lock {
    struct keys *k;
    const uint8_t *pd_id;
};

/* A file that was opened after the last look keeps its keys, if they can be had again. Else keyd hears of the
 * lock before it is done: an unlock that is asked for meanwhile then undoes it. */
static bool still_idle(void *arg)
{
    const struct idle_lock *ask = arg;
    struct keys *k = ask->k;
    if (open_in(k, ask->pd_id) > 0 && k->client && keys_take(k, ask->pd_id, NULL) == 0)
        return false;
    if (k->client)
        keyclient_locked_idle(k->client, k->d->volume_id, ask->pd_id);
    keys_check_client(k);
    return true;
}

static void end_all(struct keys *k, bool idle)
{
    for (size_t i = 0; i < k->leases.count; i++)
        lease_end(&k->leases.items[i], idle && i == 0);
}

/* Plaintext may be left in this process, or what was written did not get in place: nobody may take that for
 * a lock without a rest. */
static void note_rest(const struct keys *k, const char *what, int r, unsigned *held)
{
    log_error("%s: locking %s: %s; something may be left of it", k->d->volume_path, what, lfs_strerror(r));
    if (!*held)
        *held = 1;
}

static void lock_whole(struct keys *k, const char *why, bool idle, unsigned *held)
{
    struct idle_lock ask = {.k = k, .pd_id = k->d->pd_id};
    int r = lock_volume(k->d, idle ? still_idle : NULL, &ask, held);
    if (r == -ECANCELED)
        return;
    if (r)
        note_rest(k, "the volume", r, held);
    log_info("%s: locked (%s), %u files open", k->d->volume_path, why, *held);
    end_all(k, idle);
}

void keys_lock(struct keys *k, const uint8_t pd_id[static ID_BYTES], const char *why, bool idle,
               unsigned *held)
{
    char hex[2 * ID_BYTES + 1];
    *held = 0;
    if (keys_is_root(k, pd_id)) {
        lock_whole(k, why, idle, held);
        return;
    }
    struct lease *l = leases_find(&k->leases, pd_id);
    if (!l || volume_is_locked(k->d->vol))
        return;
    struct idle_lock ask = {.k = k, .pd_id = pd_id};
    int r = lock_directory(k->d, pd_id, idle ? still_idle : NULL, &ask, held);
    if (r == -ECANCELED)
        return;
    if (r)
        note_rest(k, short_id(pd_id, hex), r, held);
    log_info("%s: directory %s locked (%s), %u files open", k->d->volume_path, short_id(pd_id, hex), why,
             *held);
    lease_end(l, idle);
}

void keys_tell_idle(struct keys *k)
{
    for (size_t i = 1; i < k->leases.count && k->client; i++) {
        if (k->leases.items[i].barred)
            keyclient_locked_idle(k->client, k->d->volume_id, k->leases.items[i].pd_id);
        keys_check_client(k);
    }
}

/* ---- time ---- */

static void renew(struct keys *k, struct lease *l)
{
    int r = keyclient_renew(k->client, k->d->volume_id, keys_is_root(k, l->pd_id) ? NULL : l->pd_id);
    if (!r) {
        lease_extend(l, keys_now());
        return;
    }
    lease_refuse(l); /* unless keyd has only forgotten it, it runs out */
    keys_check_client(k);
    if (r == LFS_ERR_NOKEY)
        keys_take(k, l->pd_id, NULL);
}

static void lock_idle(struct keys *k, const struct lease *l)
{
    unsigned held;
    uint8_t pd[ID_BYTES];
    memcpy(pd, l->pd_id, ID_BYTES);
    keys_lock(k, pd, "idle", true, &held);
}

static bool is_idle(const struct keys *k, struct lease *l, int64_t now)
{
    if (!l->held || now < l->idle_at)
        return false;
    uint64_t used = last_use_of(k, l->pd_id);
    int64_t ago = used ? ((int64_t)time(NULL) - (int64_t)used) * 1000 : INT32_MAX;
    return lease_is_idle(l, lease_used_ago(l, ago), open_in(k, l->pd_id) > 0, now);
}

/* One look is good for all. */
static void watch_use(struct keys *k, int64_t now)
{
    lock_watch_use(k->d);
    for (size_t i = 0; i < k->leases.count; i++)
        lease_watched(&k->leases.items[i], now);
}

/* The table may move under keys_take, so entries are found anew by index. */
static void look_after(struct keys *k, size_t i, int64_t now)
{
    struct lease *l = &k->leases.items[i];
    unsigned held;
    if (lease_is_over(l, now))
        keys_lock(k, l->pd_id, "the lease has ended", false, &held);
    else if (is_idle(k, l, now))
        lock_idle(k, l);
    else if (k->client && lease_wants_renewal(l, now))
        renew(k, l);
    else if (lease_wants_watch(l, now))
        watch_use(k, now);
}

static bool grace_is_over(const struct keys *k, int64_t now)
{
    return !k->served && k->grace_ms && now >= k->lost_at + k->grace_ms && !volume_is_locked(k->d->vol);
}

/* ---- reports ---- */

struct uses {
    struct key_use *items;
    size_t count;
};

static void collect_use(const struct pd_status *st, void *arg)
{
    struct uses *u = arg;
    if (!st->last_use || u->count == USES_MAX)
        return;
    memcpy(u->items[u->count].pd_id, st->id, ID_BYTES);
    u->items[u->count++].last_use = st->last_use;
}

static bool is_news(const struct keys *k, uint64_t failures, const struct uses *u)
{
    return failures != k->told_failures || u->count != k->told_count ||
           (u->count && memcmp(u->items, k->told_uses, u->count * sizeof *u->items) != 0);
}

/* Only when something has changed since the last one. */
static void report(struct keys *k, int64_t now)
{
    struct volume_stats st;
    k->report_at = now + REPORT_MS;
    atomic_store(&k->d->refusals, 0);
    struct uses u = {.items = calloc(USES_MAX, sizeof *u.items)};
    if (!u.items)
        return;
    volume_stats(k->d->vol, &st);
    volume_pd_each(k->d->vol, collect_use, &u);
    if (!is_news(k, st.auth_failures, &u)) {
        free(u.items);
        return;
    }
    keyclient_report(k->client, st.auth_failures, u.items, u.count);
    keys_check_client(k);
    free(k->told_uses);
    k->told_uses = u.items;
    k->told_count = u.count;
    k->told_failures = st.auth_failures;
}

void keys_do_timed(struct keys *k, int64_t now)
{
    unsigned held;
    if (grace_is_over(k, now))
        keys_lock(k, k->d->pd_id, "no latch-keyd has given keys for too long", false, &held);
    if (k->client && now >= k->unlock_again_at)
        keys_take_all(k, false);
    for (size_t i = 0; i < k->leases.count; i++)
        look_after(k, i, now);
    if (k->client && (now >= k->report_at || atomic_load(&k->d->refusals)))
        report(k, now);
}

int64_t keys_next(const struct keys *k)
{
    int64_t next = leases_next(&k->leases, k->client != NULL);
    if (k->client && k->unlock_again_at < next)
        next = k->unlock_again_at;
    if (k->client && k->report_at < next)
        next = k->report_at;
    if (!k->served && k->grace_ms && !volume_is_locked(k->d->vol) && k->lost_at + k->grace_ms < next)
        next = k->lost_at + k->grace_ms;
    return next;
}
