/* The input as a stored name, as a stored value, and as a plaintext name and value, which must come back. */
#include "latchfs/xattr.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t owner_id[ID_BYTES] = {2};
static const struct xattr_owner owner = {KIND_XATTR, SUITE_AES_256_GCM, 3, owner_id};
static struct name_keys keys;
static struct aead *aead;

static void names(const char *text)
{
    char name[XATTR_PLAIN_MAX + 1], stored[256];
    if (xattr_name_decrypt(&keys, owner_id, text, name) == 0)
        abort();
    if (xattr_name_encrypt(&keys, owner_id, text, stored))
        return;
    if (xattr_name_decrypt(&keys, owner_id, stored, name) || strcmp(name, text) != 0)
        abort();
}

static void values(const char *name, const uint8_t *data, size_t size)
{
    uint8_t *sealed = malloc(size + XATTR_OVERHEAD), *back = malloc(size + 1);
    if (!sealed || !back)
        abort();
    int epoch = xattr_value_epoch(data, size);
    if (epoch == 0 || xattr_value_open(aead, &owner, name, data, size, back) == 0)
        abort();
    if (xattr_value_seal(aead, &owner, name, data, size, sealed) == 0) {
        if (xattr_value_open(aead, &owner, name, sealed, size + XATTR_OVERHEAD, back))
            abort();
        if (size && memcmp(back, data, size) != 0)
            abort();
    }
    free(sealed);
    free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t key[LFS_KEY_BYTES] = {1};
    if (!aead && !(aead = aead_new()))
        abort();
    if (aead_set_key(aead, SUITE_AES_256_GCM, key))
        abort();
    name_keys_derive(key, &keys);
    char *text = calloc(1, size + 1);
    if (!text)
        return 0;
    if (size)
        memcpy(text, data, size);
    names(text);
    values(text, data, size);
    free(text);
    return 0;
}
