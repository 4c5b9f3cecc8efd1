/* The table of requests: who may ask what, what is logged, what changes keys. */
#include "server.h"

#include "latchfs/err.h"
#include "latchfs/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void handle_hello(struct server *s, struct conn *c, const struct proto_msg *q)
{
    struct proto_msg m = {.type = P_HELLO | P_REPLY, .serial = q->serial, .pid = (uint32_t)getpid()};
    conn_send(s, c, &m);
}

enum logging { LOG_NOT, LOG_ACT, LOG_OR_REFUSE };

static const struct request {
    uint16_t type;
    unsigned roles; /* any of them may ask */
    enum logging logging;
    void (*handle)(struct server *s, struct conn *c, const struct proto_msg *q); /* at once, or: */
    void (*run)(struct job *j);                                                  /* on the worker, then */
    void (*done)(struct server *s, struct conn *c, struct job *j);               /* c NULL: gone */
} requests[] = {
    {P_HELLO, ROLE_ALL, LOG_NOT, handle_hello, NULL, NULL},
    {P_INIT, ROLE_KEYADMIN, LOG_OR_REFUSE, NULL, job_init, done_init},
    {P_UNLOCK, ROLE_USER, LOG_ACT, NULL, job_unlock, done_unlock},
    {P_LOCK, ROLE_USER | ROLE_OPERATOR, LOG_ACT, handle_lock, NULL, NULL},
    {P_SLOT_TEST, ROLE_USER | ROLE_KEYADMIN, LOG_ACT, NULL, job_slot_test, done_slot_test},
    {P_SLOT_ADD, ROLE_KEYADMIN, LOG_OR_REFUSE, NULL, job_slot_add, done_slot_change},
    {P_SLOT_REMOVE, ROLE_KEYADMIN, LOG_OR_REFUSE, NULL, job_slot_remove, done_slot_change},
    {P_PIN, ROLE_KEYADMIN, LOG_OR_REFUSE, handle_pin, NULL, NULL},
    {P_STATUS, ROLE_ALL, LOG_NOT, handle_status, NULL, NULL},
    {P_ATTACH, ROLE_USER, LOG_ACT, handle_attach, NULL, NULL},
    {P_LEASE, ROLE_USER, LOG_ACT, handle_lease, NULL, NULL},
    {P_RENEW, ROLE_USER, LOG_NOT, handle_renew, NULL, NULL},
    {P_REVOKED, ROLE_USER, LOG_ACT, handle_revoked, NULL, NULL},
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

void request_answer(struct server *s, struct conn *c, const struct proto_msg *reply,
                    const struct about *about)
{
    const struct request *rq = find(reply->type & (uint16_t)~P_REPLY);
    struct proto_msg m = *reply;
    if (rq && rq->logging != LOG_NOT) {
        struct audit_act act = {.act = proto_type_name(rq->type),
                                .peer = c ? &c->peer : NULL,
                                .volume_id = about->volume_id,
                                .pd_id = about->pd_id,
                                .result = m.result,
                                .detail = c ? about->detail : "the client had gone"};
        int r = audit_write(s->audit, &act, rq->logging == LOG_OR_REFUSE);
        if (r)
            log_error("audit log: %s", lfs_strerror(r));
        if (r && rq->logging == LOG_OR_REFUSE && m.result == 0) {
            m = (struct proto_msg){.type = reply->type, .serial = reply->serial, .result = r};
            set_text(&m, "not done: the audit log cannot be written");
        }
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

/* The job takes the message over. */
static int queue_job(struct server *s, struct conn *c, const struct request *rq, struct proto_msg *q)
{
    struct job *j = calloc(1, sizeof *j);
    int r = j ? 0 : -ENOMEM;
    if (j) {
        j->run = rq->run;
        j->conn_id = c->id;
        j->q = *q;
        j->in = c->in;
        j->kdf_ms = s->policy->kdf_ms;
        r = worker_add(s->worker, j);
    }
    if (r) {
        free(j);
        request_refuse(s, c, q->type, q->serial, r, "too many unlocks are waiting", &(struct about){0});
        return 0;
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
    if (!(rq->roles & c->roles)) {
        request_refuse(s, c, q.type, q.serial, LFS_ERR_DENIED, "the policy does not allow this to this user",
                       &(struct about){0});
        return 0;
    }
    if (rq->run)
        return queue_job(s, c, rq, &q);
    rq->handle(s, c, &q);
    return 0;
}

void request_done(struct server *s, struct job *j)
{
    const struct request *rq = find(j->q.type);
    struct conn *c = conn_find(s, j->conn_id);
    if (c)
        conn_set_busy(s, c, false);
    rq->done(s, c, j);
    job_free(j);
}
