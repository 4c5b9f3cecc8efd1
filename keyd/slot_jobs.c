/* Requests that open a slot: what is checked before, the slow half on the worker, then what becomes of it. */
#include "server.h"

#include "fresh.h"
#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- before the job ---- */

/* Passes times KiB of all slots that the credential would be tried on. */
static uint64_t kdf_work(const struct keystore *ks, const struct proto_msg *q)
{
    uint64_t work = 0;
    for (uint32_t i = 0; i < ks->slot_count; i++) {
        const struct keystore_slot *s = &ks->slots[i];
        if (s->type == q->cred && (!q->slot || q->slot == s->id))
            work += (uint64_t)s->kdf_ops * s->kdf_kib;
    }
    return work;
}

/* The signing key is what a volume is known by. known: what pin_load said. Accepting an older store does not
 * make another signing key accepted, except from who administers keys; never while the volume is unlocked,
 * for mounts would lease keys of the other store. */
static int check_signer(struct server *s, const struct conn *c, const struct proto_msg *q,
                        const struct keystore *ks, int known, const struct pin *pinned, char *why,
                        size_t size)
{
    const struct unlocked *u = volume_find(s, ks->volume_id);
    if (q->type != P_SLOT_TEST && u &&
        memcmp(u->ks->signing_public, ks->signing_public, KEYSTORE_PUBLIC_BYTES) != 0) {
        snprintf(why, size, "the volume is unlocked with a key store of another signing key: lock it first");
        return LFS_ERR_DENIED;
    }
    if (known == -ENOENT)
        return 0;
    if (known)
        snprintf(why, size, "what was noted of this volume cannot be read: %s", lfs_strerror(known));
    else if (memcmp(pinned->signing_public, ks->signing_public, KEYSTORE_PUBLIC_BYTES) != 0)
        snprintf(why, size, "the key store is signed with another key than the one last used here");
    else
        return 0;
    if (!(q->flags & PF_ACCEPT_OLDER))
        return LFS_ERR_ROLLBACK;
    if (c->roles & ROLE_KEYADMIN)
        return 0;
    snprintf(why, size, "only the role key-admin may accept a key store of another signing key");
    return LFS_ERR_DENIED;
}

/* A test of a slot is also for header backups, so there any generation will do. */
static int check_against_pin(struct server *s, const struct conn *c, const struct proto_msg *q,
                             const struct keystore *ks, char *why, size_t size)
{
    struct pin pinned, now;
    pin_of(ks, (const char *)q->ini.p, q->ini.len, &now);
    int known = pin_load(s->statedir, ks->volume_id, &pinned);
    int r = check_signer(s, c, q, ks, known, &pinned, why, size);
    if (r || known || q->flags & PF_ACCEPT_OLDER || q->type == P_SLOT_TEST || !pin_compare(&pinned, &now))
        return r;
    snprintf(why, size,
             "the key store is not the one last used here: generation %" PRIu64 ", expected %" PRIu64,
             now.generation, pinned.generation);
    return LFS_ERR_ROLLBACK;
}

/* The volume's key store may be hostile: what can be told without opening a slot is told before Argon2id
 * runs. */
static int check_before(struct server *s, const struct conn *c, const struct proto_msg *q,
                        const struct keystore *ks, char *why, size_t size)
{
    int r = check_against_pin(s, c, q, ks, why, size);
    if (!r && q->cred == CRED_PASSPHRASE && kdf_work(ks, q) > WORKER_KDF_WORK_MAX) {
        snprintf(why, size, "trying all passphrase slots would take too long: name the slot");
        r = LFS_ERR_DENIED;
    }
    return r;
}

static int check_policy(struct server *s, const struct conn *c, const struct proto_msg *q,
                        const struct keystore *ks, char *why, size_t size)
{
    struct policy_ask a = {.uid = c->peer.uid,
                           .gids = c->gids,
                           .ngids = c->ngids,
                           .volume_id = ks->volume_id,
                           .environment = ks->environment,
                           .now = time(NULL)};
    if (q->type == P_UNLOCK)
        return policy_environment(s->policy, ks->environment, why, size);
    return q->type == P_ADMIN ? policy_admin(s->policy, &a, why, size) : 0;
}

