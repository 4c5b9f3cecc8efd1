/* The table of requests: who may ask what, what is logged, what changes keys. */
#include "server.h"

#include "latchfs/err.h"
#include "latchfs/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void handle_hello(struct server *s, struct conn *c, const struct proto_msg *q)
{
    struct proto_msg m = {.type = P_HELLO | P_REPLY,
                          .serial = q->serial,
                          .pid = (uint32_t)getpid(),
                          .wait_s = s->policy->revoke_wait_s};
    conn_send(s, c, &m);
}

enum logging { LOG_NOT, LOG_ACT, LOG_OR_REFUSE };

static const struct request {
    uint16_t type;
    unsigned roles; /* any of them may ask */
    enum logging logging;
    void (*handle)(struct server *s, struct conn *c, const struct proto_msg *q); /* at once, or: */
    void (*run)(struct job *j); /* on the worker, if check finds nothing, */
    int (*check)(struct server *s, struct conn *c, struct proto_msg *q); /* which replies itself; then */
    void (*done)(struct server *s, struct conn *c, struct job *j);       /* c NULL: gone */
} requests[] = {
    {P_HELLO, ROLE_ALL, LOG_NOT, handle_hello, NULL, NULL, NULL},
    {P_INIT, ROLE_KEYADMIN, LOG_OR_REFUSE, NULL, job_init, NULL, done_init},
    {P_UNLOCK, ROLE_USER, LOG_ACT, NULL, job_open, check_open, done_unlock},
    {P_LOCK, ROLE_USER | ROLE_OPERATOR, LOG_ACT, handle_lock, NULL, NULL, NULL},
    {P_SLOT_TEST, ROLE_USER | ROLE_KEYADMIN, LOG_ACT, NULL, job_open, check_open, done_slot_test},
    {P_ADMIN, ROLE_KEYADMIN, LOG_OR_REFUSE, NULL, job_open, check_open, done_admin},
    {P_EDIT, ROLE_KEYADMIN, LOG_OR_REFUSE, NULL, job_edit, NULL, done_edit}, /* admin.c queues it */
    {P_PIN, ROLE_KEYADMIN, LOG_OR_REFUSE, handle_pin, NULL, NULL, NULL},
    {P_STATUS, ROLE_USER | ROLE_OPERATOR | ROLE_KEYADMIN, LOG_NOT, handle_status, NULL, NULL, NULL},
    {P_ATTACH, ROLE_USER, LOG_ACT, handle_attach, NULL, NULL, NULL},
    {P_LEASE, ROLE_USER, LOG_ACT, handle_lease, NULL, NULL, NULL},
    {P_RENEW, ROLE_USER, LOG_NOT, handle_renew, NULL, NULL, NULL},
    {P_REVOKED, ROLE_USER, LOG_ACT, handle_revoked, NULL, NULL, NULL},
    {P_WAIT_REKEYED, ROLE_KEYADMIN, LOG_ACT, handle_wait_rekeyed, NULL, NULL, NULL},
    {P_LOCK_DIR, ROLE_USER | ROLE_OPERATOR, LOG_ACT, handle_lock_dir, NULL, NULL, NULL},
    {P_UNLOCK_DIR, ROLE_USER, LOG_ACT, handle_unlock_dir, NULL, NULL, NULL},
    {P_APPROVALS, ROLE_KEYADMIN, LOG_NOT, handle_approvals, NULL, NULL, NULL},
    {P_APPROVE, ROLE_KEYADMIN, LOG_OR_REFUSE, handle_approve, NULL, NULL, NULL},
    {P_AUDIT_READ, ROLE_AUDITOR, LOG_NOT, handle_audit_read, NULL, NULL, NULL},
    {P_AUDIT_HEAD, ROLE_AUDITOR, LOG_NOT, handle_audit_head, NULL, NULL, NULL},
    {P_AUDIT_ENROLL, ROLE_AUDITOR, LOG_OR_REFUSE, handle_audit_enroll, NULL, NULL, NULL},
    {P_LEASE_FOR, ROLE_USER, LOG_ACT, handle_lease_for, NULL, NULL, NULL},
    {P_REKEYED, ROLE_USER, LOG_ACT, handle_rekeyed, NULL, NULL, NULL},
    {P_HELD, ROLE_USER, LOG_NOT, handle_held, NULL, NULL, NULL},
    {P_LOCKED_IDLE, ROLE_USER, LOG_ACT, handle_locked_idle, NULL, NULL, NULL},
    {P_REPORT, ROLE_USER, LOG_NOT, handle_report, NULL, NULL, NULL},
};

static const struct request *find(uint16_t type)
{
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++)
        if (requests[i].type == type)
            return &requests[i];
    return NULL;
}

