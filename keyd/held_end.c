/* Which held blobs end with a key store that counts from now on. What a store says is not enough: whoever has
 * a slot secret can sign one. An edit of this keyd must have ended the version, with its approvals; or a key
 * administrator acts and policy demands none. */
#include "server.h"

#include "held.h"
#include "latchfs/err.h"
#include "latchfs/keyedit.h"

#include <inttypes.h>
#include <stdio.h>

struct settling {
    struct server *s;
    const struct conn *c;
    const struct keystore *ks;
    bool older;
};

static int log_end(const struct settling *a, const uint8_t *pd, uint32_t version, int result)
{
    char detail[80];
    snprintf(detail, sizeof detail, "version %" PRIu32 "%s", version,
             result ? ": kept, no approved edit made here ended it" : "");
    struct audit_act act = {.act = "held-destroy",
                            .peer = &a->c->peer,
                            .volume_id = a->ks->volume_id,
                            .pd_id = pd,
                            .result = result,
                            .detail = detail};
    return audit_write(a->s->audit, &act, result == 0);
}

static bool may_end(const struct settling *a, const struct keystore_dir *d, enum held_note note)
{
    unsigned op = d && d->shredded ? EDIT_DIR_SHRED : EDIT_DIR_DESTROY;
    return note != HELD_NO_NOTE ||
           (a->c->roles & ROLE_KEYADMIN && policy_approvals_needed(a->s->policy, op) == 0);
}

static int settle(void *arg, const uint8_t *pd, uint32_t version)
{
    const struct settling *a = arg;
    const uint8_t *volume_id = a->ks->volume_id;
    const struct keystore_dir *d = keystore_dir(a->ks, pd);
    const struct keystore_dirkey *k = d ? keystore_dirkey(d, version) : NULL;
    bool ended = d && (d->shredded || (k && k->state == KEY_DESTROYED));
    enum held_note note;
    int r = held_note_load(a->s->statedir, volume_id, pd, version, &note);
    if (r)
        return r;
    if (!ended && (k || a->older || note != HELD_PINNED)) /* else ended before, and forgotten since */
        return 0;
    if (!may_end(a, d, note)) {
        log_end(a, pd, version, LFS_ERR_APPROVAL);
        return 0;
    }
    r = note == HELD_PINNED ? 0 : held_note_store(a->s->statedir, volume_id, pd, version, HELD_PINNED);
    if (!r)
        r = log_end(a, pd, version, 0);
    return r ? r : held_destroy(a->s->statedir, volume_id, pd, version);
}

int held_settle(struct server *s, const struct conn *c, const struct keystore *ks, bool older)
{
    struct settling a = {s, c, ks, older};
    return held_each(s->statedir, ks->volume_id, settle, &a);
}

int held_note_edit(struct server *s, const struct keystore *ks, unsigned op, const uint8_t *pd,
                   uint32_t version)
{
    const struct keystore_dir *d = keystore_dir(ks, pd);
    if (!d || !d->held || (op != EDIT_DIR_SHRED && op != EDIT_DIR_DESTROY))
        return 0;
    return held_note_store(s->statedir, ks->volume_id, pd, op == EDIT_DIR_SHRED ? HELD_WHOLE_DIR : version,
                           HELD_ANSWERED);
}
