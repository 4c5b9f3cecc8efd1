/* Mounts: what keyd pushes to them, and what they say. */
#include "server.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool conn_mounts(const struct conn *c, const uint8_t *volume_id)
{
    return c->attached && !c->dead && same_id(c->volume_id, volume_id);
}

bool conn_may_have(const struct conn *c, const uint8_t *volume_id, const uint8_t *pd_id)
{
    if (!conn_mounts(c, volume_id) || c->wiped || !(c->may_lease || c->leased))
        return false;
    return !pd_id || lease_find(c, volume_id, pd_id) || !lease_any(c, volume_id);
}

/* ---- pushes ---- */

static const uint8_t whole[ID_BYTES];

struct push *push_find(const struct conn *c, uint16_t type, const uint8_t *pd_id)
{
    for (struct push *p = c->pushes; p; p = p->next)
        if (p->type == type && same_id(p->pd_id, pd_id ? pd_id : whole))
            return p;
    return NULL;
}

static uint32_t next_serial(struct server *s)
{
    return ++s->next_push ? s->next_push : ++s->next_push;
}

static struct push *push_note(struct server *s, struct conn *c, uint16_t type, const uint8_t *pd_id)
{
    unsigned n = 0;
    for (const struct push *p = c->pushes; p; p = p->next)
        n++;
    struct push *p = n < PUSHES_MAX ? calloc(1, sizeof *p) : NULL;
    if (!p)
        return NULL;
    *p = (struct push){.next = c->pushes, .type = type, .serial = next_serial(s)};
    memcpy(p->pd_id, pd_id ? pd_id : whole, ID_BYTES);
    c->pushes = p;
    return p;
}

void push_send(struct server *s, struct conn *c, uint16_t type, const uint8_t *pd_id)
{
    struct proto_msg m = {.type = type};
    memcpy(m.volume, c->volume_id, ID_BYTES);
    memcpy(m.pd, pd_id ? pd_id : whole, ID_BYTES);
    if (type == P_PUSH_UNLOCKED) {
        m.serial = next_serial(s);
    } else {
        if (push_find(c, type, pd_id))
            return;
        const struct push *p = push_note(s, c, type, pd_id);
        if (!p) {
            c->dead =
                true; /* it would not know that its keys are revoked: then it must know that keyd is gone */
            return;
        }
        m.serial = p->serial;
    }
    conn_send(s, c, &m);
}

void push_rekey(struct server *s, struct conn *c, const uint8_t *pd_id)
{
    struct push *p = push_find(c, P_PUSH_REKEY, pd_id);
    if (p)
        p->again = true;
    else
        push_send(s, c, P_PUSH_REKEY, pd_id);
}

/* Takes the push that is answered off the list. */
static bool push_take(struct conn *c, uint16_t type, uint32_t serial, struct push *out)
{
    for (struct push **at = &c->pushes; *at; at = &(*at)->next) {
        struct push *p = *at;
        if (p->type != type || p->serial != serial)
            continue;
        *at = p->next;
        *out = *p;
        free(p);
        return true;
    }
    return false;
}

void pushes_clear(struct conn *c)
{
    while (c->pushes) {
        struct push *p = c->pushes;
        c->pushes = p->next;
        free(p);
    }
}

/* ---- what they say ---- */

void handle_attach(struct server *s, struct conn *c, const struct proto_msg *q)
{
    struct proto_msg m = {.type = P_ATTACH | P_REPLY, .serial = q->serial, .grace_s = s->policy->grace_s};
    struct about about = {.volume_id = q->volume};
    if (c->attached && !same_id(c->volume_id, q->volume)) {
        request_refuse(s, c, P_ATTACH, q->serial, LFS_ERR_MISUSE, "a connection serves one mount", &about);
        return;
    }
    char *path = strndup(q->path.len ? (const char *)q->path.p : "", q->path.len);
    if (!path) {
        request_refuse(s, c, P_ATTACH, q->serial, -ENOMEM, "", &about);
        return;
    }
    free(c->mountpoint);
    c->mountpoint = path;
    c->attached = true;
    c->attached_at = ++s->moment;
    c->leased = c->leased || lease_any(c, q->volume);
    c->may_lease = policy_may_lease(
        s->policy,
        &(struct policy_ask){.uid = c->peer.uid, .gids = c->gids, .ngids = c->ngids, .volume_id = q->volume});
    memcpy(c->volume_id, q->volume, ID_BYTES);
    request_answer(s, c, &m, &about);
    if (marked(s, q->volume, whole, 0) && !volume_find(s, q->volume))
        push_send(s, c, P_PUSH_REVOKE, NULL); /* it was locked while this mount was not connected */
}

static void refuse_answer(struct server *s, struct conn *c, const struct proto_msg *q)
{
    request_refuse(s, c, q->type, q->serial, LFS_ERR_MISUSE, "nothing was asked by that number",
                   &(struct about){.volume_id = c->volume_id});
}

