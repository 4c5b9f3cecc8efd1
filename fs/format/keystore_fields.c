#include "keystore_fields.h"

#include <stddef.h>

#define AT(type, member) offsetof(struct type, member), sizeof(((struct type *)0)->member)

static const struct keystore_field volume_fields[] = {
    {"format", F_U32, false, AT(keystore, format)},
    {"id", F_HEX, false, AT(keystore, volume_id)},
    {"root", F_HEX, false, AT(keystore, root_id)},
    {"suite", F_SUITE, false, AT(keystore, suite)},
    {"environment", F_LABEL, true, AT(keystore, environment)},
    {"created", F_U64, false, AT(keystore, created)},
    {"generation", F_U64, false, AT(keystore, generation)},
    {"next-slot", F_U32, false, AT(keystore, next_slot)},
    {"next-backup", F_U32, true, AT(keystore, next_backup)},
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
    {"command", F_COMMAND, true, AT(keystore_slot, command)},
    {"salt", F_HEX, true, AT(keystore_slot, salt)},
    {"public", F_HEX, false, AT(keystore_slot, public_key)},
    {"sealed", F_BLOB, true, AT(keystore_slot, sealed)},
    {"blob", F_SLOT_BLOB, true, 0, 0},
    {"store-key", F_BLOB, false, AT(keystore_slot, store_key)},
    {NULL},
};

static const struct keystore_field master_fields[] = {
    {"state", F_STATE, false, AT(keystore_master, state)},
    {"created", F_U64, false, AT(keystore_master, created)},
    {"key", F_BLOB, true, AT(keystore_master, wrapped)},
    {NULL},
};

static const struct keystore_field journal_fields[] = {
    {"master", F_U32, false, AT(keystore, journal_master)},
    {"key", F_BLOB, false, AT(keystore, journal_wrapped)},
    {NULL},
};

static const struct keystore_field dir_fields[] = {
    {"created", F_U64, false, AT(keystore_dir, created)},
    {"shredded", F_YES, true, AT(keystore_dir, shredded)},
    {"held", F_YES, true, AT(keystore_dir, held)},
    {"least", F_U32, true, AT(keystore_dir, least)},
    {"data-version", F_U32, true, AT(keystore_dir, data_version)},
    {"name-version", F_U32, true, AT(keystore_dir, name_version)},
    {"name-key", F_BLOB, true, AT(keystore_dir, name_wrapped)},
    {"name", F_BLOB, true, AT(keystore_dir, label_wrapped)},
    {NULL},
};

static const struct keystore_field key_fields[] = {
    {"state", F_STATE, false, AT(keystore_dirkey, state)},
    {"created", F_U64, false, AT(keystore_dirkey, created)},
    {"master", F_U32, true, AT(keystore_dirkey, master)},
    {"key", F_BLOB, true, AT(keystore_dirkey, wrapped)},
    {NULL},
};

static const struct keystore_field backup_fields[] = {
    {"label", F_LABEL, true, AT(keystore_backup, label)},
    {"created", F_U64, false, AT(keystore_backup, created)},
    {"master-least", F_U32, false, AT(keystore_backup, master_least)},
    {"master-most", F_U32, false, AT(keystore_backup, master_most)},
    {NULL},
};

static const struct keystore_field need_fields[] = {
    {"least", F_U32, false, AT(keystore_need, least)},
    {"most", F_U32, false, AT(keystore_need, most)},
    {NULL},
};

static const struct keystore_field signature_fields[] = {
    {"ed25519", F_BLOB, false, AT(keystore, signature)},
    {NULL},
};

const struct keystore_field *keystore_fields(enum keystore_section s)
{
    static const struct keystore_field *const all[SEC_COUNT] = {
        [SEC_VOLUME] = volume_fields,   [SEC_SLOT] = slot_fields, [SEC_MASTER] = master_fields,
        [SEC_JOURNAL] = journal_fields, [SEC_DIR] = dir_fields,   [SEC_KEY] = key_fields,
        [SEC_BACKUP] = backup_fields,   [SEC_NEED] = need_fields, [SEC_SIGNATURE] = signature_fields,
    };
    return all[s];
}
