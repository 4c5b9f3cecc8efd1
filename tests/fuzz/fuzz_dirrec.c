/* A record that parses and is encoded again differs at most in the MAC, which must not have fitted before. */
#include "latchfs/dirrec.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct name_keys keys = {.dirrec = {1}};
    uint8_t in[DIRREC_BYTES] = {0}, out[DIRREC_BYTES];
    struct dirrec d;
    memcpy(in, data, size < sizeof in ? size : sizeof in);
    if (dirrec_parse(in, &d))
        return 0;
    if (dirrec_check(in, &keys) == 0)
        abort();
    dirrec_encode(&d, &keys, out);
    if (memcmp(in, out, DIRREC_BYTES - 32) != 0 || dirrec_check(out, &keys) != 0)
        abort();
    return 0;
}
