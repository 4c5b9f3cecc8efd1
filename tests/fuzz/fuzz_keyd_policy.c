/* keyd.ini: read whole, or refused with a reason and nothing read. */
#include "policy.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct policy p, before;
    char why[POLICY_WHY_MAX];
    policy_defaults(&p);
    policy_defaults(&before);
    /* A refused file changes nothing: byte for byte, padding too. */
    const void *now = &p, *then = &before;
    if (policy_parse((const char *)data, size, &p, why) && (!why[0] || memcmp(now, then, sizeof p) != 0))
        abort();
    return 0;
}
