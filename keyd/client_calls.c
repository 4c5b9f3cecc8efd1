/* The calls of keyclient.h about volumes: each fills a request, and copies the reply out. */
#include "client.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct proto_blob client_blob(const void *p, size_t len)
{
    return (struct proto_blob){p, len};
}

struct proto_blob client_text(const char *s)
{
    return s ? client_blob(s, strlen(s)) : (struct proto_blob){0};
}

struct proto_blob client_secret(const struct secret *s)
{
    return s ? client_blob(secret_const(s), secret_len(s)) : (struct proto_blob){0};
}

char *client_copy(const struct proto_blob *b)
{
    char *out = malloc(b->len + 1);
    if (!out)
        return NULL;
    if (b->len)
        memcpy(out, b->p, b->len);
    out[b->len] = '\0';
    return out;
}

int client_take_json(const struct proto_msg *reply, char **json)
{
    char *text = client_copy(&reply->json);
    if (!text)
        return -ENOMEM;
    *json = text;
    return 0;
}

int client_take_ini(const struct proto_msg *reply, char **ini, size_t *len, struct secret **recovery)
{
    bool has_key = recovery && reply->recovery.len;
    struct secret *key = has_key ? secret_new_copy(reply->recovery.p, reply->recovery.len) : NULL;
    char *text = client_copy(&reply->ini);
    if (!text || (has_key && !key)) {
        free(text);
        secret_free(key);
        return -ENOMEM;
    }
    *ini = text;
    *len = reply->ini.len;
    if (recovery)
        *recovery = key;
    return 0;
}

int client_put_fresh(struct proto_msg *q, const struct credential *c)
{
    q->fresh_cred = (uint8_t)c->type;
    q->fresh = client_secret(c->secret);
    q->command = client_text(c->command);
    q->blob = client_blob(c->blob, c->blob ? c->blob_len : 0);
    if (c->public_key)
        memcpy(q->public_key, c->public_key, sizeof q->public_key);
    return q->command.len > KEYSTORE_COMMAND_MAX || q->blob.len > KEYSTORE_BLOB_MAX ? LFS_ERR_MISUSE : 0;
}

int keyclient_init(struct keyclient *kc, const struct keystore_init *in, char **ini, size_t *ini_len,
                   struct secret **recovery)
{
    if (in->recovery && !recovery)
        return LFS_ERR_MISUSE;
    struct proto_msg q = {.type = P_INIT,
                          .suite = in->suite,
                          .flags = (in->fast_kdf ? PF_FAST_KDF : 0) | (in->recovery ? PF_RECOVERY : 0),
                          .label = client_text(in->label),
                          .environment = client_text(in->environment)};
    struct proto_msg reply = {0};
    int r = client_put_fresh(&q, &in->first);
    if (!r)
        r = client_call_slow(kc, &q, &reply, CLIENT_SLOT_MS);
    if (!r)
        r = client_take_ini(&reply, ini, ini_len, recovery);
    proto_in_clear(&kc->in); /* it has the recovery key */
    return r;
}

struct proto_msg client_with_store(uint16_t type, const char *ini, size_t len, const struct credential *c)
{
    struct proto_msg q = {.type = type,
                          .ini = client_blob(ini, len),
                          .cred = (uint8_t)c->type,
                          .secret = client_secret(c->secret),
                          .slot = c->slot};
    if (c->signing_public)
        memcpy(q.signing_public, c->signing_public, sizeof q.signing_public);
    return q;
}

int keyclient_unlock(struct keyclient *kc, const char *ini, size_t len, const struct credential *c,
                     bool accept_older, uint8_t volume_id[static ID_BYTES], unsigned *slot_id)
{
    struct proto_msg q = client_with_store(P_UNLOCK, ini, len, c), reply = {0};
    q.flags = accept_older ? PF_ACCEPT_OLDER : 0;
    int r = client_call_slow(kc, &q, &reply, CLIENT_SLOT_MS);
    kc->first_opening = !r && reply.flags & PF_FIRST;
    if (r)
        return r;
    memcpy(volume_id, reply.volume, ID_BYTES);
    if (slot_id)
        *slot_id = reply.slot;
    return 0;
}

int keyclient_slot_test(struct keyclient *kc, const char *ini, size_t len, const struct credential *c,
                        unsigned *slot_id)
{
    struct proto_msg q = client_with_store(P_SLOT_TEST, ini, len, c), reply = {0};
    int r = client_call_slow(kc, &q, &reply, CLIENT_SLOT_MS);
    if (!r && slot_id)
        *slot_id = reply.slot;
    return r;
}

struct proto_msg client_for_dir(uint16_t type, const uint8_t *volume_id, const uint8_t *pd_id)
{
    struct proto_msg q = {.type = type};
    memcpy(q.volume, volume_id, ID_BYTES);
    if (pd_id)
        memcpy(q.pd, pd_id, ID_BYTES);
    return q;
}

/* keyd asks the mounts, and may have to wait for them. */
static int64_t wait_ms(const struct keyclient *kc)
{
    return (int64_t)kc->wait_s * 1000;
}

int keyclient_lock(struct keyclient *kc, const uint8_t volume_id[static ID_BYTES], unsigned *still_held)
{
    struct proto_msg q = client_for_dir(P_LOCK, volume_id, NULL), reply = {0};
    int r = client_call_slow(kc, &q, &reply, wait_ms(kc));
    if (!r && still_held)
        *still_held = reply.held;
    return r;
}

int keyclient_lock_dir(struct keyclient *kc, const uint8_t volume_id[static ID_BYTES],
                       const uint8_t pd_id[static ID_BYTES], bool force, unsigned *still_held)
{
    struct proto_msg q = client_for_dir(P_LOCK_DIR, volume_id, pd_id), reply = {0};
    q.flags = force ? PF_FORCE : 0;
    int r = client_call_slow(kc, &q, &reply, 2 * wait_ms(kc)); /* asked, then revoked */
    if (r)
        return r;
    if (still_held)
        *still_held = reply.held;
    return reply.done ? 0 : LFS_ERR_BUSY;
}

int keyclient_unlock_dir(struct keyclient *kc, const uint8_t volume_id[static ID_BYTES],
                         const uint8_t pd_id[static ID_BYTES])
{
    struct proto_msg q = client_for_dir(P_UNLOCK_DIR, volume_id, pd_id), reply = {0};
    return client_call(kc, &q, &reply);
}

int keyclient_status(struct keyclient *kc, char **json)
{
    struct proto_msg q = {.type = P_STATUS}, reply = {0};
    int r = client_call(kc, &q, &reply);
    return r ? r : client_take_json(&reply, json);
}
