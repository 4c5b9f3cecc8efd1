/* Unlocked volumes: their key stores and master keys, and what is remembered of their directories. */
#include "server.h"

#include "held.h"
#include "latchfs/buf.h"
#include "latchfs/err.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool is_zero_id(const uint8_t id[static ID_BYTES])
{
    static const uint8_t zeros[ID_BYTES];
    return same_id(id, zeros);
}

struct unlocked *volume_find(struct server *s, const uint8_t id[static ID_BYTES])
{
    for (struct unlocked *u = s->volumes; u; u = u->next)
        if (same_id(u->ks->volume_id, id))
            return u;
    return NULL;
}

const uint8_t *volume_dir(const struct keystore *ks, const uint8_t pd[static ID_BYTES])
{
    return is_zero_id(pd) ? ks->root_id : pd;
}

struct dir_note *volume_note(struct unlocked *u, const uint8_t pd[static ID_BYTES])
{
    for (uint32_t i = 0; i < u->ks->dir_count; i++)
        if (same_id(u->ks->dirs[i].id, pd))
            return &u->notes[i];
    return NULL;
}

struct held_source held_blobs_of(const struct server *s)
{
    return (struct held_source){held_find, (void *)(uintptr_t)&s->statedir};
}

int volume_dir_name(struct server *s, struct unlocked *u, struct dir_note *n, const char **name)
{
    CLEANUP(keyset_freep) struct keyset *keys = NULL;
    struct held_source held = held_blobs_of(s);
    const struct keystore_dir *d = keystore_dir(u->ks, n->id);
    if (!n->name_known) {
        n->name[0] = '\0';
        int r = d && d->named ? keystore_unwrap_dir(u->ks, n->id, vault_lookup, u->vault, &held, &keys) : 0;
        if (!r && keys)
            r = keystore_dir_label(u->ks, n->id, keys, n->name);
        if (r)
            return r; /* not remembered: the reason may pass */
        n->name_known = true;
    }
    *name = n->name;
    return 0;
}

/* Notes for ks, with the times of those that were there. */
static struct dir_note *make_notes(struct unlocked *u, const struct keystore *ks)
{
    struct dir_note *notes = calloc(ks->dir_count, sizeof *notes);
    for (uint32_t i = 0; notes && i < ks->dir_count; i++) {
        const struct dir_note *was = u->notes ? volume_note(u, ks->dirs[i].id) : NULL;
        if (was)
            notes[i] = *was;
        memcpy(notes[i].id, ks->dirs[i].id, ID_BYTES);
        notes[i].name_known = false;
    }
    return notes;
}

/* Takes both. *was gets the store that was there (or NULL), for the caller to free. */
static int replace(struct unlocked *u, struct keystore *ks, struct vault *v, struct keystore **was)
{
    struct dir_note *notes = make_notes(u, ks);
    if (!notes)
        return -ENOMEM;
    free(u->notes);
    u->notes = notes;
    *was = u->ks;
    u->ks = ks;
    if (v) {
        vault_free(u->vault);
        u->vault = v;
    }
    return 0;
}

static void unlocked_free(struct unlocked *u)
{
    keystore_free(u->ks);
    vault_free(u->vault);
    free(u->notes);
    free(u);
}

/* Directories that the store forgot were shredded before, or are of another line of stores: no keys of them.
 */
static void drop_vanished(struct server *s, const struct keystore *was, const struct keystore *now)
{
    for (uint32_t i = 0; i < was->dir_count; i++) {
        if (keystore_dir(now, was->dirs[i].id))
            continue;
        dir_revoke(s, was->volume_id, was->dirs[i].id);
        marks_remove(s, was->volume_id, was->dirs[i].id);
    }
}

int volume_put(struct server *s, struct keystore *ks, struct vault *v)
{
    CLEANUP(keystore_freep) struct keystore *was = NULL;
    struct unlocked *u = volume_find(s, ks->volume_id), *made = NULL;
    if (!u)
        u = made = calloc(1, sizeof *made);
    int r = u ? replace(u, ks, v, &was) : -ENOMEM;
    if (r) {
        free(made);
        vault_free(v);
        return r;
    }
    if (made) {
        made->next = s->volumes;
        s->volumes = made;
    }
    marks_remove(s, ks->volume_id, NULL);
    if (was)
        drop_vanished(s, was, ks);
    for (uint32_t i = 0; i < ks->dir_count; i++)
        if (ks->dirs[i].shredded)
            dir_revoke(s, ks->volume_id, ks->dirs[i].id);
    for (struct conn *c = s->conns; c; c = c->next)
        if (conn_mounts(c, ks->volume_id))
            push_send(s, c, P_PUSH_UNLOCKED, NULL);
    return 0;
}

/* The mounts that lease it take its keys anew, or lose them. */
static void tell_dir(struct server *s, const struct keystore *ks, const struct keystore_dir *was,
                     const struct keystore_dir *now)
{
    if (now->shredded && !was->shredded) {
        dir_revoke(s, ks->volume_id, now->id);
        return;
    }
    if (now->shredded || was->shredded)
        return;
    if (keystore_active_dirkey(was)->version == keystore_active_dirkey(now)->version &&
        was->least == now->least)
        return;
    for (struct conn *c = s->conns; c; c = c->next)
        if (conn_mounts(c, ks->volume_id) && lease_find(c, ks->volume_id, now->id))
            push_rekey(s, c, now->id);
}

int volume_renew(struct server *s, struct unlocked *u, struct keystore *ks, struct vault *v)
{
    CLEANUP(keystore_freep) struct keystore *was = NULL;
    int r = replace(u, ks, v, &was);
    if (r) {
        vault_free(v);
        return r;
    }
    for (uint32_t i = 0; i < ks->dir_count; i++) {
        const struct keystore_dir *d = keystore_dir(was, ks->dirs[i].id);
        if (d)
            tell_dir(s, ks, d, &ks->dirs[i]);
    }
    drop_vanished(s, was, ks);
    return 0;
}

bool volume_drop(struct server *s, const uint8_t id[static ID_BYTES])
{
    for (struct unlocked **at = &s->volumes; *at; at = &(*at)->next) {
        struct unlocked *u = *at;
        if (!same_id(u->ks->volume_id, id))
            continue;
        *at = u->next;
        unlocked_free(u);
        return true;
    }
    return false;
}

void volumes_clear(struct server *s)
{
    while (s->volumes)
        volume_drop(s, s->volumes->ks->volume_id);
    while (s->marks) {
        uint8_t id[ID_BYTES];
        memcpy(id, s->marks->volume_id, ID_BYTES);
        marks_remove(s, id, NULL);
    }
}
