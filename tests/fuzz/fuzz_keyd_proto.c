/* A message of latch-keyd: type u16, then its body. Whatever is taken is within the limits, and encodes to
 * the same bytes. The input also comes as a packet. */
#include "proto.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void as_message(const uint8_t *data, size_t size)
{
    struct proto_msg m = {0};
    struct proto_body again = {0};
    if (size < 2 || proto_decode((uint16_t)(data[0] | data[1] << 8), 1, data + 2, size - 2, &m))
        return;
    if (proto_encode(&m, &again) || again.len != size - 2 || memcmp(again.p, data + 2, again.len) != 0)
        abort();
    proto_msg_clear(&m);
    proto_body_clear(&again);
}

static void as_packet(const uint8_t *data, size_t size)
{
    struct proto_in in = {0};
    if (proto_in_packet(&in, data, size) == 1 && in.body.len != size - PROTO_HEADER_BYTES)
        abort();
    proto_in_clear(&in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (sodium_init() < 0)
        abort();
    as_message(data, size);
    as_packet(data, size);
    return 0;
}
