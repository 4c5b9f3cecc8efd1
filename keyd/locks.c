/* Locking of volumes and of single directories, also before the machine sleeps. */
#include "server.h"

#include "latchfs/err.h"

#include <errno.h>
#include <string.h>

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
void begin_lock_dir(struct server *s, struct wait *w)
{
    w->failed = mark_add(s, w->volume_id, w->pd_id, 0);
    if (w->failed)
        return;
    w->kind = WAIT_LOCK_DIR;
    w->held = 0;
    w->until = revoke_end(s);
    dir_revoke(s, w->volume_id, w->pd_id);
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
    was_unlocked = worker_revoke(s->worker, q->volume) || was_unlocked;
    was_unlocked = sessions_end(s, q->volume) || was_unlocked;
    marks_remove(s, q->volume, NULL);
    /* For mounts that look for this latch-keyd and have keys from an earlier one: they are told when they
     * come. Without memory they are left to their grace. */
    static const uint8_t whole[ID_BYTES];
    mark_add(s, q->volume, whole, 0);
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

/* ---- before the machine sleeps ---- */

static bool sleeps_locked(struct server *s, struct unlocked *u, struct dir_note *n)
{
    struct policy_ask a = {.volume_id = u->ks->volume_id,
                           .pd_id = n ? n->id : NULL,
                           .is_root_dir = n && same_id(n->id, u->ks->root_id)};
    if (n)
        volume_dir_name(s, u, n, &a.dir_name); /* without keys of it there is nothing to lock */
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
    worker_revoke(s->worker, NULL);
    sessions_end(s, NULL);
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
