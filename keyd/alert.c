#include "alert.h"

#include "alert_helper.h"
#include "alert_peers.h"
#include "json.h"
#include "latchfs/buf.h"
#include "latchfs/log.h"

#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define WINDOWS_MAX 256u
#define DIRS_MAX 4096u      /* remembered for ALERT_BULK */
#define RAISED_A_MINUTE 60u /* records; beyond them alarms are only counted */
#define RAISED_OF_USER 20u  /* of these, about one user */
#define RAISERS_MAX 64u

struct window { /* events of one kind and one source */
    enum alert_event ev;
    uint64_t who;
    int64_t since;
    uint64_t count;
    bool raised; /* once in a window is enough */
};
struct seen_dir {
    uint64_t who, dir;
    int64_t at;
};

struct raiser { /* records about one user in the minute since */
    uint64_t who;
    int64_t since;
    unsigned count;
};

struct alert {
    const struct policy *policy;
    int fd; /* of the helper; -1: none */
    struct audit *audit;
    struct alert_peers *peers;
    struct window windows[WINDOWS_MAX];
    struct seen_dir dirs[DIRS_MAX];
    uint64_t raised[ALERT_EVENTS];
    int64_t minute;
    unsigned this_minute;
    struct raiser raisers[RAISERS_MAX];
    uint64_t unsent; /* the helper's queue was full */
};

static const char *const names[ALERT_EVENTS] = {
    [ALERT_UNLOCK_FAILED] = "unlock-failures",
    [ALERT_LEASE_RATE] = "lease-rate",
    [ALERT_NEW_PEER] = "new-peer",
    [ALERT_AUTH_FAILURES] = "auth-failures",
    [ALERT_AUDIT] = "audit",
    [ALERT_BULK] = "bulk-unwrap",
};

const char *alert_event_name(enum alert_event ev)
{
    return names[ev];
}

uint64_t alert_count(const struct alert *al, enum alert_event ev)
{
    return al ? al->raised[ev] : 0;
}

static int64_t now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return t.tv_sec;
}

int alert_start(const struct policy *p, struct alert **out)
{
    struct alert *al = calloc(1, sizeof *al);
    if (!al)
        return -ENOMEM;
    al->policy = p;
    al->fd = -1;
    int r = p->alert_command[0] ? alert_helper_start(p->alert_command, &al->fd) : 0;
    if (r) {
        free(al);
        return r;
    }
    *out = al;
    return 0;
}

void alert_free(struct alert *al)
{
    if (!al)
        return;
    if (al->fd >= 0)
        close(al->fd);
    alert_peers_free(al->peers);
    free(al);
}

int alert_remember(struct alert *al, int statedir)
{
    return alert_peers_open(statedir, &al->peers);
}

/* ---- raising ---- */

static void put_about(struct json *j, const struct audit_act *about)
{
    char hex[2 * ID_BYTES + 1];
    if (about && about->peer) {
        json_number(j, "uid", about->peer->uid);
        json_number(j, "pid", (uint64_t)about->peer->pid);
    }
    if (about && about->volume_id) {
        id_to_hex(about->volume_id, hex);
        json_string(j, "volume", hex);
    }
}

