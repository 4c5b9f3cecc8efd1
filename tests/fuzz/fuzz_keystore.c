/* latchfs.ini: whatever is taken encodes to the same bytes. */
#include "latchfs/keystore.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct keystore *ks;
    char *text;
    size_t len;
    unsigned line;
    if (keystore_parse((const char *)data, size, &ks, &line))
        return 0;
    if (keystore_encode(ks, &text, &len) || len > size || memcmp(text, data, len) != 0)
        abort();
    keystore_signed_by((const char *)data, size, ks->signing_public);
    free(text);
    keystore_free(ks);
    return 0;
}
