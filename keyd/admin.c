/* Sessions of administration: an opened key store that stays with a connection, and its edits. A session
 * unlocks nothing and gives no lease. */
#include "server.h"

#include "fresh.h"
#include "held.h"
#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/log.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct session {
    struct keystore *ks;
    struct keystore_keys *keys;
    char *ini; /* the text of ks: as it was opened, or as the last edit made it */
    size_t len;
    bool editing;  /* on the worker */
    bool unpinned; /* an edit was answered that is not pinned yet */
    int64_t until;
};

void session_free(struct session *a)
{
    if (!a)
        return;
    keystore_free(a->ks);
    keystore_keys_free(a->keys);
    free(a->ini);
    free(a);
}

void session_touch(const struct server *s, struct session *a)
{
    if (a)
        a->until = now_ms() + (int64_t)s->policy->admin_s * 1000;
}

static bool has_text(const struct session *a, const char *ini, size_t len)
{
    return a && a->len == len && memcmp(a->ini, ini, len) == 0;
}

const struct keystore_keys *sessions_keys(struct server *s, const char *ini, size_t len)
{
    for (const struct conn *c = s->conns; c; c = c->next)
        if (!c->dead && has_text(c->session, ini, len))
            return c->session->keys;
    return NULL;
}

void sessions_pinned(struct server *s, const char *ini, size_t len)
{
    for (struct conn *c = s->conns; c; c = c->next)
        if (has_text(c->session, ini, len))
            c->session->unpinned = false;
}

bool sessions_end(struct server *s, const uint8_t *volume_id)
{
    bool any = false;
    for (struct conn *c = s->conns; c; c = c->next) {
        if (!c->session || (volume_id && !same_id(c->session->ks->volume_id, volume_id)))
            continue;
        session_free(c->session);
        c->session = NULL;
        any = true;
    }
    return any;
}

void sessions_check_time(struct server *s, int64_t now)
{
    for (struct conn *c = s->conns; c; c = c->next) {
        if (!c->session || c->busy || now < c->session->until)
            continue;
        session_free(c->session);
        c->session = NULL;
    }
}

int64_t sessions_next_time(const struct server *s)
{
    int64_t at = 0;
    for (const struct conn *c = s->conns; c; c = c->next)
        if (c->session && !c->busy)
            at = sooner(at, c->session->until);
    return at;
}

/* ---- begin ---- */

static struct session *session_new(struct job *j)
{
    struct session *a = calloc(1, sizeof *a);
    char *ini = malloc(j->q.ini.len);
    if (!a || !ini) {
        free(a);
        free(ini);
        return NULL;
    }
    memcpy(ini, j->q.ini.p, j->q.ini.len);
    *a = (struct session){.ks = j->ks, .keys = j->keys, .ini = ini, .len = j->q.ini.len};
    j->ks = NULL;
    j->keys = NULL;
    return a;
}

/* What the session opened counts from now on, as after an unlock: whoever has the secret vouches for it. */
static int adopt_opened(struct server *s, const struct conn *c, const struct job *j, struct opened *o)
{
    CLEANUP(keystore_freep) struct keystore *ks = NULL;
    struct adoption a = {.by = c,
                         .ini = (const char *)j->q.ini.p,
                         .len = j->q.ini.len,
                         .keys = j->keys,
                         .settle = o->same_signer,
                         .older = o->older};
    if (!o->fresh)
        return 0;
    int r = keystore_parse(a.ini, a.len, &ks, NULL);
    if (!r)
        r = store_adopt(s, &ks, &a);
    if (r)
        snprintf(o->why, sizeof o->why, "%s", a.why);
    return r;
}

void done_admin(struct server *s, struct conn *c, struct job *j)
{
    struct opened o = {0};
    char detail[64];
    int r = j->result;
    if (r || !c) {
        refuse_job(s, c, j, r ? r : -EPIPE, j->why.text);
        return;
    }
    session_free(c->session);
    c->session = NULL;
    r = check_opened(s, c, j, &o);
    snprintf(detail, sizeof detail, "slot %u%s", j->slot_id, o.older ? ", older key store accepted" : "");
    if (!r) {
        r = request_log(s, c, P_ADMIN, 0, &(struct about){.volume_id = j->ks->volume_id, .detail = detail});
        snprintf(o.why, sizeof o.why, "%s", r ? "not done: the audit log cannot be written" : "");
    }
    if (!r)
        r = adopt_opened(s, c, j, &o);
    if (!r && !(c->session = session_new(j)))
        r = -ENOMEM;
    if (r) {
        refuse_job(s, c, j, r, o.why);
        return;
    }
    session_touch(s, c->session);
    conn_send(s, c,
              &(struct proto_msg){.type = P_ADMIN | P_REPLY,
                                  .serial = j->q.serial,
                                  .slot = j->slot_id,
                                  .flags = o.first ? PF_FIRST : 0});
}

