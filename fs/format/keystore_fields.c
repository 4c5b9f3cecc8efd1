#include "keystore_fields.h"

#include "latchfs/aead.h"
#include "latchfs/err.h"

#include <string.h>

#define AT(type, member) offsetof(struct type, member), sizeof(((struct type *)0)->member)

static const struct keystore_field volume_fields[] = {
    {"format", F_U32, false, AT(keystore, format)},
    {"id", F_HEX, false, AT(keystore, volume_id)},
    {"root", F_HEX, false, AT(keystore, root_id)},
    {"suite", F_SUITE, false, AT(keystore, suite)},
    {"created", F_U64, false, AT(keystore, created)},
    {"generation", F_U64, false, AT(keystore, generation)},
    {"next-slot", F_U32, false, AT(keystore, next_slot)},
    {"signing-public", F_HEX, false, AT(keystore, signing_public)},
    {"signing-key", F_BLOB, false, AT(keystore, signing_wrapped)},
    {NULL},
};

static const struct keystore_field slot_fields[] = {
    {"type", F_SLOT_TYPE, false, AT(keystore_slot, type)},
    {"label", F_LABEL, true, AT(keystore_slot, label)},
    {"created", F_U64, false, AT(keystore_slot, created)},
    {"passes", F_U32, true, AT(keystore_slot, kdf_ops)},
    {"memory-kib", F_U32, true, AT(keystore_slot, kdf_kib)},
    {"fast", F_YES, true, AT(keystore_slot, fast)},
    {"salt", F_HEX, false, AT(keystore_slot, salt)},
    {"public", F_HEX, false, AT(keystore_slot, public_key)},
    {"sealed", F_BLOB, false, AT(keystore_slot, sealed)},
    {"store-key", F_BLOB, false, AT(keystore_slot, store_key)},
    {NULL},
};

static const struct keystore_field master_fields[] = {
    {"state", F_STATE, false, AT(keystore_master, state)},
    {"created", F_U64, false, AT(keystore_master, created)},
    {"key", F_BLOB, false, AT(keystore_master, wrapped)},
    {NULL},
};

static const struct keystore_field journal_fields[] = {
    {"master", F_U32, false, AT(keystore, journal_master)},
    {"key", F_BLOB, false, AT(keystore, journal_wrapped)},
    {NULL},
};

static const struct keystore_field dir_fields[] = {
    {"created", F_U64, false, AT(keystore_dir, created)},
    {"least", F_U32, false, AT(keystore_dir, least)},
    {"name-version", F_U32, false, AT(keystore_dir, name_version)},
    {"name-key", F_BLOB, false, AT(keystore_dir, name_wrapped)},
    {NULL},
};

static const struct keystore_field key_fields[] = {
    {"state", F_STATE, false, AT(keystore_dirkey, state)},
    {"created", F_U64, false, AT(keystore_dirkey, created)},
    {"master", F_U32, false, AT(keystore_dirkey, master)},
    {"key", F_BLOB, false, AT(keystore_dirkey, wrapped)},
    {NULL},
};

static const struct keystore_field signature_fields[] = {
    {"ed25519", F_BLOB, false, AT(keystore, signature)},
    {NULL},
};

const struct keystore_field *keystore_fields(enum keystore_section s)
{
    static const struct keystore_field *const all[SEC_COUNT] = {
        [SEC_VOLUME] = volume_fields,       [SEC_SLOT] = slot_fields, [SEC_MASTER] = master_fields,
        [SEC_JOURNAL] = journal_fields,     [SEC_DIR] = dir_fields,   [SEC_KEY] = key_fields,
        [SEC_SIGNATURE] = signature_fields,
    };
    return all[s];
}

static bool state_ok(uint8_t state, unsigned *actives)
{
    *actives += state == KEY_ACTIVE;
    return key_state_name(state) != NULL;
}

static bool kdf_ok(const struct keystore_slot *s)
{
    if (s->type != SLOT_PASSPHRASE)
        return s->kdf_ops == 0 && s->kdf_kib == 0 && !s->fast;
    return s->kdf_ops >= KEYSTORE_KDF_OPS_MIN && s->kdf_ops <= KEYSTORE_KDF_OPS_MAX &&
           s->kdf_kib >= KEYSTORE_KDF_KIB_MIN && s->kdf_kib <= KEYSTORE_KDF_KIB_MAX &&
           (uint64_t)s->kdf_ops * s->kdf_kib <= KEYSTORE_KDF_WORK_MAX;
}

static bool slots_ok(const struct keystore *ks)
{
    unsigned last = 0;
    if (ks->slot_count < 1 || ks->slot_count > KEYSTORE_SLOTS_MAX || ks->next_slot > KEYSTORE_SLOT_ID_MAX + 1)
        return false;
    for (uint32_t i = 0; i < ks->slot_count; i++) {
        const struct keystore_slot *s = &ks->slots[i];
        if (s->id <= last || s->id >= ks->next_slot || !keystore_slot_type_name(s->type) || !kdf_ok(s))
            return false;
        if (s->label[0] && !keystore_label_ok(s->label))
            return false;
        last = s->id;
    }
    return true;
}

static bool masters_ok(const struct keystore *ks)
{
    uint32_t last = 0;
    unsigned actives = 0;
    if (ks->master_count < 1 || ks->master_count > KEYSTORE_MASTERS_MAX)
        return false;
    for (uint32_t i = 0; i < ks->master_count; i++) {
        const struct keystore_master *m = &ks->masters[i];
        if (m->version <= last || m->version > KEYSTORE_VERSION_MAX || !state_ok(m->state, &actives))
            return false;
        last = m->version;
    }
    return actives == 1 && keystore_master(ks, ks->journal_master);
}

static bool dir_ok(const struct keystore *ks, const struct keystore_dir *d)
{
    uint32_t last = 0;
    unsigned actives = 0;
    if (d->count < 1 || d->count > KEYSET_VERSIONS_MAX)
        return false;
    for (uint32_t i = 0; i < d->count; i++) {
        const struct keystore_dirkey *k = &d->keys[i];
        if (k->version <= last || k->version > KEYSTORE_VERSION_MAX || !state_ok(k->state, &actives) ||
            !keystore_master(ks, k->master))
            return false;
        last = k->version;
    }
    return actives == 1 && keystore_dirkey(d, d->name_version) && d->least >= 1 &&
           d->least <= keystore_active_dirkey(d)->version;
}

static bool dirs_ok(const struct keystore *ks)
{
    if (ks->dir_count < 1 || ks->dir_count > KEYSTORE_DIRS_MAX || !keystore_dir(ks, NULL))
        return false;
    for (uint32_t i = 0; i < ks->dir_count; i++)
        if (!dir_ok(ks, &ks->dirs[i]) || keystore_dir(ks, ks->dirs[i].id) != &ks->dirs[i])
            return false;
    return true;
}

int keystore_check(const struct keystore *ks)
{
    bool ok = ks->format == FORMAT_VERSION && suite_name(ks->suite) && ks->generation >= 1 &&
              ks->generation <= KEYSTORE_GENERATION_MAX && slots_ok(ks) && masters_ok(ks) && dirs_ok(ks);
    return ok ? 0 : LFS_ERR_MISUSE;
}
