/* The input as what a ciphertext directory holds, and as a plaintext name, which must come back. */
#include "latchfs/name.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t dir_id[ID_BYTES] = {2};
static struct name_keys keys;

static void as_stored(const char *text, size_t size)
{
    char plain[NAME_PLAIN_MAX + 1], again[NAME_ENCODED_MAX + 1];
    uint8_t raw[NAME_ENCODED_MAX];
    size_t n;
    name_stored_kind(text);
    if (size <= NAME_ENCODED_MAX && b64_decode(text, size, raw, &n) == 0) {
        if (b64_encode(raw, n, again) != size || memcmp(again, text, size) != 0)
            abort();
    }
    if (name_decrypt(&keys, dir_id, text, size, plain) == 0)
        abort();
}

static void as_plain(const char *text)
{
    struct cipher_name c;
    char back[NAME_PLAIN_MAX + 1];
    if (name_encrypt(&keys, dir_id, text, &c))
        return;
    if (name_decrypt(&keys, dir_id, c.encoded, strlen(c.encoded), back) || strcmp(back, text) != 0)
        abort();
    if (name_stored_kind(c.stored) != (c.is_long ? STORED_LONG : STORED_NAME))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t name_key[LFS_KEY_BYTES] = {1};
    name_keys_derive(name_key, &keys);
    char *text = calloc(1, size + 1);
    if (!text)
        return 0;
    if (size)
        memcpy(text, data, size);
    as_stored(text, size);
    as_plain(text);
    free(text);
    return 0;
}