int check_open(struct server *s, struct conn *c, struct proto_msg *q)
{
    CLEANUP(keystore_freep) struct keystore *ks = NULL;
    char why[200] = "";
    unsigned line = 0;
    int r = keystore_parse((const char *)q->ini.p, q->ini.len, &ks, &line);
    if (r && line)
        snprintf(why, sizeof why, "the key store, line %u: %s", line, lfs_strerror(r));
    if (!r)
        r = check_policy(s, c, q, ks, why, sizeof why);
    if (!r)
        r = check_before(s, c, q, ks, why, sizeof why);
    if (r)
        request_refuse(s, c, q->type, q->serial, r, why,
                       &(struct about){.volume_id = ks ? ks->volume_id : NULL});
    else
        memcpy(q->volume, ks->volume_id, ID_BYTES); /* so that a lock finds the job */
    return r;
}

/* ---- on the worker ---- */

/* *out NULL for an empty blob. */
static int to_secret(const struct proto_blob *b, struct secret **out)
{
    *out = b->len ? secret_new_copy(b->p, b->len) : NULL;
    return b->len && !*out ? -ENOMEM : 0;
}

void job_open(struct job *j)
{
    CLEANUP(secret_freep) struct secret *secret = NULL;
    struct credential c = {.type = (enum credential_type)j->q.cred, .slot = j->q.slot};
    static const uint8_t any[KEYSTORE_PUBLIC_BYTES];
    if (memcmp(j->q.signing_public, any, sizeof any) != 0)
        c.signing_public = j->q.signing_public;
    j->result = to_secret(&j->q.secret, &secret);
    c.secret = secret;
    if (!j->result)
        j->result = keystore_open((const char *)j->q.ini.p, j->q.ini.len, &c, &j->ks, &j->keys, &j->why);
    if (!j->result)
        j->slot_id = j->keys->slot_id;
}

void job_init(struct job *j)
{
    struct fresh_slot f;
    char label[KEYSTORE_LABEL_MAX + 1], environment[KEYSTORE_LABEL_MAX + 1];
    j->result = fresh_slot_of(&j->q, &f);
    if (!j->result) {
        struct keystore_init in = {.suite = j->q.suite,
                                   .fast_kdf = j->q.flags & PF_FAST_KDF,
                                   .recovery = j->q.flags & PF_RECOVERY,
                                   .first = f.c,
                                   .label = message_text(&j->q.label, label),
                                   .environment = message_text(&j->q.environment, environment)};
        j->result = keystore_make(&in, j->kdf_ms, &j->ini, &j->ini_len, &j->recovery, &j->why);
    }
    fresh_slot_clear(&f);
}

/* ---- back in the server ---- */

void refuse_job(struct server *s, struct conn *c, const struct job *j, int err, const char *why)
{
    CLEANUP(keystore_freep) struct keystore *tried = NULL;
    struct audit_act act = {.act = proto_type_name(j->q.type), .peer = &j->peer, .result = err};
    if (!j->ks && j->q.ini.len) /* the log says which volume it was, if the bytes do */
        keystore_parse((const char *)j->q.ini.p, j->q.ini.len, &tried, NULL);
    const struct keystore *ks = j->ks ? j->ks : tried;
    act.volume_id = ks ? ks->volume_id : NULL;
    if (err == LFS_ERR_PASSPHRASE) {
        metrics_count(s->metrics, METRIC_UNLOCK_FAILURES, 1);
        alert_note(s->alert, s->audit, ALERT_UNLOCK_FAILED, &act);
    }
    request_refuse(s, c, j->q.type, j->q.serial, err, why,
                   &(struct about){.volume_id = act.volume_id, .peer = &j->peer});
}

