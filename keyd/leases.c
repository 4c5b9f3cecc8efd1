/* Leases: the keys of protected directories, given by policy, for a time, to a connection. */
#include "server.h"

#include "latchfs/err.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RATE_MS 60000

struct lease *lease_find(const struct conn *c, const uint8_t *volume_id, const uint8_t *pd_id)
{
    for (struct lease *l = c->leases; l; l = l->next)
        if (same_id(l->volume_id, volume_id) && same_id(l->pd_id, pd_id))
            return l;
    return NULL;
}

bool lease_any(const struct conn *c, const uint8_t *volume_id)
{
    for (const struct lease *l = c->leases; l; l = l->next)
        if (same_id(l->volume_id, volume_id))
            return true;
    return false;
}

unsigned leases_end(struct conn *c, const uint8_t *volume_id, const uint8_t *pd_id)
{
    unsigned n = 0;
    for (struct lease **at = &c->leases; *at;) {
        struct lease *l = *at;
        if ((volume_id && !same_id(l->volume_id, volume_id)) || (pd_id && !same_id(l->pd_id, pd_id))) {
            at = &l->next;
            continue;
        }
        *at = l->next;
        free(l);
        n++;
    }
    return n;
}

static int64_t end_time(unsigned lease_s)
{
    return lease_s ? now_ms() + (int64_t)lease_s * 1000 : 0;
}

static int lease_note(struct server *s, struct conn *c, const struct keyset *keys, unsigned lease_s)
{
    struct lease *l = lease_find(c, keys->volume_id, keys->pd_id);
    if (!l) {
        l = calloc(1, sizeof *l);
        if (!l)
            return -ENOMEM;
        memcpy(l->volume_id, keys->volume_id, ID_BYTES);
        memcpy(l->pd_id, keys->pd_id, ID_BYTES);
        l->next = c->leases;
        c->leases = l;
    }
    struct push *p = push_find(c, P_PUSH_REKEY, keys->pd_id);
    if (p)
        p->again = false;
    l->moment = ++s->moment;
    l->version = keys->active;
    l->lease_s = lease_s;
    l->until = end_time(lease_s);
    return 0;
}

/* ---- policy ---- */

struct asker { /* whose lease it is */
    uid_t uid;
    const gid_t *gids;
    size_t ngids;
    bool via_request_key;
};

static struct asker asker_of(const struct conn *c)
{
    return (struct asker){.uid = c->peer.uid, .gids = c->gids, .ngids = c->ngids};
}

static int ask_policy(struct server *s, const struct asker *who, struct unlocked *u, struct dir_note *n,
                      struct policy_lease *out, char *why, size_t size)
{
    struct policy_ask a = {.uid = who->uid,
                           .gids = who->gids,
                           .ngids = who->ngids,
                           .volume_id = u->ks->volume_id,
                           .pd_id = n->id,
                           .is_root_dir = same_id(n->id, u->ks->root_id),
                           .environment = u->ks->environment,
                           .now = time(NULL),
                           .via_request_key = who->via_request_key};
    int r = volume_dir_name(s, u, n, &a.dir_name); /* rules may be about the name */
    return r ? r : policy_lease(s->policy, &a, out, why, size);
}

int lease_allowed(struct server *s, const struct conn *c, struct unlocked *u, const uint8_t *pd, char *why,
                  size_t size)
{
    struct asker who = asker_of(c);
    struct policy_lease terms;
    struct dir_note *n = volume_note(u, pd);
    return n ? ask_policy(s, &who, u, n, &terms, why, size) : -ENOENT;
}

