#include "approvals.h"

#include "approval_dir.h"
#include "approval_text.h"
#include "json.h"

#include "latchfs/err.h"

#include <errno.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct approvals {
    const struct policy *policy;
    int dir;
    unsigned count;
    struct approval pending[APPROVALS_MAX];
};

int approvals_open(int statedir, const struct policy *p, struct approvals **out)
{
    struct approvals *a = calloc(1, sizeof *a);
    if (!a)
        return -ENOMEM;
    a->policy = p;
    a->dir = -1;
    int r = approval_dir_open(statedir, &a->dir);
    if (!r)
        r = approval_dir_read(a->dir, a->pending, APPROVALS_MAX, &a->count);
    if (r) {
        approvals_free(a);
        return r;
    }
    *out = a;
    return 0;
}

void approvals_free(struct approvals *a)
{
    if (!a)
        return;
    if (a->dir >= 0)
        close(a->dir);
    free(a);
}

/* Gone from the disk before it is gone from memory: a restart must not find a used one. */
static int drop(struct approvals *a, struct approval *p)
{
    int r = approval_dir_remove(a->dir, p->id);
    if (!r)
        *p = a->pending[--a->count];
    return r;
}

/* ---- time ---- */

/* The policy may have become shorter since. */
static int64_t end_of(const struct approvals *a, const struct approval *p)
{
    int64_t by_policy = p->created + (int64_t)a->policy->approvals_expire_s;
    return by_policy < p->expires ? by_policy : p->expires;
}

static bool lives(const struct approvals *a, const struct approval *p, time_t now)
{
    return p->created <= now && now < end_of(a, p);
}

static void drop_expired(struct approvals *a, time_t now)
{
    for (unsigned i = 0; i < a->count;) {
        if (now < end_of(a, &a->pending[i]) || drop(a, &a->pending[i]))
            i++;
    }
}

unsigned approvals_pending(const struct approvals *a, time_t now)
{
    unsigned n = 0;
    for (unsigned i = 0; i < a->count; i++)
        n += lives(a, &a->pending[i], now);
    return n;
}

/* ---- signatures ---- */

/* Returns err. */
static int __attribute__((format(printf, 4, 5))) refuse(int err, char *why, size_t n, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, n, fmt, ap);
    va_end(ap);
    return err;
}

static const struct policy_admin_key *admin_of(const struct policy *p, const uint8_t pub[static 32])
{
    for (unsigned i = 0; i < p->admin_count; i++)
        if (memcmp(p->admins[i].public_key, pub, sizeof p->admins[i].public_key) == 0)
            return &p->admins[i];
    return NULL;
}

/* An admin's user is known from keyd.ini; if it does not say one, whoever brings the signature stands for it.
 */
static bool requesters_own(const struct policy_admin_key *admin, const struct approval *p, uid_t brought_by)
{
    return p->uid == (admin->has_uid ? admin->uid : brought_by);
}

/* The admin, if this signature counts by today's policy. */
static const struct policy_admin_key *counts(const struct approvals *a, const struct approval *p,
                                             const struct approval_signature *s)
{
    const struct policy_admin_key *admin = admin_of(a->policy, s->public_key);
    if (!admin || (!a->policy->approvals_own_signature && requesters_own(admin, p, s->brought_by)))
        return NULL;
    return admin;
}

static unsigned have(const struct approvals *a, const struct approval *p)
{
    unsigned n = 0;
    for (unsigned i = 0; i < p->signature_count; i++)
        n += counts(a, p, &p->signatures[i]) != NULL;
    return n;
}

static bool signed_by(const struct approval *p, const uint8_t pub[static 32])
{
    for (unsigned i = 0; i < p->signature_count; i++)
        if (memcmp(p->signatures[i].public_key, pub, sizeof p->signatures[i].public_key) == 0)
            return true;
    return false;
}

static struct approval *find(struct approvals *a, const char *id, time_t now)
{
    for (unsigned i = 0; i < a->count; i++)
        if (strcmp(a->pending[i].id, id) == 0 && lives(a, &a->pending[i], now))
            return &a->pending[i];
    return NULL;
}

