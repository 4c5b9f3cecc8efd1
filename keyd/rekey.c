/* Waiting until no mount makes headers of an older key version any more. */
#include "server.h"

#include "latchfs/err.h"

#include <errno.h>
#include <string.h>

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
