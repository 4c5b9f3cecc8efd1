/* Locking, and other requests that wait until mounts have answered. */
#include "server.h"

#include "latchfs/err.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t revoke_end(const struct server *s)
{
    return now_ms() + (int64_t)s->policy->revoke_wait_s * 1000;
}

static struct wait *wait_add(struct server *s, enum wait_kind kind, struct conn *c, const struct proto_msg *q)
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
                       .until = revoke_end(s)};
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
    struct about about = {.volume_id = w->volume_id, .pd_id = w->kind == WAIT_LOCK ? NULL : w->pd_id};
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

void dir_revoke(struct server *s, const uint8_t *volume_id, const uint8_t *pd_id)
{
    for (struct conn *c = s->conns; c; c = c->next) {
        bool may_have = conn_may_have(c, volume_id, pd_id);
        leases_end(c, volume_id, pd_id);
        if (may_have)
            push_send(s, c, P_PUSH_REVOKE, pd_id);
    }
}

/* The mounts said that nothing is open, or nobody asked them. */
static void begin_lock_dir(struct server *s, struct wait *w)
{
    w->failed = mark_add(s, w->volume_id, w->pd_id, 0);
    if (w->failed)
        return;
    w->kind = WAIT_LOCK_DIR;
    w->held = 0;
    w->until = revoke_end(s);
    dir_revoke(s, w->volume_id, w->pd_id);
}