static int add_signature(struct approvals *a, struct approval *p, const struct approval_signature *s)
{
    struct approval with = *p;
    with.signatures[with.signature_count++] = *s;
    int r = approval_dir_keep(a->dir, &with);
    if (!r)
        *p = with;
    return r;
}

/* May this signature be added? */
static int check_signature(const struct approvals *a, const struct approval *p,
                           const struct approval_signature *s, char *why, size_t n)
{
    const struct policy_admin_key *admin = admin_of(a->policy, s->public_key);
    if (!admin)
        return refuse(LFS_ERR_DENIED, why, n, "keyd.ini names no admin with this public key");
    if (!approval_signature_fits(p, s))
        return refuse(LFS_ERR_AUTH, why, n, "the signature is not one of %s over this request", admin->name);
    if (signed_by(p, s->public_key))
        return refuse(LFS_ERR_DENIED, why, n, "%s has signed this request already", admin->name);
    if (!counts(a, p, s))
        return refuse(LFS_ERR_DENIED, why, n,
                      "who asks for an act must not approve it, too: another user must sign (own_signature)");
    if (p->signature_count == APPROVAL_SIGNATURES_MAX)
        return refuse(LFS_ERR_BUSY, why, n, "the request has too many signatures");
    return 0;
}

static struct approval_signature signature_of(const uint8_t pub[static 32], const uint8_t sig[static 64],
                                              uid_t uid)
{
    struct approval_signature s = {.brought_by = uid};
    memcpy(s.public_key, pub, sizeof s.public_key);
    memcpy(s.signature, sig, sizeof s.signature);
    return s;
}

int approvals_may_sign(struct approvals *a, const char *id, const uint8_t pub[static 32],
                       const uint8_t sig[static 64], uid_t uid, time_t now, char *why, size_t n)
{
    struct approval_signature s = signature_of(pub, sig, uid);
    const struct approval *p = find(a, id, now);
    if (!p)
        return refuse(-ENOENT, why, n,
                      "no request with this id is pending; it may have expired or been used");
    return check_signature(a, p, &s, why, n);
}

int approvals_sign(struct approvals *a, const char *id, const uint8_t pub[static 32],
                   const uint8_t sig[static 64], uid_t uid, time_t now, char *why, size_t n)
{
    struct approval_signature s = signature_of(pub, sig, uid);
    int r = approvals_may_sign(a, id, pub, sig, uid, now, why, n);
    if (r)
        return r;
    r = add_signature(a, find(a, id, now), &s);
    return r ? refuse(r, why, n, "the signature cannot be kept: %s", lfs_strerror(r)) : 0;
}

/* ---- acts ---- */

static void say_waiting(const struct approvals *a, const struct approval *p, unsigned needed, char *why,
                        size_t size)
{
    char when[32];
    struct tm t;
    time_t end = (time_t)end_of(a, p);
    if (!gmtime_r(&end, &t) || !strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &t))
        when[0] = '\0';
    snprintf(why, size, "request %s for %s has %u of %u signatures; it expires %s", p->id,
             key_edit_name(p->act), have(a, p), needed, when);
}

static int make(struct approvals *a, const struct approval *asked, time_t now, char *why, size_t n,
                struct approval **out)
{
    unsigned of_one = 0;
    for (unsigned i = 0; i < a->count; i++)
        of_one += a->pending[i].uid == asked->uid;
    if (a->count == APPROVALS_MAX || of_one >= APPROVALS_OF_ONE_MAX)
        return refuse(LFS_ERR_BUSY, why, n, "too many requests are pending: let them be approved or expire");
    struct approval *p = &a->pending[a->count];
    *p = *asked;
    p->created = now;
    p->expires = now + (time_t)a->policy->approvals_expire_s;
    randombytes_buf(p->nonce, sizeof p->nonce);
    approval_name(p);
    int r = approval_dir_keep(a->dir, p);
    if (r) {
        refuse(r, why, n, "the request for approval cannot be kept: %s", lfs_strerror(r));
        return r;
    }
    a->count++;
    *out = p;
    return 0;
}

