/* The calls of keyclient.h for those who answer for the keys: sessions, edits, approvals, the audit log. */
#include "client.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/keyedit.h"

#include <errno.h>
#include <string.h>

#define ANSWER_MS 5000 /* for the answer to a wait that has its own deadline */

int keyclient_admin(struct keyclient *kc, const char *ini, size_t len, const struct credential *c,
                    bool accept_older, unsigned *slot_id)
{
    struct proto_msg q = client_with_store(P_ADMIN, ini, len, c), reply = {0};
    q.flags = accept_older ? PF_ACCEPT_OLDER : 0;
    int r = client_call_slow(kc, &q, &reply, CLIENT_SLOT_MS);
    kc->first_opening = !r && reply.flags & PF_FIRST;
    if (!r && slot_id)
        *slot_id = reply.slot;
    return r;
}

int keyclient_edit(struct keyclient *kc, const struct key_edit *e, char **new_ini, size_t *new_len,
                   struct key_edit_result *out)
{
    struct proto_msg q = client_for_dir(P_EDIT, (const uint8_t[ID_BYTES]){0}, e->pd), reply = {0};
    struct secret *recovery = NULL;
    q.op = e->op;
    q.number = e->number;
    q.flags = (e->force ? PF_FORCE : 0) | (e->held ? PF_HELD : 0) | (e->fast_kdf ? PF_FAST_KDF : 0);
    q.label = client_text(e->label);
    int r = client_put_fresh(&q, &e->fresh);
    if (!r)
        r = client_call_slow(kc, &q, &reply, CLIENT_SLOT_MS);
    if (!r)
        r = client_take_ini(&reply, new_ini, new_len, &recovery);
    if (!r) {
        out->number = reply.number;
        out->recovery = recovery;
        memcpy(out->pd, reply.pd, ID_BYTES);
    }
    proto_in_clear(&kc->in); /* it may have a recovery key */
    return r;
}

int keyclient_pin(struct keyclient *kc, const char *ini, size_t len)
{
    struct proto_msg q = {.type = P_PIN, .ini = client_blob(ini, len)}, reply = {0};
    return client_call(kc, &q, &reply);
}

int keyclient_wait_rekeyed(struct keyclient *kc, const uint8_t volume_id[static ID_BYTES],
                           const uint8_t pd_id[static ID_BYTES], uint32_t version)
{
    struct proto_msg q = client_for_dir(P_WAIT_REKEYED, volume_id, pd_id), reply = {0};
    q.number = version;
    q.wait_ms = (uint32_t)kc->deadline_ms < PROTO_WAIT_MS_MAX ? (uint32_t)kc->deadline_ms : PROTO_WAIT_MS_MAX;
    return client_call_slow(kc, &q, &reply, ANSWER_MS);
}

int keyclient_approvals(struct keyclient *kc, char **json)
{
    struct proto_msg q = {.type = P_APPROVALS}, reply = {0};
    int r = client_call(kc, &q, &reply);
    return r ? r : client_take_json(&reply, json);
}

int keyclient_approve(struct keyclient *kc, const char *id, const uint8_t public_key[static 32],
                      const uint8_t signature[static 64])
{
    struct proto_msg q = {.type = P_APPROVE, .id = client_text(id)}, reply = {0};
    memcpy(q.public_key, public_key, sizeof q.public_key);
    memcpy(q.signature, signature, sizeof q.signature);
    return client_call(kc, &q, &reply);
}

int keyclient_audit_read(struct keyclient *kc, uint64_t from, char **text, size_t *len)
{
    struct proto_msg q = {.type = P_AUDIT_READ, .offset = from}, reply = {0};
    int r = client_call(kc, &q, &reply);
    if (r)
        return r;
    char *copy = client_copy(&reply.log);
    if (!copy)
        return -ENOMEM;
    *text = copy;
    *len = reply.log.len;
    return 0;
}

int keyclient_audit_head(struct keyclient *kc, char **json)
{
    struct proto_msg q = {.type = P_AUDIT_HEAD}, reply = {0};
    int r = client_call(kc, &q, &reply);
    return r ? r : client_take_json(&reply, json);
}

int keyclient_audit_enroll(struct keyclient *kc, struct secret **key)
{
    struct proto_msg q = {.type = P_AUDIT_ENROLL}, reply = {0};
    int r = client_call(kc, &q, &reply);
    if (!r) {
        *key = secret_new_copy(reply.key.p, reply.key.len);
        r = *key ? 0 : -ENOMEM;
    }
    proto_in_clear(&kc->in);
    return r;
}