/* True when the request is answered. */
static bool wait_check(struct server *s, struct wait *w, int64_t now)
{
    unsigned waiting = count_waiting(s, w);
    if (waiting && now < w->until && !w->failed)
        return false;
    if (w->kind == WAIT_HELD && !waiting && !w->held && !w->failed) {
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

/* ---- the whole volume ---- */

/* Tells every mount that may have keys of the volume. True if any may, or anybody had a lease. */
static bool revoke_all(struct server *s, const uint8_t *volume_id)
{
    bool any = false;
    for (struct conn *c = s->conns; c; c = c->next) {
        any = leases_end(c, volume_id, NULL) > 0 || any;
        if (!conn_may_have(c, volume_id, NULL))
            continue;
        any = true;
        if (!push_find(c, P_PUSH_REVOKE, NULL))
            c->held = 0;
        push_send(s, c, P_PUSH_REVOKE, NULL);
    }
    return any;
}

void handle_lock(struct server *s, struct conn *c, const struct proto_msg *q)
{
    struct about about = {.volume_id = q->volume};
    bool was_unlocked = volume_drop(s, q->volume);
    marks_remove(s, q->volume, NULL);
    if (!revoke_all(s, q->volume) && !was_unlocked)
        request_refuse(s, c, P_LOCK, q->serial, LFS_ERR_NOKEY, "the volume is locked already", &about);
    else if (!wait_add(s, WAIT_LOCK, c, q))
        request_refuse(s, c, P_LOCK, q->serial, -ENOMEM, "", &about);
    else
        waits_check(s, now_ms());
}

/* ---- one directory ---- */

static bool under_way(const struct server *s, const struct proto_msg *q)
{
    for (const struct wait *w = s->waits; w; w = w->next)
        if ((w->kind == WAIT_HELD || w->kind == WAIT_LOCK_DIR) && same_id(w->volume_id, q->volume) &&
            same_id(w->pd_id, q->pd))
            return true;
    return false;
}

static int check_lock_dir(struct server *s, const struct proto_msg *q, const char **why)
{
    const struct unlocked *u = volume_find(s, q->volume);
    bool any = u && !marked(s, q->volume, q->pd, 0);
    for (const struct conn *c = s->conns; c; c = c->next)
        any = any || conn_may_have(c, q->volume, q->pd) || lease_find(c, q->volume, q->pd);
    *why = "";
    if (is_zero_id(q->pd) || (u && same_id(u->ks->root_id, q->pd))) {
        *why = "the volume's own directory is locked with the volume";
        return LFS_ERR_MISUSE;
    }
    if (u && !keystore_dir(u->ks, q->pd)) {
        *why = "the key store has no such directory";
        return -ENOENT;
    }
    if (!any) {
        *why = u ? "the directory is locked already" : "the volume is locked already";
        return LFS_ERR_NOKEY;
    }
    if (under_way(s, q)) {
        *why = "the directory is being locked";
        return LFS_ERR_BUSY;
    }
    return 0;
}

void handle_lock_dir(struct server *s, struct conn *c, const struct proto_msg *q)
{
    struct about about = {.volume_id = q->volume, .pd_id = q->pd};
    const char *why;
    int r = check_lock_dir(s, q, &why);
    struct wait *w = r ? NULL : wait_add(s, WAIT_HELD, c, q);
    if (!r && !w)
        r = -ENOMEM;
    if (r) {
        request_refuse(s, c, P_LOCK_DIR, q->serial, r, why, &about);
        return;
    }
    if (q->flags & PF_FORCE)
        begin_lock_dir(s, w);
    for (struct conn *o = s->conns; o && w->kind == WAIT_HELD && !w->failed; o = o->next)
        if (o != c && conn_may_have(o, q->volume, q->pd))
            push_send(s, o, P_PUSH_HELD, q->pd);
    waits_check(s, now_ms());
}

void handle_unlock_dir(struct server *s, struct conn *c, const struct proto_msg *q)
{
    struct proto_msg m = {.type = P_UNLOCK_DIR | P_REPLY, .serial = q->serial};
    struct unlocked *u = volume_find(s, q->volume);
    const uint8_t *pd = u ? volume_dir(u->ks, q->pd) : q->pd;
    struct about about = {.volume_id = q->volume, .pd_id = pd};
    char why[200] = "the volume is locked";
    int r = LFS_ERR_NOKEY;
    if (u) {
        why[0] = '\0';
        r = lease_allowed(s, c, u, pd, why, sizeof why);
    }
    if (r) {
        request_refuse(s, c, P_UNLOCK_DIR, q->serial, r, why, &about);
        return;
    }
    marks_remove(s, q->volume, pd);
    for (struct conn *o = s->conns; o; o = o->next)
        if (conn_mounts(o, q->volume))
            push_send(s, o, P_PUSH_UNLOCKED, pd);
    request_answer(s, c, &m, &about);
}

/* ---- rekeyed ---- */

static int check_rekeyed(struct server *s, const struct unlocked *u, const struct proto_msg *q,
                         const char **why)
{
    *why = "";
    if (!u) {
        for (const struct conn *c = s->conns; c; c = c->next)
            if (conn_may_have(c, q->volume, NULL)) {
                *why = "the volume is locked here, but a mount may have keys of it";
                return LFS_ERR_NOKEY;
            }
        return 0;
    }
    const struct keystore_dir *d = keystore_dir(u->ks, q->pd);
    const struct keystore_dirkey *k = d ? keystore_active_dirkey(d) : NULL;
    if (!d)
        return -ENOENT;
    if (k && k->version >= q->number)
        return 0;
    *why = "the key store that is in use here has no such active version";
    return LFS_ERR_MISUSE;
}

void handle_wait_rekeyed(struct server *s, struct conn *c, const struct proto_msg *q)
{
    const struct unlocked *u = volume_find(s, q->volume);
    struct proto_msg named = *q;
    struct about about = {.volume_id = q->volume, .pd_id = named.pd};
    const char *why;
    if (u)
        memcpy(named.pd, volume_dir(u->ks, q->pd), ID_BYTES);
    int r = check_rekeyed(s, u, &named, &why);
    struct wait *w = r ? NULL : wait_add(s, WAIT_REKEYED, c, &named);
    if (!r && !w)
        r = -ENOMEM;
    if (r) {
        request_refuse(s, c, P_WAIT_REKEYED, q->serial, r, why, &about);
        return;
    }
    w->until = now_ms() + q->wait_ms;
    for (struct conn *o = s->conns; o && u; o = o->next) {
        const struct lease *l = lease_find(o, q->volume, named.pd);
        if (o != c && conn_may_have(o, q->volume, named.pd) && !(l && l->said >= q->number))
            push_send(s, o, P_PUSH_REKEY, named.pd);
    }
    waits_check(s, now_ms());
}

/* ---- before the machine sleeps ---- */

static bool sleeps_locked(struct server *s, struct unlocked *u, struct dir_note *n)
{
    struct policy_ask a = {.volume_id = u->ks->volume_id,
                           .pd_id = n ? n->id : NULL,
                           .is_root_dir = n && same_id(n->id, u->ks->root_id),
                           .dir_name = n ? volume_dir_name(s, u, n) : NULL};
    return policy_locks_on_suspend(s->policy, &a);
}

static void lock_dirs_before_sleep(struct server *s, struct unlocked *u)
{
    for (uint32_t i = 0; i < u->ks->dir_count; i++) {
        struct proto_msg q = {.type = P_LOCK_DIR};
        struct wait *w;
        memcpy(q.volume, u->ks->volume_id, ID_BYTES);
        memcpy(q.pd, u->ks->dirs[i].id, ID_BYTES);
        if (marked(s, q.volume, q.pd, 0) || under_way(s, &q) || !sleeps_locked(s, u, &u->notes[i]))
            continue;
        w = wait_add(s, WAIT_HELD, NULL, &q);
        if (w)
            begin_lock_dir(s, w);
    }
}

void locks_before_sleep(void *server)
{
    struct server *s = server;
    s->suspending = true;
    for (struct unlocked *u = s->volumes, *next; u; u = next) {
        struct proto_msg q = {.type = P_LOCK};
        struct dir_note *root = volume_note(u, u->ks->root_id);
        next = u->next;
        memcpy(q.volume, u->ks->volume_id, ID_BYTES);
        if (!sleeps_locked(s, u, NULL) && !(root && sleeps_locked(s, u, root))) {
            lock_dirs_before_sleep(s, u);
            continue;
        }
        volume_drop(s, q.volume);
        marks_remove(s, q.volume, NULL);
        revoke_all(s, q.volume);
        wait_add(s, WAIT_LOCK, NULL, &q);
    }
    waits_check(s, now_ms());
}

bool locks_before_sleep_done(const struct server *s)
{
    for (const struct wait *w = s->waits; w; w = w->next)
        if (w->conn_id == 0)
            return false;
    return true;
}