/* NULL: there is none. A clock set back may have left two: the one with most signatures. */
static struct approval *find_same(struct approvals *a, const struct approval *asked, time_t now)
{
    struct approval *best = NULL;
    for (unsigned i = 0; i < a->count; i++) {
        struct approval *p = &a->pending[i];
        if (lives(a, p, now) && approval_same(p, asked) && (!best || have(a, p) > have(a, best)))
            best = p;
    }
    return best;
}

/* *out: the approved request; NULL: none is needed. */
static int look_up(struct approvals *a, const uint8_t volume_id[static 16], const struct key_edit *e,
                   uid_t uid, time_t now, struct approval **out, char *why, size_t n)
{
    unsigned needed = policy_approvals_needed(a->policy, e->op);
    struct approval asked = {.act = e->op, .version = e->number, .force = e->force, .uid = uid};
    *out = NULL;
    if (needed == 0)
        return 0;
    memcpy(asked.volume, volume_id, ID_BYTES);
    memcpy(asked.directory, e->pd, ID_BYTES);
    drop_expired(a, now);
    struct approval *p = find_same(a, &asked, now);
    if (p && have(a, p) >= needed) {
        *out = p;
        return 0;
    }
    int r = p ? 0 : make(a, &asked, now, why, n, &p);
    if (r)
        return r;
    say_waiting(a, p, needed, why, n);
    return LFS_ERR_APPROVAL;
}

int approvals_ready(struct approvals *a, const uint8_t volume_id[static 16], const struct key_edit *e,
                    uid_t uid, time_t now, char *why, size_t n)
{
    struct approval *p;
    return look_up(a, volume_id, e, uid, now, &p, why, n);
}

int approvals_check(struct approvals *a, const uint8_t volume_id[static 16], const struct key_edit *e,
                    uid_t uid, time_t now, char *why, size_t n)
{
    struct approval *p;
    int r = look_up(a, volume_id, e, uid, now, &p, why, n);
    if (!r && p && (r = drop(a, p)))
        refuse(r, why, n, "the approval cannot be used up: %s", lfs_strerror(r));
    return r;
}

/* ---- what is pending ---- */

static void put(const struct approvals *a, const struct approval *p, struct json *j)
{
    char volume[2 * ID_BYTES + 1], directory[2 * ID_BYTES + 1], text[APPROVAL_TEXT_MAX];
    id_to_hex(p->volume, volume);
    id_to_hex(p->directory, directory);
    approval_text(p, text);
    json_open(j, NULL, '{');
    json_string(j, "id", p->id);
    json_string(j, "act", key_edit_name(p->act));
    json_string(j, "volume", volume);
    if (p->act != EDIT_MASTER_DESTROY)
        json_string(j, "directory", directory);
    if (p->act != EDIT_DIR_SHRED)
        json_number(j, "version", p->version);
    json_number(j, "uid", p->uid);
    json_number(j, "created", (uint64_t)p->created);
    json_number(j, "expires", (uint64_t)end_of(a, p));
    json_open(j, "signatures", '[');
    for (unsigned i = 0; i < p->signature_count; i++) {
        const struct policy_admin_key *admin = counts(a, p, &p->signatures[i]);
        if (admin)
            json_string(j, NULL, admin->name);
    }
    json_close(j, ']');
    json_number(j, "needed", policy_approvals_needed(a->policy, p->act));
    json_string(j, "text", text);
    json_close(j, '}');
}

int approvals_json(struct approvals *a, time_t now, char **json)
{
    struct json j = {0};
    drop_expired(a, now);
    json_open(&j, NULL, '[');
    for (unsigned i = 0; i < a->count; i++)
        if (lives(a, &a->pending[i], now))
            put(a, &a->pending[i], &j);
    json_close(&j, ']');
    if (j.bad) {
        json_clear(&j);
        return -ENOMEM;
    }
    *json = j.p;
    return 0;
}
