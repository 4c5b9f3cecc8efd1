#include "latchfs/keystore.h"

#include "latchfs/buf.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

struct keystore *keystore_new(void)
{
    return calloc(1, sizeof(struct keystore));
}

void keystore_free(struct keystore *ks)
{
    if (!ks)
        return;
    free(ks->dirs);
    free(ks);
}

void keystore_freep(struct keystore **ks)
{
    keystore_free(*ks);
    *ks = NULL;
}

struct keystore_dir *keystore_add_dir(struct keystore *ks)
{
    if (ks->dir_count >= KEYSTORE_DIRS_MAX)
        return NULL;
    struct keystore_dir *grown = realloc(ks->dirs, (ks->dir_count + 1) * sizeof *grown);
    if (!grown)
        return NULL;
    ks->dirs = grown;
    return memset(&grown[ks->dir_count++], 0, sizeof *grown);
}

const struct keystore_slot *keystore_slot(const struct keystore *ks, unsigned id)
{
    for (uint32_t i = 0; i < ks->slot_count; i++)
        if (ks->slots[i].id == id)
            return &ks->slots[i];
    return NULL;
}

const struct keystore_master *keystore_master(const struct keystore *ks, uint32_t version)
{
    for (uint32_t i = 0; i < ks->master_count; i++)
        if (ks->masters[i].version == version)
            return &ks->masters[i];
    return NULL;
}

const struct keystore_master *keystore_active_master(const struct keystore *ks)
{
    for (uint32_t i = 0; i < ks->master_count; i++)
        if (ks->masters[i].state == KEY_ACTIVE)
            return &ks->masters[i];
    return NULL;
}

const struct keystore_dir *keystore_dir(const struct keystore *ks, const uint8_t *id)
{
    if (!id)
        id = ks->root_id;
    for (uint32_t i = 0; i < ks->dir_count; i++)
        if (memcmp(ks->dirs[i].id, id, ID_BYTES) == 0)
            return &ks->dirs[i];
    return NULL;
}

const struct keystore_dirkey *keystore_dirkey(const struct keystore_dir *d, uint32_t version)
{
    for (uint32_t i = 0; i < d->count; i++)
        if (d->keys[i].version == version)
            return &d->keys[i];
    return NULL;
}

const struct keystore_dirkey *keystore_active_dirkey(const struct keystore_dir *d)
{
    for (uint32_t i = 0; i < d->count; i++)
        if (d->keys[i].state == KEY_ACTIVE)
            return &d->keys[i];
    return NULL;
}

const char *keystore_slot_type_name(unsigned type)
{
    static const char *const names[] = {
        [SLOT_PASSPHRASE] = "passphrase", [SLOT_KEYFILE] = "keyfile", [SLOT_RECOVERY] = "recovery"};
    return type < sizeof names / sizeof *names ? names[type] : NULL;
}

const char *key_state_name(unsigned state)
{
    static const char *const names[] = {[KEY_PENDING] = "pending",
                                        [KEY_ACTIVE] = "active",
                                        [KEY_DECRYPT_ONLY] = "decrypt-only",
                                        [KEY_RETIRED] = "retired"};
    return state < sizeof names / sizeof *names ? names[state] : NULL;
}

bool keystore_label_ok(const char *label)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 ._@+-";
    size_t len = strnlen(label, KEYSTORE_LABEL_MAX + 1);
    if (len < 1 || len > KEYSTORE_LABEL_MAX || label[0] == ' ' || label[len - 1] == ' ')
        return false;
    return strspn(label, allowed) == len;
}

void id_to_hex(const uint8_t id[static ID_BYTES], char hex[static 2 * ID_BYTES + 1])
{
    sodium_bin2hex(hex, 2 * ID_BYTES + 1, id, ID_BYTES);
}

bool id_from_hex(const char *hex, uint8_t id[static ID_BYTES])
{
    uint8_t got[ID_BYTES];
    if (strnlen(hex, 2 * ID_BYTES + 1) != 2 * ID_BYTES || strspn(hex, "0123456789abcdef") != 2 * ID_BYTES)
        return false;
    if (sodium_hex2bin(got, sizeof got, hex, 2 * ID_BYTES, NULL, NULL, NULL))
        return false;
    memcpy(id, got, ID_BYTES);
    return true;
}