static void answer_mount(struct server *s, struct conn *c, const struct proto_msg *q,
                         const struct about *about)
{
    struct proto_msg m = {.type = q->type | P_REPLY, .serial = q->serial};
    request_answer(s, c, &m, about);
    waits_check(s, now_ms());
}

void handle_revoked(struct server *s, struct conn *c, const struct proto_msg *q)
{
    struct push p;
    char detail[64];
    if (!push_take(c, P_PUSH_REVOKE, q->push, &p)) {
        refuse_answer(s, c, q);
        return;
    }
    bool dir = !is_zero_id(p.pd_id);
    if (dir) {
        waits_count(s, WAIT_LOCK_DIR, c->volume_id, p.pd_id, q->held);
    } else {
        c->wiped = true;
        c->held = q->held;
    }
    snprintf(detail, sizeof detail, "%u files still open or mapped", q->held);
    answer_mount(s, c, q,
                 &(struct about){.volume_id = c->volume_id, .pd_id = dir ? p.pd_id : NULL, .detail = detail});
}

void handle_held(struct server *s, struct conn *c, const struct proto_msg *q)
{
    struct push p;
    if (!push_take(c, P_PUSH_HELD, q->push, &p)) {
        refuse_answer(s, c, q);
        return;
    }
    waits_count(s, WAIT_HELD, c->volume_id, p.pd_id, q->held);
    answer_mount(s, c, q, &(struct about){0});
}

/* The mount has its keys anew; a version that it did not lease it can't use. 0: it has none of them. */
void handle_rekeyed(struct server *s, struct conn *c, const struct proto_msg *q)
{
    struct push p;
    char detail[64];
    if (!push_take(c, P_PUSH_REKEY, q->push, &p) || !same_id(p.pd_id, q->pd)) {
        refuse_answer(s, c, q);
        return;
    }
    struct lease *l = lease_find(c, c->volume_id, p.pd_id);
    if (l && q->number)
        l->said = q->number < l->version ? q->number : l->version;
    else if (l)
        leases_end(c, c->volume_id, p.pd_id);
    snprintf(detail, sizeof detail, "version %" PRIu32, q->number);
    if (p.again && lease_find(c, c->volume_id, p.pd_id))
        push_rekey(s, c, p.pd_id);
    answer_mount(s, c, q, &(struct about){.volume_id = c->volume_id, .pd_id = p.pd_id, .detail = detail});
}

void handle_locked_idle(struct server *s, struct conn *c, const struct proto_msg *q)
{
    struct unlocked *u = volume_find(s, q->volume);
    const uint8_t *pd = u ? volume_dir(u->ks, q->pd) : q->pd;
    struct about about = {.volume_id = q->volume, .pd_id = pd};
    int r = conn_mounts(c, q->volume) ? 0 : LFS_ERR_MISUSE;
    if (!r && u)
        r = volume_note(u, pd) ? mark_add(s, q->volume, pd, c->id) : -ENOENT;
    if (r) {
        request_refuse(s, c, P_LOCKED_IDLE, q->serial, r, "", &about);
        return;
    }
    leases_end(c, q->volume, pd);
    answer_mount(s, c, q, &about);
}

static void note_uses(struct unlocked *u, const struct proto_msg *q)
{
    struct rcur c = rcur_over(q->uses.p, q->uses.len);
    time_t now = time(NULL);
    while (c.left) {
        uint8_t pd[ID_BYTES];
        rcur_bytes(&c, pd, ID_BYTES);
        uint64_t at = rcur_u64(&c);
        struct dir_note *n = volume_note(u, pd);
        if (n && at <= (uint64_t)now && (time_t)at > n->last_use)
            n->last_use = (time_t)at;
    }
}

void handle_report(struct server *s, struct conn *c, const struct proto_msg *q)
{
    struct proto_msg m = {.type = P_REPORT | P_REPLY, .serial = q->serial};
    if (!c->attached) {
        request_refuse(s, c, P_REPORT, q->serial, LFS_ERR_MISUSE, "only mounts report", &(struct about){0});
        return;
    }
    struct unlocked *u = volume_find(s, c->volume_id);
    uint64_t more = q->failures > c->auth_failures ? q->failures - c->auth_failures : 0;
    c->auth_failures = q->failures;
    if (u) {
        u->auth_failures += more;
        note_uses(u, q);
    }
    if (more)
        alert_note_many(s->alert, s->audit, ALERT_AUTH_FAILURES,
                        &(struct audit_act){.act = "report", .peer = &c->peer, .volume_id = c->volume_id},
                        more);
    conn_send(s, c, &m);
}

void mount_gone(struct server *s, struct conn *c)
{
    if (leases_end(c, NULL, NULL) && c->attached)
        audit_write(s->audit,
                    &(struct audit_act){.act = "detach", .peer = &c->peer, .volume_id = c->volume_id}, false);
    marks_conn_gone(s, c->id); /* if it comes back, it says so again */
    pushes_clear(c);
}
