/* What a key store must be to become the one that counts, and what follows from it. */
#include "server.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"
#include "latchfs/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void answered_note(struct server *s, const char *ini, size_t len)
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

static bool same_masters(const struct keystore *a, const struct keystore *b)
{
    if (a->master_count != b->master_count)
        return false;
    for (uint32_t i = 0; i < a->master_count; i++)
        if (a->masters[i].version != b->masters[i].version || a->masters[i].state != b->masters[i].state)
            return false;
    return true;
}

/* Every master key that is not destroyed is in the vault already. */
static bool vault_has_all(const struct unlocked *u, const struct keystore *ks)
{
    for (uint32_t i = 0; i < ks->master_count; i++) {
        const struct keystore_master *m = keystore_master(u->ks, ks->masters[i].version);
        if (ks->masters[i].state != KEY_DESTROYED && (!m || m->state == KEY_DESTROYED))
            return false;
    }
    return true;
}

/* The vault of an unlocked volume for another store; *v NULL: the one that is there will do. */
static int vault_for(const struct unlocked *u, const struct keystore *ks, struct adoption *a,
                     struct vault **v)
{
    *v = NULL;
    if (a->keys) /* versions do not tell keys apart: a restored store may have been rotated by itself */
        return vault_store(ks->volume_id, a->keys, v);
    if (same_masters(u->ks, ks))
        return 0;
    if (vault_has_all(u, ks))
        return 0;
    snprintf(a->why, sizeof a->why,
             "this key store has a new master key: unlock the volume with it, or begin a session with it");
    return LFS_ERR_NOKEY;
}

int store_adopt(struct server *s, struct keystore **ks, struct adoption *a)
{
    struct unlocked *u = volume_find(s, (*ks)->volume_id);
    struct vault *v = NULL;
    struct pin now;
    int r = u ? vault_for(u, *ks, a, &v) : 0;
    if (r)
        return r;
    pin_of(*ks, a->ini, a->len, &now);
    r = pin_store(s->statedir, (*ks)->volume_id, &now);
    if (r) {
        snprintf(a->why, sizeof a->why, "the state directory of latch-keyd: %s", lfs_strerror(r));
        vault_free(v);
        return r;
    }
    int left = a->settle ? held_settle(s, a->by, *ks, a->older) : 0;
    if (u) {
        r = volume_renew(s, u, *ks, v);
        if (!r)
            *ks = NULL;
    }
    if (!r && left)
        snprintf(a->why, sizeof a->why, "keys of a shredded directory could not be destroyed (%s): pin again",
                 lfs_strerror(left));
    return r ? r : left;
}

/* Only what keyd made itself, or what is signed with the key of a volume that it knows. */
static int check_origin(struct server *s, const struct keystore *ks, const struct pin *now,
                        const struct pin *pinned)
{
    if (was_answered(s, now))
        return 0;
    const struct unlocked *u = volume_find(s, ks->volume_id);
    bool ours = u && memcmp(u->ks->signing_public, ks->signing_public, KEYSTORE_PUBLIC_BYTES) == 0;
    bool known = pinned && memcmp(pinned->signing_public, ks->signing_public, KEYSTORE_PUBLIC_BYTES) == 0;
    return ours || known ? 0 : LFS_ERR_DENIED;
}

/* *settle: the store is signed with the key that is pinned. */
static int check_pin(struct server *s, const struct proto_msg *q, const struct keystore *ks, const char **why,
                     bool *settle)
{
    struct pin now, pinned;
    const char *ini = (const char *)q->ini.p;
    if (!keystore_signed_by(ini, q->ini.len, ks->signing_public)) {
        *why = "the signature does not fit";
        return LFS_ERR_AUTH;
    }
    pin_of(ks, ini, q->ini.len, &now);
    int known = pin_load(s->statedir, ks->volume_id, &pinned);
    if (known && known != -ENOENT) {
        *why = "what was noted of this volume cannot be read";
        return known;
    }
    int r = check_origin(s, ks, &now, known ? NULL : &pinned);
    if (r) {
        *why = "this key store was not made here, and its volume is not known: unlock it instead";
        return r;
    }
    if (!known)
        r = pin_compare(&pinned, &now);
    if (r)
        *why = "the key store is older than the one last used here, or another one";
    *settle = !known && !r;
    return r;
}

void handle_pin(struct server *s, struct conn *c, const struct proto_msg *q)
{
    CLEANUP(keystore_freep) struct keystore *ks = NULL;
    struct proto_msg m = {.type = P_PIN | P_REPLY, .serial = q->serial};
    struct adoption a = {.by = c, .ini = (const char *)q->ini.p, .len = q->ini.len};
    const char *why = "";
    uint8_t id[ID_BYTES] = {0};
    char detail[48] = "";
    struct about about = {.volume_id = id, .detail = detail};
    int r = keystore_parse(a.ini, a.len, &ks, NULL);
    if (!r) {
        memcpy(id, ks->volume_id, ID_BYTES);
        snprintf(detail, sizeof detail, "generation %" PRIu64, ks->generation);
        r = check_pin(s, q, ks, &why, &a.settle);
    }
    if (!r) {
        r = request_log(s, c, P_PIN, 0, &about);
        why = r ? "not done: the audit log cannot be written" : "";
    }
    if (!r) {
        a.keys = sessions_keys(s, a.ini, a.len);
        r = store_adopt(s, &ks, &a);
        why = a.why;
    }
    if (r) {
        request_refuse(s, c, P_PIN, q->serial, r, why, &about);
        return;
    }
    session_touch(s, c->session);
    sessions_pinned(s, a.ini, a.len);
    conn_send(s, c, &m);
    waits_check(s, now_ms());
}