static void send_json(struct alert *al, const struct json *j)
{
    if (!j->bad && j->len <= ALERT_JSON_MAX && send(al->fd, j->p, j->len, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) {
        al->unsent = 0;
        return;
    }
    al->unsent++;
    if (errno != EPIPE && errno != ECONNRESET)
        return;
    log_error("the helper that runs alert_command has ended; alarms are only recorded");
    close(al->fd);
    al->fd = -1;
}

/* Ends with "}\n": the helper puts a count in before that. */
static void run_command(struct alert *al, struct audit *au, enum alert_event ev,
                        const struct audit_act *about, const char *detail)
{
    struct json j = {0};
    struct audit_counts n = {0};
    char when[32];
    time_t now = time(NULL);
    struct tm tm;
    if (al->fd < 0)
        return;
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
    if (au)
        audit_counts(au, &n);
    json_open(&j, NULL, '{');
    json_string(&j, "time", when);
    json_string(&j, "event", names[ev]);
    put_about(&j, about);
    json_string(&j, "detail", detail);
    json_number(&j, "record", n.records);
    if (al->unsent)
        json_number(&j, "unsent", al->unsent);
    json_close(&j, '}');
    json_raw(&j, "\n");
    send_json(al, &j);
    json_clear(&j);
}

/* Counts an alarm; false when there were too many about that user. */
static bool may_raise(struct alert *al, uint64_t who)
{
    int64_t now = now_s();
    struct raiser *r = &al->raisers[0];
    for (size_t i = 0; i < RAISERS_MAX; i++) {
        struct raiser *x = &al->raisers[i];
        if (x->count && x->who == who) {
            r = x;
            break;
        }
        if (!x->count || (r->count && x->since < r->since))
            r = x;
    }
    if (!r->count || r->who != who || now - r->since >= 60)
        *r = (struct raiser){.who = who, .since = now};
    if (now - al->minute >= 60) {
        al->minute = now;
        al->this_minute = 0;
    }
    if (r->count >= RAISED_OF_USER || al->this_minute >= RAISED_A_MINUTE)
        return false;
    r->count++;
    al->this_minute++;
    return true;
}

/* False: only counted. */
static bool raise_alarm(struct alert *al, struct audit *au, enum alert_event ev,
                        const struct audit_act *about, const char *detail)
{
    al->raised[ev]++;
    if (!may_raise(al, about && about->peer ? about->peer->uid : UINT64_MAX))
        return false;
    if (ev != ALERT_AUDIT && au) {
        struct audit_act act = about ? *about : (struct audit_act){0};
        act.act = "alarm";
        act.event = names[ev];
        act.detail = detail;
        audit_write(au, &act, false);
    }
    run_command(al, au, ev, about, detail);
    return true;
}

/* ---- counting ---- */

static struct window *window_of(struct alert *al, enum alert_event ev, uint64_t who)
{
    int64_t now = now_s();
    struct window *w = &al->windows[0];
    for (size_t i = 0; i < WINDOWS_MAX; i++) {
        struct window *x = &al->windows[i];
        if (x->count && x->ev == ev && x->who == who) {
            w = x;
            break;
        }
        if (!x->count || (w->count && x->since < w->since))
            w = x;
    }
    if (!w->count || w->ev != ev || w->who != who || now - w->since >= (int64_t)al->policy->alert_s)
        *w = (struct window){.ev = ev, .who = who, .since = now};
    return w;
}

static unsigned limit_of(const struct policy *p, enum alert_event ev)
{
    switch (ev) {
    case ALERT_UNLOCK_FAILED:
        return p->alert_unlock_failures;
    case ALERT_LEASE_RATE:
        return p->alert_leases;
    case ALERT_BULK:
        return p->alert_bulk;
    case ALERT_AUTH_FAILURES:
        return p->alert_auth_failures;
    default:
        return 0;
    }
}

static uint64_t hash_of_dir(const struct audit_act *about)
{
    uint8_t ids[2 * ID_BYTES] = {0};
    uint8_t hash[crypto_generichash_BYTES_MIN];
    uint64_t h;
    if (about->volume_id)
        memcpy(ids, about->volume_id, ID_BYTES);
    if (about->pd_id)
        memcpy(ids + ID_BYTES, about->pd_id, ID_BYTES);
    crypto_generichash(hash, sizeof hash, ids, sizeof ids, NULL, 0);
    memcpy(&h, hash, sizeof h);
    return h;
}

/* True if this user was not given this directory within the window yet. */
static bool is_new_dir(struct alert *al, uint64_t who, const struct audit_act *about)
{
    int64_t now = now_s(), since = now - (int64_t)al->policy->alert_s;
    uint64_t dir = hash_of_dir(about);
    struct seen_dir *oldest = &al->dirs[0];
    for (size_t i = 0; i < DIRS_MAX; i++) {
        struct seen_dir *d = &al->dirs[i];
        if (d->at > since && d->who == who && d->dir == dir)
            return false;
        if (d->at < oldest->at)
            oldest = d;
    }
    *oldest = (struct seen_dir){.who = who, .dir = dir, .at = now};
    return true;
}

static uint64_t source_of(enum alert_event ev, const struct audit_act *about)
{
    if (!about || !about->peer)
        return 0;
    return ev == ALERT_AUTH_FAILURES ? (uint64_t)about->peer->pid : about->peer->uid;
}

/* In one window of one source, once is enough. */
static void raise_once(struct alert *al, struct audit *au, struct window *w, const struct audit_act *about,
                       const char *detail)
{
    if (w->raised)
        return;
    w->raised = raise_alarm(al, au, w->ev, about, detail);
}

static void count(struct alert *al, struct audit *au, enum alert_event ev, const struct audit_act *about,
                  uint64_t n)
{
    static const char *const what[ALERT_EVENTS] = {[ALERT_UNLOCK_FAILED] = "wrong secrets",
                                                   [ALERT_LEASE_RATE] = "leases",
                                                   [ALERT_BULK] = "different directories leased",
                                                   [ALERT_AUTH_FAILURES] = "changed chunks or headers met"};
    char detail[160];
    unsigned limit = limit_of(al->policy, ev);
    if (!limit || !n)
        return;
    struct window *w = window_of(al, ev, source_of(ev, about));
    w->count += n;
    if (ev == ALERT_AUTH_FAILURES ? w->count < limit : w->count <= limit)
        return;
    snprintf(detail, sizeof detail, "%" PRIu64 " %s within %u s", w->count, what[ev], al->policy->alert_s);
    raise_once(al, au, w, about, detail);
}

static void count_lease(struct alert *al, struct audit *au, const struct audit_act *about)
{
    count(al, au, ALERT_LEASE_RATE, about, 1);
    if (about && is_new_dir(al, source_of(ALERT_BULK, about), about))
        count(al, au, ALERT_BULK, about, 1);
}

static void rate_refused(struct alert *al, struct audit *au, const struct audit_act *about)
{
    struct window *w = window_of(al, ALERT_LEASE_RATE, source_of(ALERT_LEASE_RATE, about));
    w->count++;
    raise_once(al, au, w, about, "a lease was refused: more of this directory than policy allows a minute");
}

static void look_at_peer(struct alert *al, struct audit *au, const struct audit_act *about)
{
    char exe[ALERT_EXE_MAX], detail[ALERT_EXE_MAX + 64];
    if (!about || !about->peer || !alert_peers_meet(al->peers, about->peer, exe) ||
        !al->policy->alert_new_peer)
        return;
    snprintf(detail, sizeof detail, "keys to a program and user not seen before: %s", exe);
    raise_alarm(al, au, ALERT_NEW_PEER, about, detail);
}

void alert_note_many(struct alert *al, struct audit *au, enum alert_event ev, const struct audit_act *about,
                     uint64_t n)
{
    if (!al)
        return;
    switch (ev) {
    case ALERT_NEW_PEER:
        look_at_peer(al, au, about);
        break;
    case ALERT_AUDIT:
        raise_alarm(al, au, ev, about, about && about->detail ? about->detail : "the audit log");
        break;
    case ALERT_LEASE_RATE:
        rate_refused(al, au, about);
        break;
    case ALERT_BULK:
        count_lease(al, au, about);
        break;
    default:
        count(al, au, ev, about, n);
    }
}

void alert_note(struct alert *al, struct audit *au, enum alert_event ev, const struct audit_act *about)
{
    alert_note_many(al, au, ev, about, 1);
}

static void on_trouble(void *arg, const char *what)
{
    struct alert *al = arg;
    alert_note(al, al->audit, ALERT_AUDIT, &(struct audit_act){.detail = what});
}

void alert_watch(struct alert *al, struct audit *au)
{
    if (!al)
        return;
    al->audit = au;
    audit_watch(au, on_trouble, al);
}
