#include "vault.h"

#include "latchfs/buf.h"
#include "latchfs/err.h"

#include <errno.h>
#include <keyutils.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Possessor only. A key keeps what a lookup and its end need (invalidating takes SEARCH); nothing can change
 * it or its permissions afterwards. */
#define KEY_PERMISSIONS (KEY_POS_VIEW | KEY_POS_READ | KEY_POS_SEARCH)
#define SESSION_PERMISSIONS KEY_POS_ALL

struct vault {
    key_serial_t ring; /* 0: memory serves */
    uint32_t count;
    struct {
        uint32_t version;
        key_serial_t serial;
    } keys[KEYSTORE_MASTERS_MAX];
    struct keystore_keys *memory;
};

static bool session_joined;
static int refusal;

static bool refused(int err)
{
    return err == ENOSYS || err == EPERM || err == EACCES || err == EDQUOT || err == EOPNOTSUPP;
}

void vault_init(void)
{
    key_serial_t session = keyctl_join_session_keyring(NULL);
    session_joined = session > 0 && keyctl_setperm(session, SESSION_PERMISSIONS) == 0;
    if (!session_joined)
        refusal = -errno;
}

int vault_refusal(void)
{
    return refusal;
}

bool vault_in_kernel(const struct vault *v)
{
    return v->ring != 0;
}

static int add_keys(struct vault *v, const char *volume, const struct keystore_keys *keys)
{
    char name[80];
    for (uint32_t i = 0; i < keys->count; i++) {
        snprintf(name, sizeof name, "latchfs:%s:master:%u", volume, keys->masters[i].version);
        key_serial_t key = add_key("user", name, keys->masters[i].key, LFS_KEY_BYTES, v->ring);
        if (key < 0)
            return -errno;
        v->keys[v->count].version = keys->masters[i].version;
        v->keys[v->count++].serial = key;
        if (keyctl_setperm(key, KEY_PERMISSIONS))
            return -errno;
    }
    return 0;
}

static int fill_ring(struct vault *v, const uint8_t volume_id[static ID_BYTES],
                     const struct keystore_keys *keys)
{
    char volume[2 * ID_BYTES + 1], name[64];
    static unsigned serial; /* unlocking again makes a new ring before the old one goes */
    id_to_hex(volume_id, volume);
    snprintf(name, sizeof name, "latchfs:%s:%u", volume, ++serial);
    v->ring = add_key("keyring", name, NULL, 0, KEY_SPEC_SESSION_KEYRING);
    if (v->ring < 0) {
        v->ring = 0;
        return -errno;
    }
    int r = add_keys(v, volume, keys);
    if (!r && (keyctl_restrict_keyring(v->ring, NULL, NULL) || keyctl_setperm(v->ring, KEY_PERMISSIONS)))
        r = -errno;
    return r;
}

static void drop_ring(struct vault *v)
{
    for (uint32_t i = 0; i < v->count; i++)
        keyctl_invalidate(v->keys[i].serial);
    if (v->ring > 0) {
        keyctl_invalidate(v->ring);
        keyctl_unlink(v->ring, KEY_SPEC_SESSION_KEYRING);
    }
    v->ring = 0;
    v->count = 0;
}

int vault_store(const uint8_t volume_id[static ID_BYTES], const struct keystore_keys *keys,
                struct vault **out)
{
    struct vault *v = calloc(1, sizeof *v);
    if (!v)
        return -ENOMEM;
    int r = session_joined ? fill_ring(v, volume_id, keys) : -EPERM;
    if (r)
        drop_ring(v);
    if (r && refused(-r)) {
        if (session_joined)
            refusal = r;
        v->memory = locked_alloc(sizeof *v->memory);
        r = v->memory ? 0 : -ENOMEM;
        if (!r) {
            /* Only the master keys: nothing here needs the others. */
            v->memory->count = keys->count;
            memcpy(v->memory->masters, keys->masters, sizeof keys->masters);
        }
    }
    if (r) {
        free(v);
        return r;
    }
    *out = v;
    return 0;
}

void vault_free(struct vault *v)
{
    if (!v)
        return;
    drop_ring(v);
    keystore_keys_free(v->memory);
    free(v);
}

int vault_lookup(void *vault, uint32_t version, uint8_t key[static LFS_KEY_BYTES])
{
    const struct vault *v = vault;
    if (v->memory)
        return keystore_keys_lookup(v->memory, version, key);
    for (uint32_t i = 0; i < v->count; i++) {
        if (v->keys[i].version != version)
            continue;
        long n = keyctl_read(v->keys[i].serial, (char *)key, LFS_KEY_BYTES);
        return n == LFS_KEY_BYTES ? 0 : LFS_ERR_NOKEY;
    }
    return LFS_ERR_NOKEY;
}