/* ---- edits ---- */

static bool takes_long(unsigned op)
{
    return op == EDIT_SLOT_ADD || op == EDIT_SLOT_REPLACE;
}

/* Its end may be in the same round of events, behind the request at hand: a command that was killed does not
 * keep the next one out. */
static bool has_hung_up(const struct conn *c)
{
    struct pollfd p = {.fd = c->fd, .events = POLLRDHUP};
    return poll(&p, 1, 0) == 1 && p.revents & (POLLHUP | POLLRDHUP | POLLERR);
}

/* Two sessions that both change the same generation would undo each other on the disk. */
static bool another_changes_it(const struct server *s, const struct conn *c)
{
    for (const struct conn *o = s->conns; o; o = o->next)
        if (o != c && !o->dead && o->session && (o->session->unpinned || o->session->editing) &&
            same_id(o->session->ks->volume_id, c->session->ks->volume_id) && !has_hung_up(o))
            return true;
    return false;
}

static int check_edit(struct server *s, const struct conn *c, char *why, size_t size)
{
    const struct session *a = c->session;
    struct pin pinned, now;
    if (!a) {
        snprintf(why, size, "no session of administration, or it has ended");
        return LFS_ERR_MISUSE;
    }
    struct policy_ask ask = {.uid = c->peer.uid,
                             .gids = c->gids,
                             .ngids = c->ngids,
                             .volume_id = a->ks->volume_id,
                             .environment = a->ks->environment,
                             .now = time(NULL)};
    int r = policy_admin(s->policy, &ask, why, size);
    if (r)
        return r;
    if (a->unpinned) {
        snprintf(why, size, "the last edit is not pinned yet");
        return LFS_ERR_BUSY;
    }
    if (another_changes_it(s, c)) {
        snprintf(why, size, "another session is changing this key store");
        return LFS_ERR_BUSY;
    }
    pin_of(a->ks, a->ini, a->len, &now);
    r = pin_load(s->statedir, a->ks->volume_id, &pinned);
    if (!r && pin_compare(&pinned, &now)) {
        snprintf(why, size, "the key store was changed meanwhile: begin again");
        return LFS_ERR_ROLLBACK;
    }
    return r == -ENOENT ? 0 : r;
}

/* The edit works on copies, so that a refused one leaves the session as it was. */
static int copy_session(const struct session *a, struct keystore **ks, struct keystore_keys **keys)
{
    int r = keystore_parse(a->ini, a->len, ks, NULL);
    if (r)
        return r;
    *keys = locked_alloc(sizeof **keys);
    if (!*keys) {
        keystore_freep(ks);
        return -ENOMEM;
    }
    memcpy(*keys, a->keys, sizeof **keys);
    return 0;
}

static void run_at_once(struct server *s, struct conn *c, const struct proto_msg *q, struct keystore *ks,
                        struct keystore_keys *keys)
{
    struct job j = {.q = *q,
                    .ks = ks,
                    .keys = keys,
                    .kdf_ms = s->policy->kdf_ms,
                    .uid = c->peer.uid,
                    .peer = c->peer,
                    .held = held_blobs_of(s)};
    uint64_t begun = metrics_now();
    job_edit(&j);
    metrics_time(s->metrics, METRIC_WRAP, metrics_now() - begun);
    done_edit(s, c, &j);
    job_clear(&j);
}

void handle_edit(struct server *s, struct conn *c, struct proto_msg *q)
{
    struct keystore *ks = NULL;
    struct keystore_keys *keys = NULL;
    char why[200] = "";
    int r = check_edit(s, c, why, sizeof why);
    if (!r)
        session_touch(s, c->session);
    if (!r)
        r = copy_session(c->session, &ks, &keys);
    if (r) {
        request_refuse(s, c, P_EDIT, q->serial, r, why,
                       &(struct about){.volume_id = c->session ? c->session->ks->volume_id : NULL,
                                       .act = key_edit_name(q->op)});
        return;
    }
    if (takes_long(q->op))
        c->session->editing = request_queue(s, c, q, ks, keys) == 0;
    else
        run_at_once(s, c, q, ks, keys);
}

void job_edit(struct job *j)
{
    struct fresh_slot f;
    char label[KEYSTORE_LABEL_MAX + 1];
    struct key_edit e = {.op = j->q.op,
                         .number = j->q.number,
                         .force = j->q.flags & PF_FORCE,
                         .held = j->q.flags & PF_HELD,
                         .fast_kdf = j->q.flags & PF_FAST_KDF};
    memcpy(e.pd, j->q.pd, ID_BYTES);
    j->result = fresh_slot_of(&j->q, &f);
    e.fresh = f.c;
    e.label = message_text(&j->q.label, label);
    if (!e.label)
        e.label = label; /* empty: takes one away */
    if (!j->result && e.op == EDIT_DIR_ROTATE)
        j->result = held_newest(*(const int *)j->held.arg, j->ks->volume_id, e.pd, &e.above);
    if (!j->result)
        j->result = keystore_edit(j->ks, j->keys, &e, j->kdf_ms, &j->held, &j->ini, &j->ini_len, &j->made,
                                  &j->blobs, &j->why);
    fresh_slot_clear(&f);
}

