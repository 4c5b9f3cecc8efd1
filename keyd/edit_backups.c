/* Registered backups, and the label of the environment. */
#include "edit.h"

#include "latchfs/err.h"
#include "slot.h"

#include <errno.h>
#include <string.h>

const struct keystore_backup *backup_needing(const struct keystore *ks, const uint8_t *pd, uint32_t version)
{
    for (uint32_t i = 0; i < ks->backup_count; i++) {
        const struct keystore_backup *b = &ks->backups[i];
        if (!pd && b->master_least <= version && version <= b->master_most)
            return b;
        for (uint32_t j = 0; pd && j < b->need_count; j++) {
            const struct keystore_need *n = &b->needs[j];
            if (memcmp(n->pd, pd, ID_BYTES) == 0 && n->least <= version && version <= n->most)
                return b;
        }
    }
    return NULL;
}

int edit_needed(struct edit *e, const struct keystore_backup *b, uint32_t version)
{
    if (b->label[0])
        return edit_deny(e, "backup %u (%s) still needs version %u", b->id, b->label, version);
    return edit_deny(e, "backup %u still needs version %u", b->id, version);
}

static void note_master(struct keystore_backup *b, uint32_t version)
{
    b->master_least = version < b->master_least ? version : b->master_least;
    b->master_most = version > b->master_most ? version : b->master_most;
}

/* What a copy of the volume taken now may need. */
static int note_needs(struct edit *e, struct keystore_backup *b)
{
    const struct keystore *ks = e->ks;
    b->master_least = b->master_most = ks->journal_master;
    for (uint32_t i = 0; i < ks->dir_count; i++) {
        const struct keystore_dir *d = &ks->dirs[i];
        if (d->shredded)
            continue;
        struct keystore_need *n = keystore_add_need(e->ks, b);
        if (!n)
            return edit_refuse(e, -ENOSPC, "no room for what another backup needs: remove one first");
        memcpy(n->pd, d->id, ID_BYTES);
        n->least = d->least;
        n->most = keystore_active_dirkey(d)->version;
        for (uint32_t j = 0; j < d->count; j++)
            if (d->keys[j].state != KEY_DESTROYED)
                note_master(b, d->keys[j].master);
    }
    return 0;
}

int edit_backup_add(struct edit *e)
{
    struct keystore *ks = e->ks;
    uint32_t id = ks->next_backup ? ks->next_backup : 1;
    if (ks->backup_count == KEYSTORE_BACKUPS_MAX || id >= KEYSTORE_VERSION_MAX)
        return edit_refuse(e, -ENOSPC, "there are %u registered backups: remove one first", ks->backup_count);
    struct keystore_backup *b = &ks->backups[ks->backup_count++];
    *b = (struct keystore_backup){.id = id, .created = e->now};
    ks->next_backup = id + 1;
    e->result.number = id;
    int r = label_set(b->label, e->e->label, e->why);
    return r ? r : note_needs(e, b);
}

int edit_backup_remove(struct edit *e)
{
    if (!keystore_backup(e->ks, e->e->number))
        return edit_refuse(e, -ENOENT, "there is no backup %u", e->e->number);
    keystore_drop_backup(e->ks, e->e->number);
    e->result.number = e->e->number;
    return 0;
}

int edit_environment(struct edit *e)
{
    return label_set(e->ks->environment, e->e->label, e->why);
}
