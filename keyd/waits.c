/* Requests that wait until mounts have answered. */
#include "server.h"

#include "latchfs/err.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int64_t revoke_end(const struct server *s)
{
    return now_ms() + (int64_t)s->policy->revoke_wait_s * 1000;
}

struct wait *wait_add(struct server *s, enum wait_kind kind, struct conn *c, const struct proto_msg *q)
{
    struct wait *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    *w = (struct wait){.next = s->waits,
                       .kind = kind,
                       .conn_id = c ? c->id : 0,
                       .type = q->type,
                       .serial = q->serial,
                       .version = q->number,
                       .asked = s->moment,
                       .until = revoke_end(s)};
    if (c)
        w->peer = c->peer;
    memcpy(w->volume_id, q->volume, ID_BYTES);
    memcpy(w->pd_id, q->pd, ID_BYTES);
    s->waits = w;
    if (c)
        conn_set_busy(s, c, true);
    return w;
}

void waits_count(struct server *s, enum wait_kind kind, const uint8_t *volume_id, const uint8_t *pd_id,
                 unsigned held)
{
    for (struct wait *w = s->waits; w; w = w->next)
        if (w->kind == kind && same_id(w->volume_id, volume_id) && same_id(w->pd_id, pd_id))
            w->held = held > UINT32_MAX - w->held ? UINT32_MAX : w->held + held;
}

/* ---- who has not answered ---- */

static const struct {
    uint16_t push;
    const char *late; /* and so many mounts did not answer in time */
} kinds[] = {
    [WAIT_LOCK] = {P_PUSH_REVOKE, "the master keys are gone, but"},
    [WAIT_HELD] = {P_PUSH_HELD, "nothing was locked:"},
    [WAIT_LOCK_DIR] = {P_PUSH_REVOKE, "no more keys of the directory are given, but"},
    [WAIT_REKEYED] = {P_PUSH_REKEY, "the new version is not in use everywhere:"},
};

static bool is_waited_for(const struct wait *w, const struct conn *c)
{
    if (!conn_mounts(c, w->volume_id) || c->id == w->conn_id)
        return false;
    if (push_find(c, kinds[w->kind].push, w->kind == WAIT_LOCK ? NULL : w->pd_id))
        return true;
    const struct lease *l = w->kind == WAIT_REKEYED ? lease_find(c, w->volume_id, w->pd_id) : NULL;
    return l && l->said < w->version;
}

static unsigned count_waiting(const struct server *s, const struct wait *w)
{
    unsigned n = 0;
    for (const struct conn *c = s->conns; c; c = c->next)
        n += is_waited_for(w, c);
    return n;
}

/* Mounts that could not let files go at the lock of the whole volume. */
static unsigned count_held(const struct server *s, const struct wait *w)
{
    unsigned n = 0;
    for (const struct conn *c = s->conns; c; c = c->next)
        n += conn_mounts(c, w->volume_id) && c->id != w->conn_id && !push_find(c, P_PUSH_REVOKE, NULL) &&
             c->held > 0;
    return n;
}

/* ---- how it ends ---- */

static void log_own(struct server *s, const struct wait *w, int result)
{
    audit_write(s->audit,
                &(struct audit_act){.act = w->kind == WAIT_LOCK ? "lock" : "lock-dir",
                                    .volume_id = w->volume_id,
                                    .pd_id = w->kind == WAIT_LOCK ? NULL : w->pd_id,
                                    .result = result,
                                    .detail = "before the machine sleeps"},
                false);
}

static void wait_answer(struct server *s, const struct wait *w, unsigned waiting)
{
    struct conn *c = conn_find(s, w->conn_id);
    struct proto_msg m = {.type = w->type | P_REPLY, .serial = w->serial, .held = w->held};
    struct about about = {
        .volume_id = w->volume_id, .pd_id = w->kind == WAIT_LOCK ? NULL : w->pd_id, .peer = &w->peer};
    char text[128];
    if (w->conn_id == 0) {
        log_own(s, w, waiting ? LFS_ERR_TIMEOUT : w->failed);
        return;
    }
    if (c)
        conn_set_busy(s, c, false);
    if (w->failed) {
        request_refuse(s, c, w->type, w->serial, w->failed, "too many directories are locked", &about);
        return;
    }
    if (waiting) {
        snprintf(text, sizeof text, "%s %u mount%s did not answer in time", kinds[w->kind].late, waiting,
                 waiting == 1 ? "" : "s");
        request_refuse(s, c, w->type, w->serial, LFS_ERR_TIMEOUT, text, &about);
        return;
    }
    if (w->kind == WAIT_LOCK)
        m.held = count_held(s, w);
    m.done = w->kind == WAIT_LOCK_DIR;
    if (w->kind == WAIT_HELD || w->kind == WAIT_LOCK_DIR) {
        snprintf(text, sizeof text, "%u files open", w->held);
        about.detail = text;
        about.logged = w->kind == WAIT_HELD ? LFS_ERR_BUSY : 0;
    }
    request_answer(s, c, &m, &about);
}

/* Asks the mounts that leased or attached while others were asked: they may have files open, too. */
static bool ask_latecomers(struct server *s, struct wait *w)
{
    bool any = false;
    for (struct conn *c = s->conns; c; c = c->next) {
        if (c->id == w->conn_id || !conn_may_have(c, w->volume_id, w->pd_id))
            continue;
        const struct lease *l = lease_find(c, w->volume_id, w->pd_id);
        if ((l ? l->moment : c->attached_at) <= w->asked)
            continue;
        push_send(s, c, P_PUSH_HELD, w->pd_id);
        any = true;
    }
    w->asked = s->moment;
    return any;
}

/* True when the request is answered. */
static bool wait_check(struct server *s, struct wait *w, int64_t now)
{
    unsigned waiting = count_waiting(s, w);
    if (waiting && now < w->until && !w->failed)
        return false;
    if (w->kind == WAIT_HELD && !waiting && !w->held && !w->failed) {
        if (now < w->until && ask_latecomers(s, w))
            return false;
        begin_lock_dir(s, w);
        waiting = count_waiting(s, w);
    }
    if (w->kind == WAIT_LOCK_DIR && waiting && now < w->until)
        return false;
    wait_answer(s, w, waiting);
    return true;
}

void waits_check(struct server *s, int64_t now)
{
    for (struct wait **at = &s->waits; *at;) {
        struct wait *w = *at;
        if (!wait_check(s, w, now)) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        free(w);
    }
}

int64_t waits_next_time(const struct server *s)
{
    int64_t at = 0;
    for (const struct wait *w = s->waits; w; w = w->next)
        at = sooner(at, w->until);
    return at;
}

/* Who asked is gone: what was begun goes on, what was not begun ends here. */
void waits_conn_gone(struct server *s, const struct conn *c)
{
    for (struct wait **at = &s->waits; *at;) {
        struct wait *w = *at;
        if (w->conn_id != c->id || w->kind == WAIT_LOCK || w->kind == WAIT_LOCK_DIR) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        free(w);
    }
}

void waits_clear(struct server *s)
{
    while (s->waits) {
        struct wait *w = s->waits;
        s->waits = w->next;
        free(w);
    }
}