/* ---- what becomes of an edit ---- */

/* use: they are used up by it. */
static int check_approvals(struct server *s, const struct conn *c, struct job *j, bool use)
{
    struct key_edit e = {.op = j->q.op, .number = j->q.number, .force = j->q.flags & PF_FORCE};
    memcpy(e.pd, j->q.pd, ID_BYTES);
    if (policy_approvals_needed(s->policy, e.op) == 0)
        return 0;
    if (!s->approvals)
        return LFS_ERR_DENIED;
    return (use ? approvals_check : approvals_ready)(s->approvals, j->ks->volume_id, &e, c->peer.uid,
                                                     time(NULL), j->why.text, sizeof j->why.text);
}

/* They stay when the edit comes to nothing: useless without a text that nobody has seen. */
static int keep_blobs(struct server *s, const struct job *j)
{
    int r = 0;
    for (uint32_t i = 0; !r && i < j->blobs.count; i++)
        r = held_store(s->statedir, j->ks->volume_id, &j->blobs.blob[i]);
    return r;
}

/* The session goes on with what the edit made. */
static int commit(struct server *s, struct session *a, struct job *j)
{
    char *ini = malloc(j->ini_len);
    if (!ini)
        return -ENOMEM;
    memcpy(ini, j->ini, j->ini_len);
    free(a->ini);
    keystore_free(a->ks);
    keystore_keys_free(a->keys);
    a->ini = ini;
    a->len = j->ini_len;
    a->ks = j->ks;
    a->keys = j->keys;
    a->unpinned = true;
    j->ks = NULL;
    j->keys = NULL;
    answered_note(s, ini, a->len);
    return 0;
}

static const uint8_t *dir_of(const struct job *j)
{
    return !is_zero_id(j->made.pd) ? j->made.pd : !is_zero_id(j->q.pd) ? j->q.pd : NULL;
}

static void refuse_edit(struct server *s, struct conn *c, const struct job *j, int err, const char *why)
{
    request_refuse(s, c, P_EDIT, j->q.serial, err, why,
                   &(struct about){.volume_id = j->ks ? j->ks->volume_id : NULL,
                                   .pd_id = dir_of(j),
                                   .act = key_edit_name(j->q.op),
                                   .peer = &j->peer});
}

static void answer_edit(struct server *s, struct conn *c, const struct job *j)
{
    struct proto_msg m = {.type = P_EDIT | P_REPLY,
                          .serial = j->q.serial,
                          .number = j->made.number,
                          .ini = {(const uint8_t *)j->ini, j->ini_len}};
    memcpy(m.pd, j->made.pd, ID_BYTES);
    if (j->made.recovery)
        m.recovery = (struct proto_blob){secret_const(j->made.recovery), secret_len(j->made.recovery)};
    metrics_count(s->metrics, METRIC_EDITS, 1);
    conn_send(s, c, &m);
}

void done_edit(struct server *s, struct conn *c, struct job *j)
{
    char detail[64];
    int r = j->result;
    if (c && c->session)
        c->session->editing = false;
    if (!r && (!c || !c->session))
        r = -EPIPE;
    if (!r)
        r = check_approvals(s, c, j, false);
    if (r) {
        refuse_edit(s, c, j, r, j->why.text);
        return;
    }
    snprintf(detail, sizeof detail, "%" PRIu32 ", generation %" PRIu64,
             j->made.number ? j->made.number : j->q.number, j->ks->generation);
    r = request_log(s, c, P_EDIT, 0,
                    &(struct about){.volume_id = j->ks->volume_id,
                                    .pd_id = dir_of(j),
                                    .act = key_edit_name(j->q.op),
                                    .detail = detail});
    if (r) {
        refuse_edit(s, c, j, r, "not done: the audit log cannot be written");
        return;
    }
    r = keep_blobs(s, j);
    if (!r)
        r = held_note_edit(s, j->ks, j->q.op, j->made.pd, j->made.number);
    if (r)
        snprintf(j->why.text, sizeof j->why.text, "not done: the state directory of latch-keyd: %s",
                 lfs_strerror(r));
    if (!r)
        r = check_approvals(s, c, j, true);
    if (!r)
        r = commit(s, c->session, j);
    if (r) {
        refuse_edit(s, c, j, r, j->why.text);
        return;
    }
    session_touch(s, c->session);
    answer_edit(s, c, j);
}
