/* Requests of approvers and auditors. */
#include "server.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void answer_json(struct server *s, struct conn *c, const struct proto_msg *q, int r, const char *json)
{
    struct proto_msg m = {.type = q->type | P_REPLY, .serial = q->serial};
    if (r) {
        request_refuse(s, c, q->type, q->serial, r, "", &(struct about){0});
        return;
    }
    m.json = (struct proto_blob){(const uint8_t *)json, strlen(json)};
    request_answer(s, c, &m, &(struct about){0});
}

void handle_approvals(struct server *s, struct conn *c, const struct proto_msg *q)
{
    AUTO_FREE char *json = NULL;
    int r = s->approvals ? approvals_json(s->approvals, time(NULL), &json) : 0;
    answer_json(s, c, q, r, json ? json : "[]");
}

void handle_approve(struct server *s, struct conn *c, const struct proto_msg *q)
{
    struct proto_msg m = {.type = P_APPROVE | P_REPLY, .serial = q->serial};
    char id[PROTO_APPROVAL_ID_MAX + 1], why[PROTO_TEXT_MAX] = "";
    struct about about = {.detail = id};
    memcpy(id, q->id.p, q->id.len);
    id[q->id.len] = '\0';
    time_t now = time(NULL);
    int r = s->approvals ? approvals_may_sign(s->approvals, id, q->public_key, q->signature, c->peer.uid, now,
                                              why, sizeof why)
                         : -ENOENT;
    if (!r) {
        r = request_log(s, c, P_APPROVE, 0, &about);
        snprintf(why, sizeof why, "%s", r ? "not done: the audit log cannot be written" : "");
    }
    if (!r)
        r = approvals_sign(s->approvals, id, q->public_key, q->signature, c->peer.uid, now, why, sizeof why);
    if (r)
        request_refuse(s, c, P_APPROVE, q->serial, r, why, &about);
    else
        conn_send(s, c, &m);
}

void handle_audit_read(struct server *s, struct conn *c, const struct proto_msg *q)
{
    struct proto_msg m = {.type = P_AUDIT_READ | P_REPLY, .serial = q->serial};
    AUTO_FREE char *buf = malloc(PROTO_LOG_MAX);
    int n = buf ? audit_read(s->audit, q->offset, buf, PROTO_LOG_MAX) : -ENOMEM;
    if (n < 0) {
        request_refuse(s, c, P_AUDIT_READ, q->serial, n, "", &(struct about){0});
        return;
    }
    m.log = (struct proto_blob){(const uint8_t *)buf, (size_t)n};
    conn_send(s, c, &m);
}

void handle_audit_head(struct server *s, struct conn *c, const struct proto_msg *q)
{
    AUTO_FREE char *json = NULL;
    int r = audit_head_json(s->audit, &json);
    answer_json(s, c, q, r, json);
}

/* Logged before the key goes: the record is the first that it proves. */
void handle_audit_enroll(struct server *s, struct conn *c, const struct proto_msg *q)
{
    struct proto_msg m = {.type = P_AUDIT_ENROLL | P_REPLY, .serial = q->serial};
    CLEANUP(secret_freep) struct secret *key = NULL;
    int r = request_log(s, c, P_AUDIT_ENROLL, 0, &(struct about){0});
    const char *why = r ? "not done: the audit log cannot be written" : "";
    if (!r) {
        r = audit_enroll(s->audit, &key);
        why = r == -ENOENT ? "the key was handed out already" : "";
    }
    if (!r && secret_len(key) != LFS_KEY_BYTES)
        r = LFS_ERR_CORRUPT;
    if (r) {
        request_refuse(s, c, P_AUDIT_ENROLL, q->serial, r, why, &(struct about){0});
        return;
    }
    m.key = (struct proto_blob){secret_const(key), secret_len(key)};
    conn_send(s, c, &m);
}