/* NULL: there is no place. One that is younger than a minute is kept, or its user could have it forgotten. */
static struct rate *rate_of(struct server *s, uid_t uid, const struct unlocked *u, const uint8_t *pd,
                            int64_t now)
{
    struct rate *oldest = &s->rates[0];
    unsigned of_user = 0;
    for (unsigned i = 0; i < RATES_MAX; i++) {
        struct rate *r = &s->rates[i];
        if (r->count && r->uid == uid && same_id(r->pd_id, pd) && same_id(r->volume_id, u->ks->volume_id))
            return r;
        of_user += r->count && r->uid == uid && now - r->since < RATE_MS;
        if (!r->count || (oldest->count && r->since < oldest->since))
            oldest = r;
    }
    if (of_user >= RATES_OF_USER || (oldest->count && now - oldest->since < RATE_MS))
        return NULL;
    *oldest = (struct rate){.uid = uid, .since = now};
    memcpy(oldest->volume_id, u->ks->volume_id, ID_BYTES);
    memcpy(oldest->pd_id, pd, ID_BYTES);
    return oldest;
}

static bool over_rate(struct server *s, uid_t uid, const struct unlocked *u, const uint8_t *pd,
                      unsigned per_minute)
{
    int64_t now = now_ms();
    if (!per_minute)
        return false;
    struct rate *r = rate_of(s, uid, u, pd, now);
    if (!r)
        return true;
    if (now - r->since >= RATE_MS) {
        r->since = now;
        r->count = 0;
    }
    if (r->count >= per_minute)
        return true;
    r->count++;
    return false;
}

/* ---- leasing ---- */

static int refuse_rate(struct server *s, const struct conn *c, const struct unlocked *u, const uint8_t *pd,
                       unsigned per_minute, char *why, size_t size)
{
    snprintf(why, size, "more than %u leases of this directory in a minute", per_minute);
    alert_note(s->alert, s->audit, ALERT_LEASE_RATE,
               &(struct audit_act){.act = "lease",
                                   .peer = &c->peer,
                                   .volume_id = u->ks->volume_id,
                                   .pd_id = pd,
                                   .result = LFS_ERR_DENIED});
    return LFS_ERR_DENIED;
}

/* Who was told to lease again does not pay for it, once. */
static bool told_to_lease(const struct conn *c, const uint8_t *pd)
{
    struct push *p = push_find(c, P_PUSH_REKEY, pd);
    bool first = p && !p->leased;
    if (first)
        p->leased = true;
    return first;
}

static int may_lease(struct server *s, const struct conn *c, const struct asker *who, struct unlocked *u,
                     const uint8_t *pd, struct policy_lease *terms, char *why, size_t size)
{
    struct dir_note *n = volume_note(u, pd);
    if (!n) {
        snprintf(why, size, "the key store has no such directory");
        return -ENOENT;
    }
    if (marked(s, u->ks->volume_id, pd, c->id)) {
        snprintf(why, size, "the directory is locked");
        return LFS_ERR_NOKEY;
    }
    int r = ask_policy(s, who, u, n, terms, why, size);
    if (!r && !told_to_lease(c, pd) && over_rate(s, who->uid, u, pd, terms->per_minute))
        r = refuse_rate(s, c, u, pd, terms->per_minute, why, size);
    return r;
}

static int unwrap(struct server *s, struct unlocked *u, const uint8_t *pd, struct keyset **keys)
{
    struct held_source held = held_blobs_of(s);
    uint64_t begun = metrics_now();
    int r = keystore_unwrap_dir(u->ks, pd, vault_lookup, u->vault, &held, keys);
    metrics_time(s->metrics, METRIC_UNWRAP, metrics_now() - begun);
    return r;
}

static void note_given(struct server *s, struct conn *c, struct unlocked *u, const uint8_t *pd)
{
    struct audit_act act = {.act = "lease", .peer = &c->peer, .volume_id = u->ks->volume_id, .pd_id = pd};
    struct dir_note *n = volume_note(u, pd);
    n->last_lease = time(NULL);
    if (c->attached)
        c->held = 0;
    c->wiped = false;
    c->leased = c->leased || conn_mounts(c, u->ks->volume_id);
    metrics_count(s->metrics, METRIC_LEASES, 1);
    alert_note(s->alert, s->audit, ALERT_NEW_PEER, &act);
    alert_note(s->alert, s->audit, ALERT_BULK, &act);
}

