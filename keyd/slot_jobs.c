/* Requests that open a slot: the slow half on the worker, then what becomes of it. */
#include "server.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- on the worker ---- */

/* *out NULL for an empty blob. */
static int to_secret(const struct proto_blob *b, struct secret **out)
{
    *out = b->len ? secret_new_copy(b->p, b->len) : NULL;
    return b->len && !*out ? -ENOMEM : 0;
}

static const char *label_of(const struct proto_msg *q, char buf[static KEYSTORE_LABEL_MAX + 1])
{
    memcpy(buf, q->label.len ? (const void *)q->label.p : "", q->label.len);
    buf[q->label.len] = '\0';
    return buf;
}

static int open_store(struct job *j)
{
    CLEANUP(secret_freep) struct secret *secret = NULL;
    int r = to_secret(&j->q.secret, &secret);
    struct credential c = {(enum credential_type)j->q.cred, secret};
    if (!r)
        r = keystore_open((const char *)j->q.ini.p, j->q.ini.len, &c, &j->ks, &j->keys, &j->why);
    if (!r)
        j->slot_id = j->keys->slot_id;
    return r;
}

void job_init(struct job *j)
{
    CLEANUP(secret_freep) struct secret *secret = NULL;
    char label[KEYSTORE_LABEL_MAX + 1];
    j->result = to_secret(&j->q.secret, &secret);
    if (j->result)
        return;
    struct keystore_init in = {.suite = j->q.suite,
                               .fast_kdf = j->q.flags & PF_FAST_KDF,
                               .recovery = j->q.flags & PF_RECOVERY,
                               .first = {(enum credential_type)j->q.cred, secret},
                               .label = label_of(&j->q, label)};
    j->result = keystore_make(&in, j->kdf_ms, &j->ini, &j->ini_len, &j->recovery, &j->why);
}

void job_unlock(struct job *j)
{
    j->result = open_store(j);
}

void job_slot_test(struct job *j)
{
    j->result = open_store(j);
}

void job_slot_add(struct job *j)
{
    CLEANUP(secret_freep) struct secret *fresh = NULL;
    char label[KEYSTORE_LABEL_MAX + 1];
    j->result = open_store(j);
    if (!j->result)
        j->result = to_secret(&j->q.fresh, &fresh);
    if (j->result)
        return;
    struct slot_add add = {.fresh = {(enum credential_type)j->q.fresh_cred, fresh},
                           .label = label_of(&j->q, label),
                           .fast_kdf = j->q.flags & PF_FAST_KDF};
    j->result = keystore_slot_add(j->ks, j->keys, &add, j->kdf_ms, &j->ini, &j->ini_len, &j->slot_id,
                                  &j->recovery, &j->why);
}

void job_slot_remove(struct job *j)
{
    j->result = open_store(j);
    if (!j->result)
        j->result = keystore_slot_remove(j->ks, j->keys, j->q.slot, &j->ini, &j->ini_len, &j->why);
}

/* ---- back in the server ---- */

static void remember_answer(struct server *s, const char *ini, size_t len)
{
    struct keystore none = {0};
    struct pin p;
    pin_of(&none, ini, len, &p);
    memcpy(s->answered[s->next_answered], p.hash, sizeof p.hash);
    s->next_answered = (s->next_answered + 1) % ANSWERED_MAX;
}

static bool was_answered(const struct server *s, const struct pin *p)
{
    for (unsigned i = 0; i < ANSWERED_MAX; i++)
        if (memcmp(s->answered[i], p->hash, sizeof p->hash) == 0)
            return true;
    return false;
}

static void refuse(struct server *s, struct conn *c, const struct job *j, int err, const char *why)
{
    CLEANUP(keystore_freep) struct keystore *tried = NULL;
    if (!j->ks && j->q.ini.len) /* the log says which volume it was, if the bytes do */
        keystore_parse((const char *)j->q.ini.p, j->q.ini.len, &tried, NULL);
    const struct keystore *ks = j->ks ? j->ks : tried;
    request_refuse(s, c, j->q.type, j->q.serial, err, why,
                   &(struct about){.volume_id = ks ? ks->volume_id : NULL});
}

static void answer_ini(struct server *s, struct conn *c, struct job *j, const struct about *about)
{
    struct proto_msg m = {.type = j->q.type | P_REPLY,
                          .serial = j->q.serial,
                          .ini = {(const uint8_t *)j->ini, j->ini_len},
                          .slot = j->slot_id};
    if (j->recovery)
        m.recovery = (struct proto_blob){secret_const(j->recovery), secret_len(j->recovery)};
    remember_answer(s, j->ini, j->ini_len);
    request_answer(s, c, &m, about);
}

void done_init(struct server *s, struct conn *c, struct job *j)
{
    CLEANUP(keystore_freep) struct keystore *ks = NULL;
    int r = j->result;
    if (!r)
        r = keystore_parse(j->ini, j->ini_len, &ks, NULL);
    if (r)
        refuse(s, c, j, r, j->why.text);
    else
        answer_ini(s, c, j, &(struct about){.volume_id = ks->volume_id});
}