void done_init(struct server *s, struct conn *c, struct job *j)
{
    CLEANUP(keystore_freep) struct keystore *ks = NULL;
    int r = j->result;
    if (!r)
        r = keystore_parse(j->ini, j->ini_len, &ks, NULL);
    if (r) {
        refuse_job(s, c, j, r, j->why.text);
        return;
    }
    struct proto_msg m = {
        .type = P_INIT | P_REPLY, .serial = j->q.serial, .ini = {(const uint8_t *)j->ini, j->ini_len}};
    if (j->recovery)
        m.recovery = (struct proto_blob){secret_const(j->recovery), secret_len(j->recovery)};
    answered_note(s, j->ini, j->ini_len);
    request_answer(s, c, &m, &(struct about){.volume_id = ks->volume_id, .peer = &j->peer});
}

/* Whoever accepts another signing key takes the volume over: not unlogged. */
static int log_other_signer(struct server *s, const struct conn *c, const struct job *j, struct opened *o)
{
    struct audit_act act = {.act = "accept-signing-key",
                            .peer = &c->peer,
                            .volume_id = j->ks->volume_id,
                            .detail = "key store of another signing key accepted"};
    int r = audit_write(s->audit, &act, true);
    if (r)
        snprintf(o->why, sizeof o->why, "not done: the audit log cannot be written");
    return r;
}

int check_opened(struct server *s, const struct conn *c, const struct job *j, struct opened *o)
{
    struct pin pinned;
    *o = (struct opened){.fresh = true};
    pin_of(j->ks, (const char *)j->q.ini.p, j->q.ini.len, &o->pin);
    int known = pin_load(s->statedir, j->ks->volume_id, &pinned);
    int r = check_against_pin(s, c, &j->q, j->ks, o->why, sizeof o->why);
    if (r)
        return r;
    o->first = known == -ENOENT;
    o->same_signer =
        !known && memcmp(pinned.signing_public, o->pin.signing_public, KEYSTORE_PUBLIC_BYTES) == 0;
    if (o->first)
        return 0;
    o->fresh = known || memcmp(&pinned, &o->pin, sizeof pinned) != 0;
    o->older = known || pin_compare(&pinned, &o->pin);
    return o->same_signer ? 0 : log_other_signer(s, c, j, o);
}

static int keep_unlocked(struct server *s, struct job *j)
{
    struct vault *v;
    int before = vault_refusal();
    int r = vault_store(j->ks->volume_id, j->keys, &v);
    if (r)
        return r;
    if (vault_refusal() && !before)
        log_warn("the kernel keyring is not available (%s): master keys stay in locked memory",
                 lfs_strerror(vault_refusal()));
    r = volume_put(s, j->ks, v);
    if (!r)
        j->ks = NULL;
    return r;
}

void done_unlock(struct server *s, struct conn *c, struct job *j)
{
    struct opened o = {0};
    char detail[64];
    int r = j->result;
    if (r || !c) { /* nobody is there to use what was unlocked */
        refuse_job(s, c, j, r ? r : -EPIPE, j->why.text);
        return;
    }
    struct proto_msg m = {.type = P_UNLOCK | P_REPLY, .serial = j->q.serial, .slot = j->slot_id};
    memcpy(m.volume, j->ks->volume_id, ID_BYTES);
    r = check_opened(s, c, j, &o);
    if (!r && o.fresh && pin_store(s->statedir, m.volume, &o.pin))
        log_error("the state of a volume's key store could not be noted");
    if (!r && o.same_signer && held_settle(s, c, j->ks, o.older))
        log_error("keys of a shredded directory could not be destroyed");
    if (!r)
        r = keep_unlocked(s, j);
    m.flags = o.first ? PF_FIRST : 0;
    snprintf(detail, sizeof detail, "slot %u%s", j->slot_id, o.older ? ", older key store accepted" : "");
    if (r) {
        refuse_job(s, c, j, r, o.why);
        return;
    }
    metrics_count(s->metrics, METRIC_UNLOCKS, 1);
    request_answer(s, c, &m, &(struct about){.volume_id = m.volume, .detail = detail});
}

void done_slot_test(struct server *s, struct conn *c, struct job *j)
{
    struct proto_msg m = {.type = P_SLOT_TEST | P_REPLY, .serial = j->q.serial, .slot = j->slot_id};
    if (j->result)
        refuse_job(s, c, j, j->result, j->why.text);
    else
        request_answer(s, c, &m, &(struct about){.volume_id = j->ks->volume_id, .peer = &j->peer});
}