static void give(struct server *s, struct conn *c, const struct proto_msg *q, const struct asker *who,
                 const char *detail)
{
    struct proto_msg m = {.type = q->type | P_REPLY, .serial = q->serial};
    struct unlocked *u = volume_find(s, q->volume);
    const uint8_t *pd = u ? volume_dir(u->ks, q->pd) : q->pd;
    struct about about = {.volume_id = q->volume, .pd_id = pd, .detail = detail};
    struct policy_lease terms = {0};
    char why[200] = "the volume is locked";
    int r = LFS_ERR_NOKEY;
    if (u) {
        why[0] = '\0';
        r = may_lease(s, c, who, u, pd, &terms, why, sizeof why);
    }
    if (!r)
        r = unwrap(s, u, pd, &m.keys);
    if (!r)
        r = lease_note(s, c, m.keys, terms.lease_s);
    if (r) {
        if (r == LFS_ERR_DENIED || r == LFS_ERR_NOKEY)
            metrics_count(s->metrics, METRIC_LEASE_REFUSALS, 1);
        about.detail = NULL;
        request_refuse(s, c, q->type, q->serial, r, why, &about);
    } else {
        m.lease_s = terms.lease_s;
        m.idle_s = terms.idle_s;
        note_given(s, c, u, pd);
        request_answer(s, c, &m, &about);
    }
    proto_msg_clear(&m);
}

void handle_lease(struct server *s, struct conn *c, const struct proto_msg *q)
{
    struct asker who = asker_of(c);
    give(s, c, q, &who, NULL);
}

/* For request-key, which runs as root: policy decides about the user that the kernel named, by his uid alone.
 */
void handle_lease_for(struct server *s, struct conn *c, const struct proto_msg *q)
{
    struct asker who = {.uid = (uid_t)q->uid, .via_request_key = true};
    char detail[64];
    if (q->uid == UINT32_MAX) {
        handle_lease(s, c, q);
        return;
    }
    if (c->peer.uid != 0) {
        request_refuse(s, c, q->type, q->serial, LFS_ERR_DENIED, "only root asks for another user",
                       &(struct about){.volume_id = q->volume});
        return;
    }
    snprintf(detail, sizeof detail, "for uid %u", (unsigned)q->uid);
    give(s, c, q, &who, detail);
}

/* Policy is asked again: its windows end. */
void handle_renew(struct server *s, struct conn *c, const struct proto_msg *q)
{
    struct proto_msg m = {.type = P_RENEW | P_REPLY, .serial = q->serial};
    struct asker who = asker_of(c);
    struct policy_lease terms;
    char why[200] = "";
    struct unlocked *u = volume_find(s, q->volume);
    struct dir_note *n = u ? volume_note(u, volume_dir(u->ks, q->pd)) : NULL;
    struct lease *l = n ? lease_find(c, q->volume, n->id) : NULL;
    int r = l ? ask_policy(s, &who, u, n, &terms, why, sizeof why) : LFS_ERR_NOKEY;
    if (r) {
        request_refuse(s, c, P_RENEW, q->serial, r, why, &(struct about){0});
        return;
    }
    l->lease_s = m.lease_s = terms.lease_s;
    l->until = end_time(l->lease_s);
    conn_send(s, c, &m);
}

/* ---- time ---- */

static void log_end(struct server *s, const struct conn *c, const struct lease *l)
{
    audit_write(s->audit,
                &(struct audit_act){
                    .act = "lease-end", .peer = &c->peer, .volume_id = l->volume_id, .pd_id = l->pd_id},
                false);
}

void leases_check_time(struct server *s, int64_t now)
{
    for (struct conn *c = s->conns; c; c = c->next) {
        for (struct lease **at = &c->leases; *at;) {
            struct lease *l = *at;
            if (!l->until || now < l->until) {
                at = &l->next;
                continue;
            }
            *at = l->next;
            log_end(s, c, l);
            free(l);
        }
    }
}

int64_t leases_next_time(const struct server *s)
{
    int64_t at = 0;
    for (const struct conn *c = s->conns; c; c = c->next)
        for (const struct lease *l = c->leases; l; l = l->next)
            at = sooner(at, l->until);
    return at;
}
