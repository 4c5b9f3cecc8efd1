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
    for (uint32_t i = 0; i < ks->slot_count; i++)
        free(ks->slots[i].blob);
    for (uint32_t i = 0; i < ks->backup_count; i++)
        free(ks->backups[i].needs);
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

struct keystore_need *keystore_add_need(struct keystore *ks, struct keystore_backup *b)
{
    uint32_t all = 0;
    for (uint32_t i = 0; i < ks->backup_count; i++)
        all += ks->backups[i].need_count;
    if (all >= KEYSTORE_NEEDS_MAX)
        return NULL;
    struct keystore_need *grown = realloc(b->needs, (b->need_count + 1) * sizeof *grown);
    if (!grown)
        return NULL;
    b->needs = grown;
    return memset(&grown[b->need_count++], 0, sizeof *grown);
}

void keystore_drop_slot(struct keystore *ks, unsigned id)
{
    const struct keystore_slot *s = keystore_slot(ks, id);
    if (!s)
        return;
    uint32_t at = (uint32_t)(s - ks->slots);
    free(s->blob);
    ks->slot_count--;
    memmove(&ks->slots[at], &ks->slots[at + 1], (ks->slot_count - at) * sizeof ks->slots[0]);
}

void keystore_drop_backup(struct keystore *ks, uint32_t id)
{
    const struct keystore_backup *b = keystore_backup(ks, id);
    if (!b)
        return;
    uint32_t at = (uint32_t)(b - ks->backups);
    free(b->needs);
    ks->backup_count--;
    memmove(&ks->backups[at], &ks->backups[at + 1], (ks->backup_count - at) * sizeof ks->backups[0]);
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

const struct keystore_backup *keystore_backup(const struct keystore *ks, uint32_t id)
{
    for (uint32_t i = 0; i < ks->backup_count; i++)
        if (ks->backups[i].id == id)
            return &ks->backups[i];
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
    static const char *const names[] = {[SLOT_PASSPHRASE] = "passphrase",
                                        [SLOT_KEYFILE] = "keyfile",
                                        [SLOT_RECOVERY] = "recovery",
                                        [SLOT_RECIPIENT] = "recipient",
                                        [SLOT_COMMAND] = "command"};
    return type < sizeof names / sizeof *names ? names[type] : NULL;
}

const char *key_state_name(unsigned state)
{
    static const char *const names[] = {[KEY_PENDING] = "pending",
                                        [KEY_ACTIVE] = "active",
                                        [KEY_DECRYPT_ONLY] = "decrypt-only",
                                        [KEY_RETIRED] = "retired",
                                        [KEY_DESTROYED] = "destroyed"};
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

bool keystore_command_ok(const char *name)
{
    size_t len = strnlen(name, KEYSTORE_COMMAND_MAX + 1);
    if (len < 1 || len > KEYSTORE_COMMAND_MAX || name[0] < 'a' || name[0] > 'z')
        return false;
    return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
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
