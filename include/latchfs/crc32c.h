/* CRC-32C (Castagnoli, RFC 3720 appendix B.4): tells torn journal data from whole. Not a security measure. */
#ifndef LATCHFS_CRC32C_H
#define LATCHFS_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* CRC of data continuing from crc (0 to begin). */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

/* out[i]: the CRC of block i of n neighbours, each of len bytes (a multiple of 8). CRC32C_LANES blocks side
 * by side take little longer than one: an instruction waits for the one before it in its own block only. */
#define CRC32C_LANES 3u
void crc32c_blocks(const uint8_t *data, size_t len, size_t n, uint32_t *out);

#endif
