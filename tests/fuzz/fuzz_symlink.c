/* The input as a backing link's target, and as a plaintext target, which must come back. */
#include "latchfs/symlink.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t dir_id[ID_BYTES] = {2};
static struct name_keys keys;
static struct aead *aead;

static void round_trip(const char *text, enum suite suite)
{
    static char encoded[SYMLINK_ENCODED_MAX + 1], back[SYMLINK_PLAIN_MAX + 1];
    if (symlink_encrypt(aead, suite, &keys, dir_id, text, encoded))
        return;
    if (symlink_plain_len(strlen(encoded)) != (int)strlen(text))
        abort();
    if (symlink_decrypt(aead, suite, &keys, dir_id, encoded, strlen(encoded), back) ||
        strcmp(back, text) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t name_key[LFS_KEY_BYTES] = {1};
    static char target[SYMLINK_PLAIN_MAX + 1];
    enum suite suite = size & 1 ? SUITE_AES_256_GCM : SUITE_CHACHA20_POLY1305;
    if (!aead && !(aead = aead_new()))
        abort();
    name_keys_derive(name_key, &keys);
    char *text = calloc(1, size + 1);
    if (!text)
        return 0;
    if (size)
        memcpy(text, data, size);
    symlink_is_sidecar(text, size);
    if (symlink_decrypt(aead, suite, &keys, dir_id, text, size, target) == 0)
        abort();
    round_trip(text, suite);
    free(text);
    return 0;
}
