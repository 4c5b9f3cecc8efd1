#include "latchfs/crc32c.h"

#include <string.h>

#define POLY 0x82f63b78u /* reflected 0x1edc6f41 */

static uint32_t by_table(uint32_t crc, const uint8_t *p, size_t len)
{
    static uint32_t table[256];
    static int ready;
    if (!__atomic_load_n(&ready, __ATOMIC_ACQUIRE)) {
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t c = i;
            for (int k = 0; k < 8; k++)
                c = (c & 1) ? (c >> 1) ^ POLY : c >> 1;
            __atomic_store_n(&table[i], c, __ATOMIC_RELAXED);
        }
        __atomic_store_n(&ready, 1, __ATOMIC_RELEASE);
    }
    while (len--)
        crc = table[(crc ^ *p++) & 0xff] ^ (crc >> 8);
    return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t by_sse42(uint32_t crc, const uint8_t *p, size_t len)
{
    uint64_t c = crc;
    for (; len >= 8; p += 8, len -= 8) {
        uint64_t v;
        memcpy(&v, p, 8);
        c = __builtin_ia32_crc32di(c, v);
    }
    uint32_t r = (uint32_t)c;
    while (len--)
        r = __builtin_ia32_crc32qi(r, *p++);
    return r;
}

__attribute__((target("sse4.2"))) static void lanes_by_sse42(const uint8_t *p, size_t len,
                                                             uint32_t out[static CRC32C_LANES])
{
    uint64_t a = ~0u, b = ~0u, c = ~0u, v;
    for (const uint8_t *end = p + len; p < end; p += 8) {
        memcpy(&v, p, 8);
        a = __builtin_ia32_crc32di(a, v);
        memcpy(&v, p + len, 8);
        b = __builtin_ia32_crc32di(b, v);
        memcpy(&v, p + 2 * len, 8);
        c = __builtin_ia32_crc32di(c, v);
    }
    out[0] = ~(uint32_t)a;
    out[1] = ~(uint32_t)b;
    out[2] = ~(uint32_t)c;
}
#endif

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
    crc = ~crc;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2"))
        return ~by_sse42(crc, data, len);
#endif
    return ~by_table(crc, data, len);
}

void crc32c_blocks(const uint8_t *data, size_t len, size_t n, uint32_t *out)
{
#if defined(__x86_64__)
    for (; n >= CRC32C_LANES && __builtin_cpu_supports("sse4.2"); n -= CRC32C_LANES, out += CRC32C_LANES) {
        lanes_by_sse42(data, len, out);
        data += CRC32C_LANES * len;
    }
#endif
    for (; n; n--, data += len)
        *out++ = crc32c(0, data, len);
}
