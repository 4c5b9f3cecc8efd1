/* What a key store may be. */
#include "keystore_fields.h"

#include "latchfs/aead.h"
#include "latchfs/err.h"

#include <sodium.h>
#include <string.h>

static bool version_ok(uint32_t version)
{
    return version >= 1 && version <= KEYSTORE_VERSION_MAX;
}

/* A destroyed key has no bytes, any other some. */
static bool state_ok(uint8_t state, const uint8_t wrapped[static KEYSTORE_WRAPPED_BYTES], unsigned *actives)
{
    *actives += state == KEY_ACTIVE;
    return key_state_name(state) &&
           (state == KEY_DESTROYED) == (sodium_is_zero(wrapped, KEYSTORE_WRAPPED_BYTES) != 0);
}

static bool kdf_ok(const struct keystore_slot *s)
{
    if (s->type != SLOT_PASSPHRASE)
        return s->kdf_ops == 0 && s->kdf_kib == 0 && !s->fast;
    return s->kdf_ops >= KEYSTORE_KDF_OPS_MIN && s->kdf_ops <= KEYSTORE_KDF_OPS_MAX &&
           s->kdf_kib >= KEYSTORE_KDF_KIB_MIN && s->kdf_kib <= KEYSTORE_KDF_KIB_MAX &&
           (uint64_t)s->kdf_ops * s->kdf_kib <= KEYSTORE_KDF_WORK_MAX;
}

static bool command_ok(const struct keystore_slot *s)
{
    if (s->type != SLOT_COMMAND)
        return !s->command[0] && !s->blob && s->blob_len == 0;
    return keystore_command_ok(s->command) && s->blob && s->blob_len >= 1 && s->blob_len <= KEYSTORE_BLOB_MAX;
}

/* Only a recipient's slot has nothing that a secret opens. */
static bool sealed_ok(const struct keystore_slot *s)
{
    bool salt = !sodium_is_zero(s->salt, sizeof s->salt);
    bool sealed = !sodium_is_zero(s->sealed, sizeof s->sealed);
    return salt == sealed && sealed == (s->type != SLOT_RECIPIENT);
}

static bool slots_ok(const struct keystore *ks)
{
    unsigned last = 0;
    if (ks->slot_count > KEYSTORE_SLOTS_MAX || ks->next_slot > KEYSTORE_SLOT_ID_MAX + 1)
        return false;
    for (uint32_t i = 0; i < ks->slot_count; i++) {
        const struct keystore_slot *s = &ks->slots[i];
        if (s->id <= last || s->id >= ks->next_slot || !keystore_slot_type_name(s->type))
            return false;
        if (!kdf_ok(s) || !command_ok(s) || !sealed_ok(s) || (s->label[0] && !keystore_label_ok(s->label)))
            return false;
        last = s->id;
    }
    return true;
}

static bool has_master(const struct keystore *ks, uint32_t version)
{
    const struct keystore_master *m = keystore_master(ks, version);
    return m && m->state != KEY_DESTROYED;
}

static bool masters_ok(const struct keystore *ks)
{
    uint32_t last = 0;
    unsigned actives = 0;
    if (ks->master_count < 1 || ks->master_count > KEYSTORE_MASTERS_MAX)
        return false;
    for (uint32_t i = 0; i < ks->master_count; i++) {
        const struct keystore_master *m = &ks->masters[i];
        if (m->version <= last || !version_ok(m->version) || !state_ok(m->state, m->wrapped, &actives))
            return false;
        last = m->version;
    }
    return actives == 1 && has_master(ks, ks->journal_master);
}

static bool shredded_ok(const struct keystore_dir *d)
{
    for (uint32_t i = 0; i < d->count; i++)
        if (d->keys[i].state != KEY_DESTROYED)
            return false;
    return !d->named && d->least == 0 && d->data_version == 0 && d->name_version == 0 &&
           sodium_is_zero(d->name_wrapped, sizeof d->name_wrapped);
}

/* The key that wraps the name key is there. One that headers once had may be gone: a version between. */
static bool versions_ok(const struct keystore_dir *d)
{
    const struct keystore_dirkey *names = keystore_dirkey(d, d->name_version);
    const struct keystore_dirkey *active = keystore_active_dirkey(d);
    if (!names || names->state == KEY_DESTROYED || sodium_is_zero(d->name_wrapped, sizeof d->name_wrapped))
        return false;
    return d->least >= 1 && d->least <= active->version && d->data_version <= active->version;
}

static bool dir_ok(const struct keystore *ks, const struct keystore_dir *d)
{
    uint32_t last = 0;
    unsigned actives = 0;
    if (d->count < 1 || d->count > KEYSET_VERSIONS_MAX)
        return false;
    for (uint32_t i = 0; i < d->count; i++) {
        const struct keystore_dirkey *k = &d->keys[i];
        bool gone = k->state == KEY_DESTROYED;
        if (k->version <= last || !version_ok(k->version) || !state_ok(k->state, k->wrapped, &actives) ||
            (gone ? k->master != 0 : !has_master(ks, k->master)))
            return false;
        last = k->version;
    }
    if (d->named != !sodium_is_zero(d->label_wrapped, sizeof d->label_wrapped))
        return false;
    return d->shredded ? shredded_ok(d) : actives == 1 && versions_ok(d);
}

static bool dirs_ok(const struct keystore *ks)
{
    const struct keystore_dir *root = ks->dir_count ? keystore_dir(ks, NULL) : NULL;
    if (!root || root->shredded || ks->dir_count > KEYSTORE_DIRS_MAX)
        return false;
    for (uint32_t i = 0; i < ks->dir_count; i++)
        if (!dir_ok(ks, &ks->dirs[i]) || keystore_dir(ks, ks->dirs[i].id) != &ks->dirs[i])
            return false;
    return true;
}

static bool range_ok(uint32_t least, uint32_t most)
{
    return version_ok(least) && version_ok(most) && least <= most;
}

static bool needs_ok(const struct keystore *ks, const struct keystore_backup *b)
{
    for (uint32_t i = 0; i < b->need_count; i++) {
        const struct keystore_need *n = &b->needs[i];
        if (!range_ok(n->least, n->most) || !keystore_dir(ks, n->pd))
            return false;
        for (uint32_t j = 0; j < i; j++)
            if (memcmp(b->needs[j].pd, n->pd, ID_BYTES) == 0)
                return false;
    }
    return true;
}

static bool backups_ok(const struct keystore *ks)
{
    uint32_t last = 0;
    if (ks->backup_count > KEYSTORE_BACKUPS_MAX || ks->next_backup > KEYSTORE_VERSION_MAX)
        return false;
    for (uint32_t i = 0; i < ks->backup_count; i++) {
        const struct keystore_backup *b = &ks->backups[i];
        if (b->id <= last || b->id >= ks->next_backup || (b->label[0] && !keystore_label_ok(b->label)) ||
            !range_ok(b->master_least, b->master_most) || !needs_ok(ks, b))
            return false;
        last = b->id;
    }
    return true;
}

int keystore_check(const struct keystore *ks)
{
    bool ok = ks->format == FORMAT_VERSION && suite_name(ks->suite) && ks->generation >= 1 &&
              ks->generation <= KEYSTORE_GENERATION_MAX &&
              (!ks->environment[0] || keystore_label_ok(ks->environment)) && slots_ok(ks) && masters_ok(ks) &&
              dirs_ok(ks) && backups_ok(ks);
    return ok ? 0 : LFS_ERR_MISUSE;
}