/* Holds the store that the job opened against the pin. *now is what to pin; *fresh: it differs. */
static int check_pin(struct server *s, const struct job *j, struct pin *now, bool *fresh, char *why,
                     size_t size)
{
    struct pin pinned;
    pin_of(j->ks, (const char *)j->q.ini.p, j->q.ini.len, now);
    int r = pin_load(s->statedir, j->ks->volume_id, &pinned);
    *fresh = r != 0;
    if (r == -ENOENT)
        return 0;
    if (r) {
        snprintf(why, size, "what was noted of this volume cannot be read: %s", lfs_strerror(r));
        return LFS_ERR_ROLLBACK;
    }
    *fresh = memcmp(&pinned, now, sizeof pinned) != 0;
    r = pin_compare(&pinned, now);
    if (r)
        snprintf(why, size,
                 "the key store is not the one last used here: generation %" PRIu64 ", expected %" PRIu64,
                 now->generation, pinned.generation);
    return r;
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
    struct pin now;
    bool fresh;
    char why[160] = "", detail[64];
    int r = j->result;
    if (r || !c) { /* nobody is there to use what was unlocked */
        refuse(s, c, j, r ? r : -EPIPE, j->why.text);
        return;
    }
    r = check_pin(s, j, &now, &fresh, why, sizeof why);
    bool overridden = r == LFS_ERR_ROLLBACK && j->q.flags & PF_ACCEPT_OLDER;
    if (overridden)
        r = 0;
    struct proto_msg m = {.type = P_UNLOCK | P_REPLY, .serial = j->q.serial, .slot = j->slot_id};
    memcpy(m.volume, j->ks->volume_id, ID_BYTES);
    if (!r && fresh && pin_store(s->statedir, m.volume, &now))
        log_error("the state of a volume's key store could not be noted");
    if (!r)
        r = keep_unlocked(s, j);
    snprintf(detail, sizeof detail, "slot %u%s", j->slot_id, overridden ? ", older key store accepted" : "");
    if (r)
        refuse(s, c, j, r, why);
    else
        request_answer(s, c, &m, &(struct about){.volume_id = m.volume, .detail = detail});
}

void done_slot_test(struct server *s, struct conn *c, struct job *j)
{
    struct proto_msg m = {.type = P_SLOT_TEST | P_REPLY, .serial = j->q.serial, .slot = j->slot_id};
    if (j->result)
        refuse(s, c, j, j->result, j->why.text);
    else
        request_answer(s, c, &m, &(struct about){.volume_id = j->ks->volume_id});
}

void done_slot_change(struct server *s, struct conn *c, struct job *j)
{
    struct pin now;
    bool fresh;
    char why[160] = "", detail[64];
    int r = j->result;
    if (r) {
        refuse(s, c, j, r, j->why.text);
        return;
    }
    /* The bytes that the client sent, not what the job made of them. */
    uint64_t generation = j->ks->generation;
    j->ks->generation = generation - 1;
    r = check_pin(s, j, &now, &fresh, why, sizeof why);
    j->ks->generation = generation;
    snprintf(detail, sizeof detail, "slot %u", j->q.type == P_SLOT_REMOVE ? j->q.slot : j->slot_id);
    if (r)
        refuse(s, c, j, r, why);
    else
        answer_ini(s, c, j, &(struct about){.volume_id = j->ks->volume_id, .detail = detail});
}

/* Only what keyd made itself, or what a volume that is unlocked here signed. */
static int check_origin(struct server *s, const struct keystore *ks, const struct pin *now)
{
    const struct unlocked *u = volume_find(s, ks->volume_id);
    if (was_answered(s, now))
        return 0;
    bool ours = u && memcmp(u->ks->signing_public, ks->signing_public, KEYSTORE_PUBLIC_BYTES) == 0;
    return ours ? 0 : LFS_ERR_DENIED;
}

static int pin(struct server *s, const struct proto_msg *q, struct keystore *ks, const char **why)
{
    struct pin now, pinned;
    const char *ini = (const char *)q->ini.p;
    if (!keystore_signed_by(ini, q->ini.len, ks->signing_public))
        return LFS_ERR_AUTH;
    pin_of(ks, ini, q->ini.len, &now);
    int r = check_origin(s, ks, &now);
    if (r) {
        *why = "this key store was not made here, and its volume is locked: unlock it instead";
        return r;
    }
    if (pin_load(s->statedir, ks->volume_id, &pinned) == 0)
        r = pin_compare(&pinned, &now);
    return r ? r : pin_store(s->statedir, ks->volume_id, &now);
}

void handle_pin(struct server *s, struct conn *c, const struct proto_msg *q)
{
    CLEANUP(keystore_freep) struct keystore *ks = NULL;
    struct proto_msg m = {.type = P_PIN | P_REPLY, .serial = q->serial};
    const char *why = "";
    uint8_t id[ID_BYTES] = {0};
    int r = keystore_parse((const char *)q->ini.p, q->ini.len, &ks, NULL);
    if (!r) {
        memcpy(id, ks->volume_id, ID_BYTES);
        r = pin(s, q, ks, &why);
    }
    struct unlocked *u = r ? NULL : volume_find(s, id);
    if (u) {
        keystore_free(u->ks);
        u->ks = ks;
        ks = NULL;
    }
    if (r)
        request_refuse(s, c, P_PIN, q->serial, r, why, &(struct about){.volume_id = id});
    else
        request_answer(s, c, &m, &(struct about){.volume_id = id});
}
