/* Unlocked volumes, the mounts that hold their keys, and how both end. */
#include "server.h"

#include "latchfs/err.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool same(const uint8_t *a, const uint8_t *b)
{
    return memcmp(a, b, ID_BYTES) == 0;
}

struct unlocked *volume_find(struct server *s, const uint8_t id[static ID_BYTES])
{
    for (struct unlocked *u = s->volumes; u; u = u->next)
        if (same(u->ks->volume_id, id))
            return u;
    return NULL;
}

static void unlocked_clear(struct unlocked *u)
{
    keystore_free(u->ks);
    vault_free(u->vault);
}

static void tell_unlocked(struct server *s, const uint8_t id[static ID_BYTES])
{
    struct proto_msg push = {.type = P_PUSH_UNLOCKED};
    memcpy(push.volume, id, ID_BYTES);
    for (struct conn *c = s->conns; c; c = c->next) {
        if (!c->attached || c->dead || !same(c->volume_id, id))
            continue;
        push.serial = ++s->next_push;
        conn_send(s, c, &push);
    }
}

int volume_put(struct server *s, struct keystore *ks, struct vault *v)
{
    struct unlocked *u = volume_find(s, ks->volume_id);
    if (u) {
        unlocked_clear(u);
    } else {
        u = calloc(1, sizeof *u);
        if (!u) {
            vault_free(v);
            return -ENOMEM;
        }
        u->next = s->volumes;
        s->volumes = u;
    }
    u->ks = ks;
    u->vault = v;
    tell_unlocked(s, ks->volume_id);
    return 0;
}

bool volume_drop(struct server *s, const uint8_t id[static ID_BYTES])
{
    for (struct unlocked **at = &s->volumes; *at; at = &(*at)->next) {
        struct unlocked *u = *at;
        if (!same(u->ks->volume_id, id))
            continue;
        *at = u->next;
        unlocked_clear(u);
        free(u);
        return true;
    }
    return false;
}

void volumes_clear(struct server *s)
{
    while (s->volumes)
        volume_drop(s, s->volumes->ks->volume_id);
    while (s->locks) {
        struct lock_wait *w = s->locks;
        s->locks = w->next;
        free(w);
    }
}

/* ---- leases ---- */

static struct lease *lease_find(struct conn *c, const uint8_t *volume_id, const uint8_t *pd_id)
{
    for (struct lease *l = c->leases; l; l = l->next)
        if (same(l->volume_id, volume_id) && same(l->pd_id, pd_id))
            return l;
    return NULL;
}

/* volume_id NULL: all. Returns how many. */
static unsigned leases_end(struct conn *c, const uint8_t *volume_id)
{
    unsigned n = 0;
    for (struct lease **at = &c->leases; *at;) {
        struct lease *l = *at;
        if (volume_id && !same(l->volume_id, volume_id)) {
            at = &l->next;
            continue;
        }
        *at = l->next;
        free(l);
        n++;
    }
    return n;
}

static int64_t lease_end_time(const struct server *s)
{
    return s->policy->lease_s ? now_ms() + (int64_t)s->policy->lease_s * 1000 : 0;
}

static int lease_note(struct server *s, struct conn *c, const uint8_t *volume_id, const uint8_t *pd_id)
{
    struct lease *l = lease_find(c, volume_id, pd_id);
    if (!l) {
        l = calloc(1, sizeof *l);
        if (!l)
            return -ENOMEM;
        memcpy(l->volume_id, volume_id, ID_BYTES);
        memcpy(l->pd_id, pd_id, ID_BYTES);
        l->next = c->leases;
        c->leases = l;
    }
    l->until = lease_end_time(s);
    return 0;
}

/* Zeros mean the root's directory. */
static const uint8_t *dir_of(const struct keystore *ks, const uint8_t pd[static ID_BYTES])
{
    static const uint8_t zeros[ID_BYTES];
    return same(pd, zeros) ? ks->root_id : pd;
}

