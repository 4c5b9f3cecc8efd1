/* The calls of keyclient.h for mounts, and for whoever else leases. */
#include "client.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"

#include <errno.h>
#include <string.h>

int keyclient_attach(struct keyclient *kc, const uint8_t volume_id[static ID_BYTES], const char *mountpoint)
{
    struct proto_msg q = client_for_dir(P_ATTACH, volume_id, NULL), reply = {0};
    q.path = client_text(mountpoint);
    int r = client_call(kc, &q, &reply);
    if (!r)
        kc->grace_s = reply.grace_s;
    return r;
}

static int lease(struct keyclient *kc, struct proto_msg *q, struct keyset **out, unsigned *lease_s)
{
    struct proto_msg reply = {0};
    int r = client_call(kc, q, &reply);
    /* The reply's copy in kc->in would outlive the lease. */
    proto_in_clear(&kc->in);
    if (r) {
        proto_msg_clear(&reply);
        return r;
    }
    *out = reply.keys;
    kc->idle_s = reply.idle_s;
    if (lease_s)
        *lease_s = reply.lease_s;
    return 0;
}

int keyclient_lease(struct keyclient *kc, const uint8_t volume_id[static ID_BYTES], const uint8_t *pd_id,
                    struct keyset **out, unsigned *lease_s)
{
    struct proto_msg q = client_for_dir(P_LEASE, volume_id, pd_id);
    return lease(kc, &q, out, lease_s);
}

int keyclient_lease_for(struct keyclient *kc, const uint8_t volume_id[static ID_BYTES], const uint8_t *pd_id,
                        uid_t uid, struct keyset **out)
{
    struct proto_msg q = client_for_dir(P_LEASE_FOR, volume_id, pd_id);
    q.uid = (uint32_t)uid;
    return lease(kc, &q, out, NULL);
}

int keyclient_renew(struct keyclient *kc, const uint8_t volume_id[static ID_BYTES], const uint8_t *pd_id)
{
    struct proto_msg q = client_for_dir(P_RENEW, volume_id, pd_id), reply = {0};
    return client_call(kc, &q, &reply);
}

int keyclient_revoked(struct keyclient *kc, uint32_t serial, unsigned held)
{
    struct proto_msg q = {.type = P_REVOKED, .push = serial, .held = held}, reply = {0};
    return client_call(kc, &q, &reply);
}

int keyclient_rekeyed(struct keyclient *kc, uint32_t serial, const uint8_t pd_id[static ID_BYTES],
                      uint32_t active)
{
    struct proto_msg q = {.type = P_REKEYED, .push = serial, .number = active}, reply = {0};
    memcpy(q.pd, pd_id, ID_BYTES);
    return client_call(kc, &q, &reply);
}

int keyclient_held(struct keyclient *kc, uint32_t serial, unsigned held)
{
    struct proto_msg q = {.type = P_HELD, .push = serial, .held = held}, reply = {0};
    return client_call(kc, &q, &reply);
}

int keyclient_locked_idle(struct keyclient *kc, const uint8_t volume_id[static ID_BYTES],
                          const uint8_t pd_id[static ID_BYTES])
{
    struct proto_msg q = client_for_dir(P_LOCKED_IDLE, volume_id, pd_id), reply = {0};
    return client_call(kc, &q, &reply);
}

int keyclient_report(struct keyclient *kc, uint64_t auth_failures, const struct key_use *uses, size_t n)
{
    uint8_t bytes[PROTO_USES_MAX * PROTO_USE_BYTES];
    struct wcur c = wcur_over(bytes, sizeof bytes);
    if (n > PROTO_USES_MAX)
        return LFS_ERR_MISUSE;
    for (size_t i = 0; i < n; i++) {
        wcur_bytes(&c, uses[i].pd_id, ID_BYTES);
        wcur_u64(&c, uses[i].last_use);
    }
    struct proto_msg q = {.type = P_REPORT, .failures = auth_failures}, reply = {0};
    q.uses = client_blob(bytes, wcur_used(&c));
    return client_call(kc, &q, &reply);
}
