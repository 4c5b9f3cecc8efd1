/* Whatever decodes must encode to the same bytes, and the steps behind must refuse it in peace. */
#include "latchfs/header.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t key[LFS_KEY_BYTES] = {1};
    uint8_t in[HEADER_BYTES] = {0}, out[HEADER_BYTES], file_key[LFS_KEY_BYTES];
    struct file_header h;
    memcpy(in, data, size < sizeof in ? size : sizeof in);
    if (header_decode(in, &h))
        return 0;
    header_encode(&h, out);
    if (memcmp(in, out, sizeof in) != 0)
        abort();
    int newest = header_newest(&h);
    if (header_place(&h, h.place[newest].epoch) != newest)
        abort();
    if (header_unwrap_key(&h, newest, key, file_key) == 0 || header_check_mac(&h, key) == 0)
        abort();
    return 0;
}