void handle_attach(struct server *s, struct conn *c, const struct proto_msg *q)
{
    struct proto_msg m = {.type = P_ATTACH | P_REPLY, .serial = q->serial, .grace_s = s->policy->grace_s};
    struct about about = {.volume_id = q->volume};
    if (c->attached && !same(c->volume_id, q->volume)) {
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
    memcpy(c->volume_id, q->volume, ID_BYTES);
    request_answer(s, c, &m, &about);
}

void handle_lease(struct server *s, struct conn *c, const struct proto_msg *q)
{
    struct proto_msg m = {.type = P_LEASE | P_REPLY, .serial = q->serial, .lease_s = s->policy->lease_s};
    struct unlocked *u = volume_find(s, q->volume);
    const uint8_t *pd = u ? dir_of(u->ks, q->pd) : q->pd;
    struct about about = {.volume_id = q->volume, .pd_id = pd};
    int r = u ? keystore_unwrap_dir(u->ks, pd, vault_lookup, u->vault, &m.keys) : LFS_ERR_NOKEY;
    if (!r)
        r = lease_note(s, c, q->volume, pd);
    if (r) {
        request_refuse(s, c, P_LEASE, q->serial, r, u ? "" : "the volume is locked", &about);
    } else {
        c->held = 0;
        c->wiped = false;
        request_answer(s, c, &m, &about);
    }
    proto_msg_clear(&m);
}

void handle_renew(struct server *s, struct conn *c, const struct proto_msg *q)
{
    struct proto_msg m = {.type = P_RENEW | P_REPLY, .serial = q->serial, .lease_s = s->policy->lease_s};
    struct unlocked *u = volume_find(s, q->volume);
    struct lease *l = u ? lease_find(c, q->volume, dir_of(u->ks, q->pd)) : NULL;
    if (l)
        l->until = lease_end_time(s);
    else
        m.result = LFS_ERR_NOKEY;
    conn_send(s, c, &m);
}

/* ---- locking ---- */

static void answer_lock(struct server *s, const struct lock_wait *w, unsigned waiting, unsigned held)
{
    struct conn *c = conn_find(s, w->conn_id);
    struct proto_msg m = {.type = P_LOCK | P_REPLY, .serial = w->serial, .held = held};
    struct about about = {.volume_id = w->volume_id};
    char why[96];
    if (c)
        conn_set_busy(s, c, false);
    if (!waiting) {
        request_answer(s, c, &m, &about);
        return;
    }
    snprintf(why, sizeof why, "the master keys are gone, but %u mount%s did not answer in time", waiting,
             waiting == 1 ? "" : "s");
    request_refuse(s, c, P_LOCK, w->serial, LFS_ERR_TIMEOUT, why, &about);
}

static void count_mounts(const struct server *s, const struct lock_wait *w, unsigned *waiting, unsigned *held)
{
    *waiting = *held = 0;
    for (const struct conn *c = s->conns; c; c = c->next) {
        if (!c->attached || c->dead || !same(c->volume_id, w->volume_id) || c->id == w->conn_id)
            continue;
        *waiting += c->revoke != 0;
        *held += c->revoke == 0 && c->held > 0;
    }
}

static void check_locks(struct server *s, int64_t now)
{
    for (struct lock_wait **at = &s->locks; *at;) {
        struct lock_wait *w = *at;
        unsigned waiting, held;
        count_mounts(s, w, &waiting, &held);
        if (waiting && now < w->until) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        answer_lock(s, w, waiting, held);
        free(w);
    }
}

/* Tells every mount that may have keys of the volume. True if any may, or anybody had a lease. */
static bool revoke_leases(struct server *s, const uint8_t id[static ID_BYTES])
{
    struct proto_msg push = {.type = P_PUSH_REVOKE};
    bool any = false;
    memcpy(push.volume, id, ID_BYTES);
    for (struct conn *c = s->conns; c; c = c->next) {
        any = leases_end(c, id) > 0 || any;
        if (!c->attached || c->dead || !same(c->volume_id, id) || c->wiped)
            continue;
        any = true;
        if (c->revoke)
            continue;
        c->held = 0;
        push.serial = c->revoke = ++s->next_push ? s->next_push : ++s->next_push;
        conn_send(s, c, &push);
    }
    return any;
}

void handle_lock(struct server *s, struct conn *c, const struct proto_msg *q)
{
    struct about about = {.volume_id = q->volume};
    struct lock_wait *w = calloc(1, sizeof *w);
    if (!w) {
        request_refuse(s, c, P_LOCK, q->serial, -ENOMEM, "", &about);
        return;
    }
    bool was_unlocked = volume_drop(s, q->volume);
    if (!revoke_leases(s, q->volume) && !was_unlocked) {
        free(w);
        request_refuse(s, c, P_LOCK, q->serial, LFS_ERR_NOKEY, "the volume is locked already", &about);
        return;
    }
    w->conn_id = c->id;
    w->serial = q->serial;
    memcpy(w->volume_id, q->volume, ID_BYTES);
    w->until = now_ms() + (int64_t)s->policy->revoke_wait_s * 1000;
    w->next = s->locks;
    s->locks = w;
    conn_set_busy(s, c, true);
    check_locks(s, now_ms());
}

void handle_revoked(struct server *s, struct conn *c, const struct proto_msg *q)
{
    struct proto_msg m = {.type = P_REVOKED | P_REPLY, .serial = q->serial};
    struct about about = {.volume_id = c->volume_id};
    char detail[64];
    if (c->revoke == 0 || q->push != c->revoke) {
        request_refuse(s, c, P_REVOKED, q->serial, LFS_ERR_MISUSE, "nothing was revoked by that number",
                       &about);
        return;
    }
    c->revoke = 0;
    c->wiped = true;
    c->held = q->held;
    snprintf(detail, sizeof detail, "%u files still open or mapped", q->held);
    about.detail = detail;
    request_answer(s, c, &m, &about);
    check_locks(s, now_ms());
}

/* ---- time ---- */

static void end_lease(struct server *s, struct conn *c, const struct lease *l)
{
    audit_write(s->audit,
                &(struct audit_act){
                    .act = "lease-end", .peer = &c->peer, .volume_id = l->volume_id, .pd_id = l->pd_id},
                false);
}

void volumes_check_time(struct server *s, int64_t now)
{
    for (struct conn *c = s->conns; c; c = c->next) {
        for (struct lease **at = &c->leases; *at;) {
            struct lease *l = *at;
            if (!l->until || now < l->until) {
                at = &l->next;
                continue;
            }
            *at = l->next;
            end_lease(s, c, l);
            free(l);
        }
    }
    check_locks(s, now);
}

int64_t volumes_next_time(const struct server *s)
{
    int64_t at = 0;
    for (const struct conn *c = s->conns; c; c = c->next)
        for (const struct lease *l = c->leases; l; l = l->next)
            if (l->until && (!at || l->until < at))
                at = l->until;
    for (const struct lock_wait *w = s->locks; w; w = w->next)
        if (!at || w->until < at)
            at = w->until;
    return at;
}

void volumes_conn_gone(struct server *s, struct conn *c)
{
    if (leases_end(c, NULL) && c->attached)
        audit_write(s->audit,
                    &(struct audit_act){.act = "detach", .peer = &c->peer, .volume_id = c->volume_id}, false);
}