static void set_text(struct proto_msg *m, const char *text)
{
    m->text = (struct proto_blob){(const uint8_t *)text, strnlen(text, PROTO_TEXT_MAX)};
}

int request_log(struct server *s, struct conn *c, uint16_t type, int result, const struct about *about)
{
    const struct request *rq = find(type);
    if (!rq || rq->logging == LOG_NOT)
        return 0;
    struct audit_act act = {.act = about->act ? about->act : proto_type_name(type),
                            .peer = c ? &c->peer : about->peer,
                            .volume_id = about->volume_id,
                            .pd_id = about->pd_id,
                            .result = result ? result : about->logged,
                            .detail = c ? about->detail : "the client had gone"};
    int r =
        result ? audit_refusal(s->audit, &act) : audit_write(s->audit, &act, rq->logging == LOG_OR_REFUSE);
    if (r)
        log_error("audit log: %s", lfs_strerror(r));
    return rq->logging == LOG_OR_REFUSE ? r : 0;
}

void request_answer(struct server *s, struct conn *c, const struct proto_msg *reply,
                    const struct about *about)
{
    struct proto_msg m = *reply;
    int r = request_log(s, c, reply->type & (uint16_t)~P_REPLY, reply->result, about);
    if (r && m.result == 0) {
        m = (struct proto_msg){.type = reply->type, .serial = reply->serial, .result = r};
        set_text(&m, "not done: the audit log cannot be written");
    }
    if (c)
        conn_send(s, c, &m);
}

void request_refuse(struct server *s, struct conn *c, uint16_t type, uint32_t serial, int err,
                    const char *why, const struct about *about)
{
    struct proto_msg m = {.type = type | P_REPLY, .serial = serial, .result = err};
    struct about with = *about;
    set_text(&m, why);
    if (!with.detail)
        with.detail = why;
    request_answer(s, c, &m, &with);
}

/* Recorded also where the request itself is not. */
static void refuse_role(struct server *s, struct conn *c, const struct request *rq, const struct proto_msg *q)
{
    const char *why = "the policy does not allow this to this user";
    if (rq->logging == LOG_NOT)
        audit_refusal(s->audit, &(struct audit_act){.act = proto_type_name(rq->type),
                                                    .peer = &c->peer,
                                                    .result = LFS_ERR_DENIED,
                                                    .detail = why});
    request_refuse(s, c, q->type, q->serial, LFS_ERR_DENIED, why, &(struct about){0});
}

int request_queue(struct server *s, struct conn *c, struct proto_msg *q, struct keystore *ks,
                  struct keystore_keys *keys)
{
    struct job *j = calloc(1, sizeof *j);
    int r = j ? 0 : -ENOMEM;
    if (j) {
        *j = (struct job){.run = find(q->type)->run,
                          .conn_id = c->id,
                          .uid = c->peer.uid,
                          .peer = c->peer,
                          .q = *q,
                          .in = c->in,
                          .ks = ks,
                          .keys = keys,
                          .held = held_blobs_of(s),
                          .kdf_ms = s->policy->kdf_ms};
        r = worker_add(s->worker, j);
    }
    if (r) {
        free(j);
        keystore_free(ks);
        keystore_keys_free(keys);
        request_refuse(s, c, q->type, q->serial, r, "too many unlocks are waiting", &(struct about){0});
        return r;
    }
    c->in = (struct proto_in){0};
    conn_set_busy(s, c, true);
    return 0;
}

int request_handle(struct server *s, struct conn *c)
{
    const struct request *rq = find(c->in.type);
    struct proto_msg q = {0};
    if (!rq)
        return LFS_ERR_PROTO;
    int r = proto_decode(c->in.type, c->in.serial, c->in.body.p, c->in.body.len, &q);
    if (r)
        return r;
    if (!(rq->roles & c->roles))
        refuse_role(s, c, rq, &q);
    else if (rq->type == P_EDIT)
        handle_edit(s, c, &q);
    else if (!rq->run)
        rq->handle(s, c, &q);
    else if (!rq->check || rq->check(s, c, &q) == 0)
        request_queue(s, c, &q, NULL, NULL);
    return 0;
}

void request_dropped(struct server *s, struct job *j)
{
    j->result = -ECANCELED;
    request_done(s, j);
}

void request_done(struct server *s, struct job *j)
{
    const struct request *rq = find(j->q.type);
    struct conn *c = conn_find(s, j->conn_id);
    if (c)
        conn_set_busy(s, c, false);
    if (j->revoked && !j->result) {
        j->result = LFS_ERR_NOKEY;
        snprintf(j->why.text, sizeof j->why.text, "the volume was locked meanwhile");
    }
    rq->done(s, c, j);
    job_free(j);
}
