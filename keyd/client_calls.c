/* The calls of keyclient.h: each fills a request, and copies the reply out. */
#include "client.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct proto_blob of_secret(const struct secret *s)
{
    return s ? (struct proto_blob){secret_const(s), secret_len(s)} : (struct proto_blob){0};
}

static struct proto_blob of_text(const char *s)
{
    return s ? (struct proto_blob){(const uint8_t *)s, strlen(s)} : (struct proto_blob){0};
}

static struct proto_blob of_bytes(const void *p, size_t len)
{
    return (struct proto_blob){p, len};
}

/* A copy with a NUL behind it. */
static char *copy_text(const struct proto_blob *b)
{
    char *out = malloc(b->len + 1);
    if (!out)
        return NULL;
    memcpy(out, b->p, b->len);
    out[b->len] = '\0';
    return out;
}

/* NULL for an empty one; *bad when memory is out. */
static struct secret *copy_secret(const struct proto_blob *b, bool *bad)
{
    if (b->len == 0)
        return NULL;
    struct secret *s = secret_new_copy(b->p, b->len);
    *bad = *bad || !s;
    return s;
}

/* New key store bytes and, with recovery not NULL, the key that came with them. */
static int take_ini(const struct proto_msg *reply, char **ini, size_t *len, struct secret **recovery)
{
    bool bad = false;
    struct secret *key = recovery ? copy_secret(&reply->recovery, &bad) : NULL;
    char *text = copy_text(&reply->ini);
    if (!text || bad) {
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

int keyclient_init(struct keyclient *kc, const struct keystore_init *in, char **ini, size_t *ini_len,
                   struct secret **recovery)
{
    if (in->recovery && !recovery)
        return LFS_ERR_MISUSE;
    struct proto_msg q = {.type = P_INIT,
                          .suite = in->suite,
                          .flags = (in->fast_kdf ? PF_FAST_KDF : 0) | (in->recovery ? PF_RECOVERY : 0),
                          .cred = (uint8_t)in->first.type,
                          .secret = of_secret(in->first.secret),
                          .label = of_text(in->label)};
    struct proto_msg reply = {0};
    int r = client_call(kc, &q, &reply);
    if (!r)
        r = take_ini(&reply, ini, ini_len, recovery);
    proto_in_clear(&kc->in); /* it has the recovery key */
    return r;
}

static struct proto_msg with_store(uint16_t type, const char *ini, size_t len, const struct credential *c)
{
    return (struct proto_msg){
        .type = type, .ini = of_bytes(ini, len), .cred = (uint8_t)c->type, .secret = of_secret(c->secret)};
}

int keyclient_unlock(struct keyclient *kc, const char *ini, size_t len, const struct credential *c,
                     bool accept_older, uint8_t volume_id[static ID_BYTES], unsigned *slot_id)
{
    struct proto_msg q = with_store(P_UNLOCK, ini, len, c), reply = {0};
    q.flags = accept_older ? PF_ACCEPT_OLDER : 0;
    int r = client_call(kc, &q, &reply);
    if (r)
        return r;
    memcpy(volume_id, reply.volume, ID_BYTES);
    if (slot_id)
        *slot_id = reply.slot;
    return 0;
}

int keyclient_lock(struct keyclient *kc, const uint8_t volume_id[static ID_BYTES], unsigned *still_held)
{
    struct proto_msg q = {.type = P_LOCK}, reply = {0};
    memcpy(q.volume, volume_id, ID_BYTES);
    int r = client_call(kc, &q, &reply);
    if (!r && still_held)
        *still_held = reply.held;
    return r;
}

int keyclient_slot_test(struct keyclient *kc, const char *ini, size_t len, const struct credential *c,
                        unsigned *slot_id)
{
    struct proto_msg q = with_store(P_SLOT_TEST, ini, len, c), reply = {0};
    int r = client_call(kc, &q, &reply);
    if (!r && slot_id)
        *slot_id = reply.slot;
    return r;
}

int keyclient_slot_add(struct keyclient *kc, const char *ini, size_t len, const struct credential *c,
                       const struct slot_add *add, char **new_ini, size_t *new_len, unsigned *slot_id,
                       struct secret **recovery)
{
    bool makes = add->fresh.type == CRED_RECOVERY && !add->fresh.secret;
    if (makes && !recovery)
        return LFS_ERR_MISUSE;
    struct proto_msg q = with_store(P_SLOT_ADD, ini, len, c), reply = {0};
    q.flags = add->fast_kdf ? PF_FAST_KDF : 0;
    q.fresh_cred = (uint8_t)add->fresh.type;
    q.fresh = of_secret(add->fresh.secret);
    q.label = of_text(add->label);
    int r = client_call(kc, &q, &reply);
    if (!r)
        r = take_ini(&reply, new_ini, new_len, recovery);
    if (!r && slot_id)
        *slot_id = reply.slot;
    proto_in_clear(&kc->in); /* it may have a recovery key */
    return r;
}

int keyclient_slot_remove(struct keyclient *kc, const char *ini, size_t len, const struct credential *c,
                          unsigned slot_id, char **new_ini, size_t *new_len)
{
    struct proto_msg q = with_store(P_SLOT_REMOVE, ini, len, c), reply = {0};
    q.slot = slot_id;
    int r = client_call(kc, &q, &reply);
    return r ? r : take_ini(&reply, new_ini, new_len, NULL);
}

int keyclient_pin(struct keyclient *kc, const char *ini, size_t len)
{
    struct proto_msg q = {.type = P_PIN, .ini = of_bytes(ini, len)}, reply = {0};
    return client_call(kc, &q, &reply);
}

int keyclient_status(struct keyclient *kc, char **json)
{
    struct proto_msg q = {.type = P_STATUS}, reply = {0};
    int r = client_call(kc, &q, &reply);
    if (r)
        return r;
    char *text = copy_text(&reply.json);
    if (!text)
        return -ENOMEM;
    *json = text;
    return 0;
}

int keyclient_attach(struct keyclient *kc, const uint8_t volume_id[static ID_BYTES], const char *mountpoint)
{
    struct proto_msg q = {.type = P_ATTACH, .path = of_text(mountpoint)}, reply = {0};
    memcpy(q.volume, volume_id, ID_BYTES);
    int r = client_call(kc, &q, &reply);
    if (!r)
        kc->grace_s = reply.grace_s;
    return r;
}

static struct proto_msg for_dir(uint16_t type, const uint8_t *volume_id, const uint8_t *pd_id)
{
    struct proto_msg q = {.type = type};
    memcpy(q.volume, volume_id, ID_BYTES);
    if (pd_id)
        memcpy(q.pd, pd_id, ID_BYTES);
    return q;
}

int keyclient_lease(struct keyclient *kc, const uint8_t volume_id[static ID_BYTES], const uint8_t *pd_id,
                    struct keyset **out, unsigned *lease_s)
{
    struct proto_msg q = for_dir(P_LEASE, volume_id, pd_id), reply = {0};
    int r = client_call(kc, &q, &reply);
    /* The reply's copy in kc->in would outlive the lease. */
    proto_in_clear(&kc->in);
    if (r) {
        proto_msg_clear(&reply);
        return r;
    }
    *out = reply.keys;
    if (lease_s)
        *lease_s = reply.lease_s;
    return 0;
}

int keyclient_renew(struct keyclient *kc, const uint8_t volume_id[static ID_BYTES], const uint8_t *pd_id)
{
    struct proto_msg q = for_dir(P_RENEW, volume_id, pd_id), reply = {0};
    return client_call(kc, &q, &reply);
}

int keyclient_revoked(struct keyclient *kc, uint32_t serial, unsigned held)
{
    struct proto_msg q = {.type = P_REVOKED, .push = serial, .held = held}, reply = {0};
    return client_call(kc, &q, &reply);
}
